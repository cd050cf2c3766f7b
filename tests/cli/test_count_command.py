"""``corelock count`` as users run it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Corelock, run
from tests.cli.hosts import LEAST, as_user
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

KNOWN = BUILD / "known_calls"
FUNCTION = f"{KNOWN}:known_function"

Background = Callable[..., Corelock]


def test_a_table(corelock_background: Background) -> None:
    with Workload("known_calls", "100", "3") as workload:
        counting = corelock_background("count", "-p", workload.pid, FUNCTION, f"u:{KNOWN}:*")
        workload.run()
        counting.interrupt()
        result = counting.finish()
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "FUNC                                    COUNT",
        "known_calls:known_calls:place             300",
        "known_calls:known_calls:turn              300",
        "known_calls:known_function                300",
    ]
    expected = f"Tracing 3 probes in known_calls[{workload.pid}]. Ctrl-C to end.\n"
    assert result.err == expected


def test_zeros_are_left_out() -> None:
    with Workload("known_calls", "1", "1"):
        result = run("count", "-d", "0.1", FUNCTION)
    assert (result.code, result.out) == (0, "FUNC                                    COUNT\n")


def test_the_order(corelock_background: Background) -> None:
    """The most at the end, where one looks; -S: first."""
    patterns = ("t:syscalls:sys_enter_lseek", "t:sched:sched_process_exit")
    found = []
    for options in ((), ("-S",)):
        with Workload("known_calls", "50", "2") as workload:
            counting = corelock_background("count", *options, "-p", workload.pid, *patterns)
            workload.run()
            workload.finish()
            lines = counting.finish().out.splitlines()[1:]
        found.append([tuple(line.split()) for line in lines])
    least_first = [("sched:sched_process_exit", "3"), ("syscalls:sys_enter_lseek", "100")]
    assert found == [least_first, least_first[::-1]]


def test_intervals_with_the_time(corelock_background: Background) -> None:
    with Workload("known_calls", "100", "1") as workload:
        arguments = ("count", "-T", "-i", "0.3", "-p", workload.pid, FUNCTION)
        with Corelock(*arguments) as counting:
            counting.wait_attached()
            workload.run()
            text = ""
            while text.count("COUNT") < 3:
                text += counting.line()
            counting.interrupt()
            result = counting.finish()
    assert re.match(r"\d\d:\d\d:\d\d\nFUNC +COUNT\n", result.out)
    assert sum(map(int, re.findall(r"known_function +(\d+)$", result.out, re.M))) == 100


def test_json(corelock_background: Background) -> None:
    with Workload("known_calls", "100", "2") as workload:
        counting = corelock_background(
            "count", "--json", "-i", "0.2", "-p", workload.pid, FUNCTION, "t:sched:sched_switch"
        )
        workload.run()
        counting.line()
        counting.line()
        counting.process.send_signal(signal.SIGTERM)
        result = counting.finish()
    assert result.code == 0, result.err
    *intervals, whole = result.json_lines
    assert {each["schema"] for each in [*intervals, whole]} == {"corelock.count/1"}
    assert whole["target"] == {"pid": workload.pid, "comm": "known_calls"}
    names = {each["name"]: each["count"] for each in whole["counts"]}
    assert names["known_calls:known_function"] == 200
    for name, count in names.items():
        parts = [e["count"] for one in intervals for e in one["counts"] if e["name"] == name]
        assert sum(parts) == count
    assert sum(one["duration_ns"] for one in intervals) == whole["duration_ns"]
    assert whole["start_ns"] == intervals[0]["start_ns"]
    assert sum(whole["probes"]["attached"].values()) == 2


def test_the_targets_exit_ends_it(corelock_background: Background) -> None:
    with Workload("known_calls", "10", "1") as workload:
        counting = corelock_background("count", "-p", workload.pid, FUNCTION)
        workload.run()
        workload.finish()
        result = counting.finish()
    assert result.code == 0
    assert result.out.splitlines()[1].split() == ["known_calls:known_function", "10"]


def test_dry_run_attaches_nothing() -> None:
    """So it takes no rights."""
    program = f"/mnt/{KNOWN.relative_to(BUILD.parent.parent)}"
    result = as_user("-all", "count", "--dry-run", f"{program}:known_*", f"u:{program}:*")
    assert result.code == 0, result.err
    expected = ["known_calls:known_calls:place", "known_calls:known_calls:turn"]
    assert sorted(result.out.splitlines()) == [*expected, "known_calls:known_function"]


def test_a_dry_run_fails_as_the_real_one_would() -> None:
    for arguments in (["--dry-run"], []):
        result = run("count", *arguments, "do_syscall_64")
        result.assert_refused("do_syscall_64 cannot be probed: noinstr")
    verbose = run("count", "-v", "asm_exc_*")
    assert verbose.code == 1
    assert "asm_exc_page_fault" in verbose.err


def test_what_is_said_of_threads_and_kernel_threads() -> None:
    with Workload("known_calls", "1", "1") as workload:
        (tid,) = set(workload.tids) - {workload.pid}
        result = run("count", "-p", tid, "t:sched:sched_switch")
    result.assert_refused(f"Use --pid {workload.pid} for the process.", code=2)
    assert "--tid" not in result.err
    assert "--all" not in run("count", "-p", "2", "t:sched:sched_switch").err


def test_counts_are_printed_before_it_detaches() -> None:
    """That may take half a minute, in which a second Ctrl-C must not cost them."""
    with Corelock("count", "t:syscalls:sys_enter_[mp]*") as counting:
        counting.wait_attached()
        counting.interrupt()
        assert counting.line() == "FUNC                                    COUNT\n"
        while not counting.line("err").startswith("corelock: detaching from"):
            pass
        # It still is: nobody waits for it.


def test_verbose_says_how() -> None:
    result = run("count", "-v", "-d", "0.1", "t:sched:sched_switch", "t:syscalls:sys_enter_lseek")
    assert result.code == 0
    ways = "1 by raw tracepoint, 1 by tracepoint"
    assert re.search(rf"^corelock: attached to {ways}, in \S+$", result.err, re.M)


@pytest.mark.parametrize(
    ("command", "beside"),
    [("count", []), ("count", ["t:sched:sched_switch"]), ("trace", []), ("hist", [])],
)
def test_verbose_says_what_was_tried(command: str, beside: list[str]) -> None:
    """Where perf is forbidden; of tracepoints, raw ones are had without."""
    event = "syscalls:sys_exit_getppid"
    field = ":ret" if command == "hist" else ""
    forbidden = (sys.executable, str(Path(__file__).with_name("seccomp.py")), "perf_event_open")
    words = (command, f"t:{event}{field}", *beside, "-d", "0.1")
    result = run(*words, "-v", prefix=forbidden)
    assert (result.code, result.out) == (1, "")
    assert f"\ntried tracepoint (Operation not permitted): {event}\n" in "\n" + result.err
    quiet = run(*words, prefix=forbidden)
    assert quiet.code == 1
    assert "tried" not in quiet.err


def test_a_pipe_that_closes() -> None:
    script = f"{Corelock('count').command[0]} count -i 0.1 t:sched:sched_switch 2>&1 | head -2"
    done = subprocess.run(
        ["bash", "-c", f"{script}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["t:sched:sched_swich"], ["no tracepoint matches sched:sched_swich", "sched_switch"], 1),
        (["t:nothing_like_it:x"], ["no tracepoint matches"], 1),
        ([f"{KNOWN}:known_functoin"], ["known_functoin", "known_function"], 1),
        (["/no/such/file:f"], ["/no/such/file"], 1),
        (["/etc/passwd:f"], ["/etc/passwd"], 1),
        (["no_such_library:f"], ["no_such_library"], 1),
        (["sched:sched_switch"], ["Did you mean t:sched:sched_switch?"], 1),
        ([f"u:{KNOWN}:trun"], ["trun", "turn"], 1),
        (["no_such_function_in_here"], ["no function of the kernel"], 1),
        (["-r", "vfs_("], ["vfs_(", "regular expression"], 2),
        ([""], ["it is empty"], 2),
        (["t:sched"], ["a tracepoint is a category and an event"], 2),
        (["--max-probes", "3", "t:sched:*"], ["more than 3", "--max-probes"], 2),
        (["-c", "4096", "t:sched:*"], ["no CPU 4096"], 2),
        (["-p", "4194305", "t:sched:*"], ["4194305"], 1),
    ],
)
def test_bad_input(arguments: list[str], words: list[str], code: int) -> None:
    run("count", *arguments).assert_refused(*words, code=code)


def test_no_pattern_and_options_that_do_not_fit() -> None:
    for arguments in ([], ["-i", "2", "-d", "1", "t:sched:*"], ["-T", "--json", "t:sched:*"]):
        result = run("count", *arguments)
        assert (result.code, result.out) == (2, ""), result.err
        assert "Usage: corelock count" in result.err


def test_one_of_several_that_is_nothing_fails_all() -> None:
    run("count", "-d", "0.1", "t:sched:*", "t:sched:nothing").assert_refused("sched:nothing")


def test_without_capabilities() -> None:
    as_user("-all", "count", "t:sched:sched_switch").assert_refused("missing capability")


def test_with_the_least_of_them() -> None:
    """Functions of programs; what tracefs alone has takes the right to read it."""
    program = f"/mnt/{KNOWN.relative_to(BUILD.parent.parent)}"
    result = as_user(LEAST, "count", "-v", "-d", "0.1", f"{program}:known_function")
    assert result.code == 0, result.err
    assert "attached to 1 by uprobe" in result.err
    refused = as_user(
        LEAST, "count", "t:sched:sched_switch", script="chmod 700 /sys/kernel/tracing"
    )
    refused.assert_refused("/sys/kernel/tracing may not be read")


def test_an_unreadable_file() -> None:
    hide = "cp /bin/true /media/secret; chmod 0 /media/secret"
    refused = as_user(
        LEAST, "count", "/media/secret:main", script=f"mount -t tmpfs t /media; {hide}"
    )
    refused.assert_refused("/media/secret")
