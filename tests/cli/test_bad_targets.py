"""Targets that are not there, or go; signals; and streams that cannot be written."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.bpf_objects import existing, held_by
from tests.cli.command import Corelock, Result, environment, eventually, run
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

_PF_KTHREAD = 0x00200000
_F_SETPIPE_SZ = 1031  # fcntl has it from Python 3.10 on

Background = Callable[..., Corelock]


def wait_exited(pid: int) -> None:
    """Wait until a child has exited, and leave it a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def zombie() -> Iterator[int]:
    """The pid of a zombie."""
    process = subprocess.Popen(["true"])
    wait_exited(process.pid)
    yield process.pid
    process.wait()


def kernel_thread() -> int:
    """The pid of a kernel thread."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        rest = stat.read_text().rpartition(")")[2].split()
        if int(rest[6]) & _PF_KTHREAD:
            return int(stat.parent.name)
    pytest.skip("no kernel thread to be seen")


def state_of(pid: int) -> str:
    """R, S, Z, t ...; "" when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


# --- no such target ---------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--pid", "--tid"])
class TestNoTarget:
    def test_nobody(self, option: str) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        run("hold-times", option, process.pid).assert_refused(str(process.pid), "no process")

    def test_beyond_any_pid(self, option: str) -> None:
        run("hold-times", option, 2**31 - 1).assert_refused("no process")

    def test_zombie(self, option: str) -> None:
        with zombie() as pid:
            run("hold-times", option, pid).assert_refused(str(pid), "zombie")

    def test_kernel_thread(self, option: str) -> None:
        run("hold-times", option, kernel_thread()).assert_refused("kernel thread", "--all")


def test_beyond_any_integer() -> None:
    result = run("hold-times", "--pid", 2**40)
    assert result.code in (1, 2)
    assert "Traceback" not in result.err
    assert result.out == ""


# --- a command that cannot be started ---------------------------------------------------------


def test_command_not_found() -> None:
    run("hold-times", "--", "no-such-command-").assert_refused("no-such-command-", "PATH")


def test_command_not_executable(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o644)
    run("hold-times", "--", script).assert_refused(str(script), "executable")


def test_command_is_a_folder(tmp_path: Path) -> None:
    run("hold-times", "--", tmp_path).assert_refused(str(tmp_path), "executable")


# --- -o ---------------------------------------------------------------------------------------


def test_output_in_no_folder(tmp_path: Path) -> None:
    started = tmp_path / "started"
    run("hold-times", "-o", tmp_path / "no" / "out", "--", "touch", started).assert_refused(
        "cannot write", "writable folder"
    )
    assert not started.exists()


def test_output_is_a_folder(tmp_path: Path) -> None:
    started = tmp_path / "started"
    run("hold-times", "-o", tmp_path, "--", "touch", started).assert_refused("cannot write")
    assert not started.exists()


def test_output_keeps_its_content_when_the_run_fails(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("of yesterday\n")
    assert run("hold-times", "-o", file, "--", "no-such-command-").code == 1
    assert file.read_text() == "of yesterday\n"


def test_output_replaces_longer_content(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("x" * 100_000)
    result = run("hold-times", "-o", file, "--", "true")
    assert (result.code, result.out) == (0, "")
    Result(0, file.read_text(), "").assert_table()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_words_that_find_no_room(option: str) -> None:
    with open("/dev/full", "w") as full:
        result = run(option, stdout=full)
    result.assert_refused("No space left on device")


def test_output_is_full() -> None:
    result = run("hold-times", "-o", "/dev/full", "--", "true")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "Exception" not in result.err
    assert "No space left on device" in result.err
    assert "-o" in result.err


# --- targets that go --------------------------------------------------------------------------


def test_command_that_ends_at_once() -> None:
    result = run("hold-times", "--", "true")
    result.assert_table()
    assert "true[" in result.out


def test_target_that_ends_after_attach(corelock_background: Background) -> None:
    target = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    corelock = corelock_background("hold-times", "--pid", target.pid)
    assert target.stdin is not None
    target.stdin.close()
    wait_exited(target.pid)
    result = corelock.finish()
    target.wait()
    result.assert_table()
    assert f"cat[{target.pid}]" in result.out


@pytest.mark.parametrize("delay", range(20))
def test_target_that_ends_while_attaching(delay: int) -> None:
    """Whenever it goes: either it was there and there is a table, or it was not."""
    target = subprocess.Popen(["sleep", str(0.05 + delay / 100)])
    result = run("hold-times", "--pid", target.pid)
    target.wait()
    if result.code:
        result.assert_refused(str(target.pid))
    else:
        result.assert_table()


def test_thread_that_ends_after_attach(corelock_background: Background) -> None:
    with Workload("storm", "1", "10") as storm:
        (tid,) = set(storm.tids) - {storm.pid}
        corelock = corelock_background("hold-times", "--tid", tid)
        storm.run()
        storm.finish()
        # A thread's end does not end the run: only the user does.
        if corelock.process.poll() is None:
            corelock.interrupt()
        result = corelock.finish()
    result.assert_table()
    assert f"storm[{tid}]" in result.out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "sh exited with status 3"),
        ("kill -9 $$", "sh was killed by SIGKILL"),
        ("kill -40 $$", "sh was killed by"),
    ],
)
def test_status_of_the_command_is_reported(script: str, words: str) -> None:
    result = run("hold-times", "--", "sh", "-c", script)
    result.assert_table()
    assert words in result.err.splitlines()[-1]


def test_success_of_the_command_is_not_reported() -> None:
    assert len(run("hold-times", "--", "true").err.splitlines()) == 1


def test_command_outlives_the_duration() -> None:
    script = "echo $$; exec sleep 60 >/dev/null 2>&1"
    result = run("hold-times", "-d", "0.2", "--", "sh", "-c", script)
    pid = int(result.out.splitlines()[0])
    assert state_of(pid) in ("R", "S")
    os.kill(pid, signal.SIGKILL)
    assert result.code == 0
    assert "Traceback" not in result.err


# --- streams ----------------------------------------------------------------------------------


def _with_shell(redirection: str, *arguments: object) -> Result:
    return run(*arguments, prefix=["sh", "-c", f'exec "$@" {redirection}', "sh"])


def test_reader_that_has_seen_enough() -> None:
    reader, writer = os.pipe()
    with Corelock("hold-times", "--", "true", stdout=writer) as corelock:
        os.close(writer)
        os.close(reader)
        result = corelock.finish()
    assert result.code == 0
    assert len(result.err.splitlines()) == 1, result.err


def test_reader_that_goes_while_intervals_are_printed() -> None:
    with Workload("storm", "1", "10") as storm:
        reader, writer = os.pipe()
        options = ["-i", "0.05", "--pid", storm.pid]
        with Corelock("hold-times", *options, stdout=writer) as corelock:
            os.close(writer)
            assert os.read(reader, 1)
            os.close(reader)
            result = corelock.finish()
    assert result.code == 0
    assert len(result.err.splitlines()) == 1, result.err


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=["table", "json", "csv"])
def test_stdout_full(form: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = run("hold-times", *form, "--", "true", stdout=full)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "Exception" not in result.err
    assert "No space left on device" in result.err


def test_stdout_closed() -> None:
    result = _with_shell(">&-", "hold-times", "--pid", os.getpid(), "-d", "0.1")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "stdout" in result.err or "standard output" in result.err


def test_stderr_closed() -> None:
    result = _with_shell("2>&-", "hold-times", "--pid", os.getpid(), "-d", "0.1")
    result.assert_table()


@pytest.mark.parametrize("form", ["table", "file"])
def test_stderr_full(form: str, tmp_path: Path) -> None:
    """What was measured is there all the same."""
    arguments = ["--pid", os.getpid(), "-d", "0.1"]
    if form == "file":
        arguments = ["-o", tmp_path / "result", "--", "sh", "-c", "exit 3"]
    with open("/dev/full", "w") as full:
        result = run("hold-times", "-v", *arguments, stderr=full)
    if form == "file":
        result = result._replace(out=(tmp_path / "result").read_text())
    result.assert_table()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["holders", "--pid", os.getpid(), "--watch", "9", "--json"], 0),
        (["hold-times", "--no-such-option"], 2),
        (["hold-times", "--pid", "0"], 2),
        (["hold-times", "--comm", "n" * 16], 2),
    ],
    ids=["watch", "usage", "no pid", "no name"],
)
def test_stderr_full_changes_no_exit_code(arguments: list[object], code: int) -> None:
    with open("/dev/full", "w") as full, Corelock(*arguments, stderr=full) as corelock:
        if code == 0:
            assert corelock.line()
            corelock.interrupt()
        assert corelock.finish().code == code


def test_stdin_closed() -> None:
    _with_shell("<&-", "hold-times", "--", "true").assert_table()


def test_output_to_a_pipe_by_name() -> None:
    """-o is not truncated where that is impossible."""
    run("hold-times", "-o", "/dev/stdout", "--", "true").assert_table()


def test_output_to_a_device() -> None:
    result = run("hold-times", "-o", os.devnull, "--", "true")
    assert (result.code, result.out) == (0, "")
    assert len(result.err.splitlines()) == 1, result.err


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_anything_is_traced(number: signal.Signals, tmp_path: Path) -> None:
    """Opening a FIFO that nobody reads holds it before the attach."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    started = tmp_path / "started"
    with Corelock("hold-times", "-o", fifo, "--", "touch", started) as corelock:
        eventually(lambda: "partner" in Path(f"/proc/{corelock.pid}/wchan").read_text())
        corelock.process.send_signal(number)
        result = corelock.finish()
    assert result.code == (130 if number == signal.SIGINT else -number)
    assert (result.out, result.err) == ("", "")
    assert not started.exists()


#: The command, interrupted as it begins to import the module that is its first argument.
IMPORTING = """
import os, signal, sys
module = sys.argv.pop(1)
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.stdout.write(f"{name}\\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
# As a shell starts it, not a job in the background of a script.
signal.signal(signal.SIGINT, signal.default_int_handler)
from corelock.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module",
    ["corelock.cli", "click", "corelock.cli.count", "corelock._native.probes", "corelock.counter"],
)
def test_interrupted_while_it_imports(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, module, "count", "t:irq:*", "-d", "1"],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, f"{module}\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_attaching(number: signal.Signals) -> None:
    with Workload("storm", "1", "10") as storm:
        with Corelock("hold-times", "--pid", storm.pid) as corelock:
            eventually(lambda: held_by(corelock.pid))
            corelock.process.send_signal(number)
            corelock.finish().assert_table()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("interval", [[], ["-i", "0.05"]], ids=["once", "intervals"])
def test_signal_while_tracing(
    number: signal.Signals, interval: list[str], corelock_background: Background
) -> None:
    with Workload("storm", "2", "100") as storm:
        corelock = corelock_background("hold-times", "--pid", storm.pid, *interval)
        storm.run()
        corelock.process.send_signal(number)
        result = corelock.finish()
        storm.finish()
    result.assert_table()
    assert "munmap" in result.out


def test_one_signal_that_is_sent_twice(corelock_background: Background) -> None:
    """As `timeout` does, to its child and to its group."""
    with Workload("storm", "2", "100") as storm:
        corelock = corelock_background("hold-times", "--pid", storm.pid)
        storm.run()
        # Both have come when it goes on.
        for number in signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT:
            corelock.process.send_signal(number)
        corelock.finish().assert_table()


@pytest.mark.parametrize("command", [["count"], ["hold-times", "-d", "0.1"]], ids=["count", "hold"])
def test_names_of_processes_move_no_cursor(command: list[str]) -> None:
    code = "open('/proc/self/comm', 'w').write('\\33[31m\\nred'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        probe = ["-d", "0.1", "t:syscalls:sys_enter_getppid"] if command == ["count"] else []
        result = run(*command, "--pid", process.pid, *probe)
        process.stdin.close()
    assert result.code == 0
    assert r"\x1b[31m\x0ared[" in result.err and "\33" not in result.err + result.out


def test_second_signal_while_printing_aborts(corelock_background: Background) -> None:
    """A full pipe that nobody reads holds it in the middle of the table."""
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, _F_SETPIPE_SZ, resource.getpagesize())

    def is_full() -> bool:
        (queued,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))
        return bool(queued == size)

    with Workload("storm", "8", "100") as storm:
        corelock = corelock_background(
            "hold-times", "--hist", "-n", "0", "--pid", storm.pid, stdout=writer
        )
        os.close(writer)
        storm.run()
        corelock.interrupt()
        eventually(is_full)
        # One that comes at once is the same one.
        eventually(lambda: corelock.interrupt() or corelock.process.poll() is not None)
        result = corelock.finish(timeout_s=10)
    os.close(reader)
    assert result.code in (1, -signal.SIGINT)
    assert "Traceback" not in result.err
    assert "aborted" in result.err


def test_command_starts_with_the_default_signals() -> None:
    """What Python ignores or blocks is its own affair."""
    result = run("hold-times", "--", "grep", "Sig[BI]", "/proc/self/status")
    fields = dict(line.split(":\t") for line in result.out.splitlines() if line.startswith("Sig"))
    assert int(fields["SigBlk"], 16) == 0
    assert not int(fields["SigIgn"], 16) >> (signal.SIGPIPE - 1) & 1
    assert not int(fields["SigIgn"], 16) >> (signal.SIGXFSZ - 1) & 1


def test_killed_leaves_nothing_behind(corelock_background: Background) -> None:
    with Workload("storm", "1", "10") as storm:
        corelock = corelock_background("hold-times", "--follow", "--pid", storm.pid)
        objects = held_by(corelock.pid)
        assert {kind for kind, _ in objects} == {"prog", "link", "map"}
        assert objects <= existing()
        corelock.process.kill()
        corelock.finish()
        eventually(lambda: not objects & existing())
        storm.run()
        storm.finish()


def test_killed_lets_the_command_go_on() -> None:
    reader, writer = os.pipe()
    script = "echo up; read line; echo $line"
    with Corelock("hold-times", "--", "sh", "-c", script, stdin=reader) as corelock:
        os.close(reader)
        assert corelock.line("out") == "up\n"
        corelock.process.kill()
        corelock.process.wait()
        os.write(writer, b"on\n")
        os.close(writer)
        assert corelock.line("out") == "on\n"


def test_stopped_leaves_nothing_attached(corelock_background: Background) -> None:
    """What was traced is free again as soon as the table is there, not only at the exit."""
    with Workload("storm", "1", "10") as storm:
        corelock = corelock_background("hold-times", "--pid", storm.pid)
        objects = held_by(corelock.pid)
        corelock.interrupt()
        corelock.finish().assert_table()
    eventually(lambda: not objects & existing())


def test_refused_leaves_no_command_behind() -> None:
    """A command is not started, or is ended, where tracing fails: never left stopped."""
    code = """
import os, sys
from corelock import Tracer
tracer = Tracer(command=["sh", "-c", "echo started"])
try:
    tracer.start()
except Exception as error:
    print(type(error).__name__)
left = [pid for pid in os.listdir("/proc") if pid.isdigit() and
        f"PPid:\\t{os.getpid()}\\n" in open(f"/proc/{pid}/status").read()]
print(left)
"""
    unable = ["setpriv", "--bounding-set=-bpf,-sys_admin", sys.executable, "-c", code]
    process = subprocess.run(unable, capture_output=True, text=True, env=environment(), timeout=60)
    assert process.stdout.splitlines()[-2:] == ["MissingPrivilege", "[]"], process
    assert "started" not in process.stdout


def test_nothing_is_printed_before_the_end(corelock_background: Background) -> None:
    with Workload("storm", "1", "10") as storm:
        corelock = corelock_background("hold-times", "--pid", storm.pid)
        storm.run()
        assert corelock.process.stdout is not None
        assert not select.select([corelock.process.stdout], [], [], 0)[0]
        corelock.interrupt()
        corelock.finish().assert_table()
