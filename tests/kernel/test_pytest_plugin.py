"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from corelock import InvalidArgument, NoSuchTarget, Tracer, limits
from corelock.limits import LimitExceeded, LockLimit, NotMeasured
from tests.workloads import Workload

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.kernel

#: ``protect`` makes an even number of write holds by mprotect, and leaves nothing behind.
HEAD = """
import ctypes, mmap, os, subprocess, sys, threading
import pytest

libc = ctypes.CDLL(None)
region = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(region))

def protect(times=6):
    for i in range(times):
        protection = 3 - i % 2 * 2
        assert not libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(1 << 20), protection)
"""
NEVER = "max_hold_ms=0, operation='mprotect'"
ENOUGH = "max_hold_ms=60_000, max_wait_ms=60_000"


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=HEAD + source)
    return pytester.runpytest_subprocess("-p", "no:randomly", *arguments)


def test_a_test_that_keeps_to_its_limit_passes(pytester: pytest.Pytester) -> None:
    source = f"""
@pytest.mark.mmap_lock({ENOUGH})
def test_marked():
    protect()

def test_part(mmap_lock_limit):
    protect()
    with mmap_lock_limit({ENOUGH}):
        protect()
"""
    run(pytester, source, "--strict-markers").assert_outcomes(passed=2)


def test_a_hold_that_is_too_long_fails_the_test_and_is_shown(pytester: pytest.Pytester) -> None:
    source = f"""
@pytest.mark.mmap_lock({NEVER})
def test_marked():
    protect()
    print("tid", threading.get_native_id())
"""
    result = run(pytester, source)
    result.assert_outcomes(failed=1)
    out = result.stdout.str()
    tid = re.search(r"^tid (\d+)$", out, re.M)
    assert tid
    assert re.search(r"^a hold of mmap_lock took \S+, more than 0n \(6 such holds\)$", out, re.M)
    assert re.search(
        rf"^hold \S+  write  mprotect  \S+\[{tid[1]}\]  at \+\d\.\d+s\n(    .+\n)*"
        r"    __x64_sys_mprotect\+.*\n(    .+\n)*    mprotect\+.*\(libc\.so\.6\)\n(    .+\n)*"
        r"\nevents [\d,]+ = paired ", out, re.M,
    ), out  # fmt: skip
    # Nothing of how it was found out.
    assert "pytest_plugin" not in out
    assert "Traceback" not in out


def test_of_a_part_the_failure_shows_the_line(pytester: pytest.Pytester) -> None:
    source = f"""
def test_part(mmap_lock_limit):
    protect()
    with mmap_lock_limit({NEVER}):
        protect(2)
"""
    result = run(pytester, source)
    result.assert_outcomes(failed=1)
    out = result.stdout.str()
    assert re.search(r"^>\s+with mmap_lock_limit", out, re.M)
    assert re.search(r"^E .*LimitExceeded: a hold of .* \(2 such holds\)$", out, re.M)
    assert "limits.py" not in out


def test_what_fixtures_and_other_tests_do_is_not_the_tests(pytester: pytest.Pytester) -> None:
    source = f"""
@pytest.fixture()
def before_and_after():
    protect()
    yield
    protect()

def test_before():
    protect()

@pytest.mark.mmap_lock({NEVER})
def test_marked(before_and_after):
    pass

def test_after():
    protect()
"""
    run(pytester, source).assert_outcomes(passed=3)


def test_waits_have_a_limit_of_their_own(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.mmap_lock(max_wait_ms=0, operation=["mprotect", "munmap"])
def test_marked():
    protect()
"""
    result = run(pytester, source)
    result.assert_outcomes(failed=1)
    assert "a wait for mmap_lock took " in result.stdout.str()
    assert "(6 such waits)" in result.stdout.str()


def test_another_process_and_children(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.mmap_lock(max_hold_ms=0, operation="exit", follow=True)
def test_children():
    subprocess.run([sys.executable, "-c", ""])

@pytest.mark.mmap_lock(max_hold_ms=0, operation="exit")
def test_no_children():
    subprocess.run([sys.executable, "-c", ""])

def test_another(mmap_lock_limit):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        with mmap_lock_limit(max_hold_ms=0, operation="exit", pid=cat.pid):
            cat.stdin.close()
            cat.wait()
"""
    result = run(pytester, source)
    result.assert_outcomes(passed=1, failed=2)
    assert "FAILED test_it.py::test_children" in result.stdout.str()
    assert "FAILED test_it.py::test_another" in result.stdout.str()


def test_a_test_that_fails_itself_says_so_and_no_more(pytester: pytest.Pytester) -> None:
    source = f"""
@pytest.mark.mmap_lock({NEVER})
def test_fails():
    protect()
    assert region is None

@pytest.mark.mmap_lock({NEVER})
def test_skips():
    protect()
    pytest.skip("not today")
"""
    result = run(pytester, source)
    result.assert_outcomes(failed=1, skipped=1)
    assert "such holds" not in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no limit is given"),
        ("max_hold_ms=-1", "max_hold_ms is out of range: -1"),
        ("max_hold_ms=5, operation='mprotekt'", "no operation is called 'mprotekt'"),
        ("max_hold=5", "unexpected keyword argument 'max_hold'"),
    ],
)
def test_a_wrong_marker_is_an_error(
    pytester: pytest.Pytester, arguments: str, message: str
) -> None:
    result = run(pytester, f"@pytest.mark.mmap_lock({arguments})\ndef test_it(): pass\n")
    result.assert_outcomes(errors=1)
    assert "marker mmap_lock: " in result.stdout.str()
    assert message in result.stdout.str()
    assert "During handling" not in result.stdout.str()


UNPRIVILEGED = ("setpriv", "--bounding-set=-bpf,-sys_admin")
BOTH = f"""
@pytest.mark.mmap_lock({ENOUGH})
def test_marked():
    pass

def test_part(mmap_lock_limit):
    pass

def test_else():
    pass
"""


def test_without_privilege_it_is_an_error_that_says_what_is_missing(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(HEAD + BOTH)
    result = pytester.run(*UNPRIVILEGED, sys.executable, "-m", "pytest")
    result.assert_outcomes(errors=2, passed=1)
    out = result.stdout.str()
    assert "mmap_lock cannot be traced: " in out
    assert "CAP_BPF" in out
    assert "--mmap-lock-unavailable=skip" in out


def test_without_privilege_it_is_skipped_if_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + BOTH)
    skip = ("--mmap-lock-unavailable=skip", "-rs")
    result = pytester.run(*UNPRIVILEGED, sys.executable, "-m", "pytest", *skip)
    result.assert_outcomes(skipped=2, passed=1)
    assert "mmap_lock cannot be traced: " in result.stdout.str()


def test_worker_processes_trace_themselves(pytester: pytest.Pytester) -> None:
    source = f"""
@pytest.mark.mmap_lock({NEVER})
@pytest.mark.parametrize("way", ["quiet", "loud"] * 3)
def test_both(way):
    print("pid", os.getpid())
    if way == "loud":
        protect()
"""
    result = run(pytester, source, "-n2", "--dist=each")
    result.assert_outcomes(failed=6, passed=6)
    out = result.stdout.str()
    pids = set(re.findall(r"^pid (\d+)$", out, re.M))
    assert len(pids) == 2
    # The thread that runs tests is the main thread of its worker.
    assert set(re.findall(r"  mprotect  \S+\[(\d+)\]", out)) == pids
    # Where CI is set, pytest's summary says it all once more.
    assert len(re.findall(r"^a hold of mmap_lock .* \(6 such holds\)$", out, re.M)) == 6


def test_who_has_no_limits_pays_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_it(request):
    assert request.config.pluginmanager.has_plugin("corelock")
    ours = {name for name in sys.modules if name.split(".")[0] == "corelock"}
    assert ours == {"corelock", "corelock.version", "corelock.pytest_plugin"}
    assert not {"cffi", "_cffi_backend", "click", "rich", "numpy"} & set(sys.modules)
"""
    )
    # Its own plugin has the cffi of nobody; hypothesis's may.
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_help_tells_of_it(pytester: pytest.Pytester) -> None:
    assert "--mmap-lock-unavailable" in pytester.runpytest_subprocess("--help").stdout.str()
    assert "@pytest.mark.mmap_lock(" in pytester.runpytest_subprocess("--markers").stdout.str()
    assert "mmap_lock_limit" in pytester.runpytest_subprocess("--fixtures").stdout.str()


# --- without pytest -----------------------------------------------------------------------------


@pytest.fixture()
def storm() -> Iterator[Workload]:
    with Workload("storm", "2", "300") as storm:
        yield storm


def test_what_was_lost_may_have_been_too_long(
    storm: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one thread and operation, the others' events are lost."""
    monkeypatch.setattr(limits, "Tracer", partial(Tracer, max_rows=1))
    with pytest.raises(NotMeasured, match="map_full"):
        with LockLimit(max_hold_ms=60_000, pid=storm.pid):
            storm.run()


def test_a_limit_is_kept_watch_on_when_stacks_are_lost(
    storm: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "Tracer", partial(Tracer, ring_bytes=1 << 16))
    with pytest.raises(LimitExceeded, match=r"\(at least \d+ such holds\)") as raised:
        with LockLimit(max_hold_ms=0, pid=storm.pid):
            storm.run()
    assert "slow records lost: ring_full" in str(raised.value)


def test_the_tools_own_work_is_not_measured() -> None:
    """What it does in its own process comes before counting and after it."""
    code = """
from corelock.limits import LockLimit
for _ in range(10):
    with LockLimit(max_hold_ms=0, max_wait_ms=0):
        pass
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_both_limits_are_told_of(storm: Workload) -> None:
    with pytest.raises(LimitExceeded, match="a hold of (?s:.)*a wait for") as raised:
        with LockLimit(max_hold_ms=0, max_wait_ms=0, pid=storm.pid):
            storm.run()
    assert max(map(len, str(raised.value).splitlines())) <= 76


@pytest.mark.parametrize("ms", [-0.001, float("nan"), float("inf"), "5", True, None])
def test_impossible_limits(ms: object) -> None:
    with pytest.raises(InvalidArgument):
        LockLimit(max_hold_ms=ms)  # type: ignore[arg-type]


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(NoSuchTarget):
        with LockLimit(max_hold_ms=1, pid=(1 << 22) - 1):
            pass
