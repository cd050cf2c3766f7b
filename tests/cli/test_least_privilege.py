"""CAP_BPF and CAP_PERFMON are enough, for whoever has them; what that costs is said once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Result, run
from tests.cli.hosts import LEAST, as_user, reach_python
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

_SHORTLY = ["-d", "0.2"]
_KERNEL_NOTE = "corelock: kernel symbols are hidden: run with CAP_SYSLOG"
_FILE_NOTE = "corelock: user frames in files that may not be read have no names"

#: Commands and targets; {pid} is of root's process.
_USES = [
    ["hold-times", "--pid", "{pid}", *_SHORTLY],
    ["hold-times", "--pid", "{pid}", "--follow", *_SHORTLY],
    ["hold-times", "--tid", "{pid}", *_SHORTLY],
    ["hold-times", "--comm", "storm", *_SHORTLY],
    ["hold-times", "--all", *_SHORTLY],
    ["hold-times", "--", "sh", "-c", ":; /bin/true"],
    ["blame", "--pid", "{pid}", *_SHORTLY],
    ["blame", "--all", *_SHORTLY],
    ["blame", "--", "sh", "-c", ":; /bin/true"],
    ["holders"],
    ["holders", "--pid", "{pid}", "--waiters"],
    ["holders", "--longer-than", "50"],
    ["doctor"],
]


@pytest.fixture()
def busy() -> Iterator[Workload]:
    """A process of root that locks without end."""
    with Workload("storm", "2", "10000000") as workload:
        workload.go()
        yield workload


def as_bare_root(*arguments: object) -> Result:
    """Run it with uid 0 and the same two capabilities."""
    return run(*arguments, prefix=["setpriv", f"--bounding-set=-all,{LEAST}"])


@pytest.mark.parametrize("use", _USES, ids=" ".join)
def test_two_capabilities_are_enough(busy: Workload, use: list[str]) -> None:
    arguments = [word.format(pid=busy.pid) for word in use]
    user, root = as_user(LEAST, *arguments), as_bare_root(*arguments)
    for result in (user, root):
        assert result.code == 0, result.err
        assert "Traceback" not in result.err
        assert "incomplete" not in result.err
        assert result.out


def test_attaching_by_tp_takes_tracefs(busy: Workload) -> None:
    """The only thing that does, and the message says so."""
    use = ["hold-times", "--attach", "tp", "--pid", busy.pid, *_SHORTLY]
    as_user(LEAST, *use).assert_refused("tracefs", "readable")
    as_user(f"{LEAST},+dac_read_search", *use).assert_table()


# --- what is missing is said once -----------------------------------------------------------


@pytest.mark.parametrize("command", ["hold-times", "blame"])
def test_hidden_kernel_symbols(busy: Workload, command: str) -> None:
    use = [command, "--pid", busy.pid, "-s", "3", *_SHORTLY]
    if command == "hold-times":
        use += ["--slow-us", "0"]
    for result in (as_user(LEAST, *use), as_bare_root(*use)):
        assert result.code == 0, result.err
        assert result.err.count(_KERNEL_NOTE) == 1
        assert result.err.count("CAP_") == 1, result.err
    seeing = as_user(f"{LEAST},+syslog", *use)
    assert seeing.code == 0
    assert "CAP_" not in seeing.err
    assert "entry_SYSCALL_64" in seeing.out or "el0t_64_sync" in seeing.out


def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    program = tmp_path / "storm"
    shutil.copy(BUILD / "storm", program)
    tmp_path.chmod(0o700)
    with Workload("storm", command=[program, "2", "10000000"]) as hidden:
        hidden.go()
        use = ["hold-times", "--pid", hidden.pid, "--slow-us", "0", "-s", "9", "--json", *_SHORTLY]
        blind = as_user(f"{LEAST},+syslog", *use)
        seeing = as_user(f"{LEAST},+syslog,+dac_read_search", *use)
    assert blind.code == seeing.code == 0, blind.err + seeing.err
    assert blind.err.count(_FILE_NOTE) == 1
    assert "CAP_DAC_READ_SEARCH" in blind.err
    assert "CAP_" not in seeing.err
    # Frames are there all the same, by address and module.
    for result, named in ((blind, False), (seeing, True)):
        stacks = [slow["user_stack"] for slow in result.json["slow"]]
        own = [frame for stack in stacks for frame in stack if frame["module"] == "storm"]
        assert own
        assert any(frame["name"] for frame in own) == named


def test_mappings_that_may_not_be_read() -> None:
    """Newer kernels allow it to who may trace: it is refused to a user who may not."""
    pid = os.getpid()
    code = (
        "from corelock.symbolize import Symbolizer\n"
        "from tests.reports import slow\n"
        "from dataclasses import replace\n"
        f"event = replace(slow(pid={pid}, tid={pid}).event, user_stack=(0x1000, 0x2000))\n"
        "symbols = Symbolizer(cache_folder=None)\n"
        "for _ in range(3): resolved = symbols.resolve(event)\n"
        "print(symbols.notes, resolved.user_stack_note)"
    )
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    root = Path(__file__).resolve().parents[2]
    script = f'mount --bind {root} /mnt; {reach_python()}; exec "$@"'
    python = sys.executable.replace(str(root), "/mnt")
    finished = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *nobody, python, "-c", code],
        env={**os.environ, "PYTHONPATH": "/mnt"}, cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("CAP_SYS_PTRACE") == 1
    assert "not read: Permission denied" in finished.stdout
