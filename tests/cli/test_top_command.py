"""``corelock top``: usage, where there is no screen, and on one for real (tmux)."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, environment, eventually, run
from tests.workloads import Workload

_SELF = str(os.getpid())

WRONG = {
    "no target": ([], "--pid N, --comm NAME, --cgroup PATH, --container ID, or --all."),
    "two targets": (["--pid", _SELF, "--all"], "Name one target"),
    "tid": (["--tid", _SELF], "No such option"),
    "a command": (["--all", "true"], "unexpected extra argument"),
    "interval zero": (["--all", "-i", "0"], "not a number of seconds above 0"),
    "interval too long": (["--all", "-i", "5", "-d", "1"], "longer than the whole run"),
    "follow all": (["--all", "--follow"], "--follow goes with --pid"),
}


@pytest.mark.parametrize(("arguments", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_usage(arguments: list[str], hint: str) -> None:
    result = run("top", *arguments, timeout_s=20)
    assert result.code == 2, result
    assert result.out == "" and "Traceback" not in result.err
    assert hint in " ".join(result.err.split())


def without_the_extra(tmp_path: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """As where it was not installed: a package of that name that cannot be found."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['textual'] = None\n")
    code = "from corelock.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "top", *arguments],
        env=environment(PYTHONPATH=str(tmp_path), TERM="xterm"), **streams,
    )  # fmt: skip


def test_without_the_extra_the_remedy_is_named(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with without_the_extra(
        tmp_path, "--all", stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        assert process.wait(30) == 1
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert "pip install 'corelock[top]'" in said
    assert "Traceback" not in said


@pytest.mark.kernel
def test_without_the_extra_and_a_terminal_there_are_plain_intervals(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with without_the_extra(tmp_path, "--all", "-d", "0.2", stdout=pipe, stderr=pipe) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert b"--- whole run" in out


@pytest.mark.kernel
def test_without_a_terminal_there_are_plain_intervals() -> None:
    with Workload("storm", "2", "50") as storm:
        result = run("top", "--pid", storm.pid, "-d", "0.6", "-i", "0.2")
    assert result.code == 0, result.err
    assert "plain intervals, as stdout is no terminal" in result.err
    assert result.out.count("--- interval ") >= 2
    assert "--- whole run" in result.out


class Terminal:
    """A tmux server of its own with one window that runs the command."""

    def __init__(self, folder: Path, *arguments: object, width: int = 80, height: int = 24) -> None:
        self._socket = folder / "tmux"
        self.status = folder / "status"
        command = " ".join(["exec", COMMAND, "top", *map(str, arguments)])
        script = f"sh -c '{command}'; echo $? > {self.status}; stty -a; sleep 600"
        self._tmux(
            "-u", "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
            script,
        )  # fmt: skip

    def _tmux(self, *arguments: str) -> str:
        kept = environment(LANG="C.UTF-8", TERM="xterm-256color")
        del kept["COLUMNS"]  # the terminal knows better
        return subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            env=kept, check=True, text=True,
            stdout=subprocess.PIPE,
        ).stdout  # fmt: skip

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def pid(self) -> int:
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        for child in Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
            return int(child)
        raise ProcessLookupError("the command has ended")

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen has it somewhere; the screen."""
        try:
            eventually(lambda: re.search(pattern, self.screen(), re.M))
        except AssertionError as error:
            raise AssertionError(f"no {pattern!r} on the screen:\n{self.screen()}") from error
        return self.screen()

    def exit_status(self) -> int:
        eventually(lambda: self.status.exists() and self.status.read_text().strip())
        return int(self.status.read_text())

    def close(self) -> None:
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], check=False)


@contextmanager
def terminal(
    folder: Path, *arguments: object, width: int = 80, height: int = 24
) -> Iterator[Terminal]:
    assert shutil.which("tmux"), "tmux is not installed: make test installs it"
    opened = Terminal(folder, *arguments, width=width, height=height)
    try:
        yield opened
    finally:
        opened.close()


def attached_programs(pid: int) -> list[str]:
    """BPF programs and links that a process holds open."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(fd)
        if "bpf" in target:
            found.append(target)
    return found


@pytest.mark.kernel
def test_on_a_real_screen(tmp_path: Path) -> None:
    with Workload("smaps_reader", "256", "100000", "1", "0", "smaps_rollup") as load:
        load.go()
        name = f"smaps_reader[{load.pid}]"
        with terminal(tmp_path, "--pid", load.pid) as screen:
            shown = screen.wait_for(r"^all +\d")
            lines = shown.splitlines()
            assert lines[0].startswith(f"corelock top  mmap_lock of {name}")
            assert all(len(line) <= 80 for line in lines)
            # Its writer, and the other process that reads its smaps_rollup.
            assert re.search(rf"^\*smaps_reader\[{load.extra[0]}\] ", shown, re.M)
            assert re.search(r"^smaps_reader\[\d+\] ", shown, re.M)
            screen.wait_for(r"worst wait \S+ W (mmap|munmap)  smaps_reader\[\d+\]")
            screen.wait_for(rf"\d+% +\S+  \*smaps_reader\[{load.extra[0]}\]  R read")
            screen.press("o")
            shown = screen.wait_for(r"\[operations\]")
            shown = screen.wait_for(r"^munmap +W +\d+")
            assert re.search(r"^(read|pread64) +R +\d+", shown, re.M)
            screen.press("h")
            # With long pids names are cut there.
            screen.wait_for(rf"^smaps_\S*\[{load.pid}\] +\S*smaps_|^no lock of 1 address space was")
            screen.press("t", "/", "9", "9", "9", "9", "9", "9", "9")
            screen.wait_for(r"filter: 9999999_ +0 threads")
            screen.press("Escape")
            screen.wait_for(r"\[threads\] operations  holders +\d threads")
            screen.resize(140, 40)
            eventually(lambda: len(screen.screen().splitlines()[0]) > 100)
            screen.wait_for(r"^tab view ")
            pid = screen.pid
            assert attached_programs(pid)
            screen.press("q")
            assert screen.exit_status() == 0
            # The terminal is as it was: echo, line by line, and what was there before.
            shown = screen.wait_for(r"\bicanon\b")
            assert re.search(r"(?<!-)\becho\b", shown) and re.search(r"(?<!-)\bisig\b", shown)
            assert "Tracing mmap_lock of" in shown and "worst wait" not in shown
            assert not Path(f"/proc/{pid}").exists()


@pytest.mark.kernel
@pytest.mark.parametrize("end", ["C-c", "SIGTERM", "SIGINT"])
def test_ends(tmp_path: Path, end: str) -> None:
    with Workload("storm", "2", "50") as storm:
        with terminal(tmp_path, "--pid", storm.pid, "-i", "0.2") as screen:
            screen.wait_for(r"\[threads\]")
            if end == "C-c":
                screen.press(end)
            else:
                os.kill(screen.pid, signal.Signals[end])
            assert screen.exit_status() == 0
            shown = screen.wait_for(r"\bicanon\b")
            assert "Traceback" not in shown


@pytest.mark.kernel
def test_the_last_picture_stays_when_the_target_exits(tmp_path: Path) -> None:
    with Workload("storm", "2", "200") as storm:
        with terminal(tmp_path, "--pid", storm.pid, "-i", "0.2") as screen:
            screen.wait_for(r"\[threads\]")
            storm.run()
            storm.finish()
            shown = screen.wait_for(rf"storm\[{storm.pid}\] has exited")
            assert re.search(r"^storm\[\d+\] ", shown, re.M)
            assert not screen.status.exists()
            screen.press("q")
            assert screen.exit_status() == 0


@pytest.mark.kernel
@pytest.mark.parametrize("end", ["duration", "SIGTERM", "C-c", "terminal"])
def test_what_ends_it_when_the_target_has_exited(tmp_path: Path, end: str) -> None:
    with Workload("storm", "1", "1") as storm:
        duration = ("-d", 3) if end == "duration" else ()
        with terminal(tmp_path, "--pid", storm.pid, "-i", 0.2, *duration) as screen:
            screen.wait_for(r"\[threads\]")
            pid = screen.pid
            storm.run()
            storm.finish()
            screen.wait_for(rf"storm\[{storm.pid}\] has exited")
            assert end == "duration" or not screen.status.exists()
            if end == "terminal":
                screen.close()
                eventually(lambda: not is_running(pid))
                return
            if end == "SIGTERM":
                os.kill(pid, signal.SIGTERM)
            elif end == "C-c":
                screen.press(end)
            assert screen.exit_status() == 0


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, waited for or not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.kernel
def test_a_duration_ends_it(tmp_path: Path) -> None:
    with (
        Workload("storm", "1", "1") as storm,
        terminal(tmp_path, "--pid", storm.pid, "-d", 0.5) as t,
    ):
        assert t.exit_status() == 0


@pytest.mark.kernel
def test_losses_are_said_afterwards(tmp_path: Path) -> None:
    with Workload("many_threads", "50", "5") as load:
        with terminal(tmp_path, "--pid", load.pid, "--max-rows", 4, "-i", 0.2) as screen:
            screen.wait_for(r"\[threads\]")
            load.run()
            screen.wait_for(r"^incomplete: map_full \d+")
            screen.press("q")
            assert screen.exit_status() == 0
            screen.wait_for(r"^corelock: incomplete: map_full \d+.* Raise --max-rows\.")


@pytest.mark.kernel
@pytest.mark.parametrize("controls", [False, True])
def test_a_terminal_that_goes(controls: bool) -> None:
    """One that controls the command sends SIGHUP, and SIGCONT after it."""
    ours, theirs = pty.openpty()

    def take_control() -> None:
        if controls:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with (
        Workload("storm", "1", "1") as storm,
        subprocess.Popen(
            [COMMAND, "top", "--pid", str(storm.pid)],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=take_control, env=environment(TERM="xterm-256color"),
        ) as process,
    ):  # fmt: skip
        try:
            os.close(theirs)
            shown = b""
            while b"first figures" not in shown:
                shown += os.read(ours, 65536)
            os.close(ours)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.kernel
def test_stopped_and_continued(tmp_path: Path) -> None:
    with Workload("storm", "1", "1") as storm:
        with terminal(tmp_path, "--pid", storm.pid, "-i", 0.2) as screen:
            screen.wait_for(r"\[threads\]")
            pid = screen.pid
            threads = sorted(os.listdir(f"/proc/{pid}/task"))
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text())
            os.kill(pid, signal.SIGCONT)
            screen.press("o")
            screen.wait_for(r"\[operations\]")
            assert sorted(os.listdir(f"/proc/{pid}/task")) == threads
            screen.press("q")
            assert screen.exit_status() == 0
