"""The programs that the benchmark compares, each attached when its block is entered."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

import corelock

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 60.0
KNOWN_CALLS = ROOT / "build" / "workloads" / "known_calls"


class Unmeasurable(Exception):
    """Something that the benchmark needs is missing or does not work."""


class Kept(NamedTuple):
    """What a recorder has kept of a run, and what it says that it has lost."""

    events: int
    lost: int
    file_bytes: int


class Contender(ABC):
    """One running tracer: attached on entry, ended on exit."""

    name = ""
    #: What the tracer says, and where, when all its probes are attached.
    ready = b""
    speaks_on = "stdout"

    def __init__(self, pid: int) -> None:
        self._target = pid
        self._cleanup = ExitStack()

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be used here, or nothing."""
        return "" if shutil.which(cls.name) else f"{cls.name} is not installed"

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    def __enter__(self) -> Contender:
        if self.missing():
            raise Unmeasurable(self.missing())
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        stdout, stderr = (pipe, null) if self.speaks_on == "stdout" else (null, pipe)
        try:
            #: Monotonic seconds at which the command was given, and at which it had attached.
            self.started_s = time.monotonic()
            self.process = subprocess.Popen(
                self.command(),
                bufsize=0,
                stdin=pipe,
                stdout=stdout,
                stderr=stderr,
                pass_fds=self.descriptors(),
            )
            self._cleanup.callback(self._end)
            self.wait_attached()
            self.attached_s = time.monotonic()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def descriptors(self) -> tuple[int, ...]:
        """What the command inherits."""
        return ()

    def wait_attached(self) -> None:
        """Return when the tracer has said that it is attached."""
        stream = self.process.stdout or self.process.stderr
        assert stream is not None
        await_word(stream.fileno(), self.ready, self.name)

    def stop(self) -> None:
        """Ask the tracer to end."""
        self.process.send_signal(signal.SIGINT)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.stop()
        try:
            self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


class Corelock(Contender):
    """``corelock hold-times`` as it is without options."""

    name = "corelock"
    ready = b"Tracing "
    speaks_on = "stderr"

    @classmethod
    def missing(cls) -> str:
        return "" if corelock_command().exists() else "corelock is not built: run make"

    def command(self) -> list[str]:
        return [str(corelock_command()), "hold-times", "--pid", str(self._target)]


class ByRecords(Corelock):
    """The same, attached by ``tp``."""

    name = "corelock by tp"

    def command(self) -> list[str]:
        return [*super().command(), "--attach", "tp"]


class Blame(Corelock):
    """``corelock blame``."""

    name = "corelock blame"

    def command(self) -> list[str]:
        return [str(corelock_command()), "blame", "--pid", str(self._target)]


class Record(Corelock):
    """``corelock record`` as it is without options."""

    name = "corelock record"
    ready = b"Recording "

    def __enter__(self) -> Contender:
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="corelock-bench-"))
        self._output = Path(folder) / "recording"
        return super().__enter__()

    def command(self) -> list[str]:
        output = ["-o", str(self._output), "--pid", str(self._target)]
        return [str(corelock_command()), "record", *output]

    def kept(self) -> Kept:
        """What is in the file; ends the recording."""
        self._end()
        with corelock.open_recording(self._output) as recording:
            footer, damage = recording.footer, recording.damage
        if footer is None or damage:
            raise Unmeasurable(f"{self.name}: the recording is damaged: {damage}")
        accounting = footer["accounting"]
        lost = {**accounting["lost"], **accounting["slow_lost"], **footer["cycles"]["lost"]}
        return Kept(
            sum(accounting["events"].values()), sum(lost.values()), self._output.stat().st_size
        )


class Bpftrace(Contender):
    """The same job as a bpftrace script, which says so when its last probe is attached."""

    name = "bpftrace"
    ready = b"attached\n"

    def command(self) -> list[str]:
        return ["bpftrace", str(ROOT / "bench" / "hold_times.bt"), str(self._target)]


#: What is counted, as corelock and bpftrace call it.
COUNTED = {
    "tracepoint": ("t:syscalls:sys_enter_lseek", "tracepoint:syscalls:sys_enter_lseek"),
    "function": (f"{KNOWN_CALLS}:known_function", f"uprobe:{KNOWN_CALLS}:known_function"),
}


class Count(Corelock):
    """``corelock count`` of one probe that ``known_calls`` hits."""

    name = "corelock count"

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(pid)
        self._what = what

    def command(self) -> list[str]:
        pattern = COUNTED[self._what][0]
        return [str(corelock_command()), "count", "--pid", str(self._target), pattern]


class BpftraceCount(Contender):
    """The same by bpftrace's ``count()``."""

    name = "bpftrace"
    ready = b"attached\n"

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(pid)
        self._what = what

    def command(self) -> list[str]:
        probe = COUNTED[self._what][1]
        script = 'BEGIN { printf("attached\\n"); }'
        script += f" {probe} /pid == {self._target}/ {{ @ = count(); }}"
        return ["bpftrace", "-e", script]


class Perf(Contender):
    """``perf record`` of the same events, which records and does not add up."""

    name = "perf"

    def __enter__(self) -> Contender:
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="corelock-bench-"))
        self._output = Path(folder) / "perf.data"
        self._control = self._pipe()
        self._answer = self._pipe()
        return super().__enter__()

    def command(self) -> list[str]:
        control = f"fd:{self._control[0]},{self._answer[1]}"
        # -D -1: nothing is recorded until the word to enable comes.
        return (
            f"perf record -q -e mmap_lock:* -p {self._target} -D -1 --control {control} -o".split()
            + [str(self._output)]
        )

    def descriptors(self) -> tuple[int, ...]:
        return self._control[0], self._answer[1]

    def wait_attached(self) -> None:
        os.write(self._control[1], b"enable\n")
        await_word(self._answer[0], b"ack\n", self.name, self.process)

    def kept(self) -> Kept:
        """What is in the file; ends the recording."""
        self._end()
        said = subprocess.run(
            ["perf", "report", "--stats", "-i", str(self._output)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        counts = {name: int(count) for name, count in re.findall(r"(\w+) events: +(\d+)", said)}
        if not counts.get("SAMPLE"):
            raise Unmeasurable(f"perf recorded nothing: {said!r}")
        return Kept(counts["SAMPLE"], counts.get("LOST_SAMPLES", 0), self._output.stat().st_size)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self._cleanup.callback(os.close, end)
        return ends


class Floor(Contender):
    """Programs that only read the clock: the least that timing these events can cost."""

    name = "floor"
    ready = b"ready\n"

    @classmethod
    def missing(cls) -> str:
        return "" if (ROOT / "build" / "floor").exists() else "floor is not built: run make bench"

    def command(self) -> list[str]:
        return [str(ROOT / "build" / "floor")]

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None


def corelock_command() -> Path:
    """The installed command that belongs to this interpreter."""
    return Path(sys.executable).parent / "corelock"


def await_word(
    fd: int, word: bytes, who: str, process: Optional[subprocess.Popen[bytes]] = None
) -> None:
    """Read until ``word`` comes.

    Raises:
        Unmeasurable: what came before the end, or instead of it.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    said = b""
    while word not in said:
        if select.select([fd], [], [], 0.1)[0]:
            some = os.read(fd, 4096)
            if some:
                said += some
                continue
        elif (process is None or process.poll() is None) and time.monotonic() < deadline_s:
            continue
        raise Unmeasurable(f"{who} did not attach: {said.decode(errors='replace').strip()!r}")


@contextmanager
def tracefs() -> Iterator[None]:
    """perf and bpftrace find tracepoints in tracefs: mounted for as long as they need it."""
    path = Path("/sys/kernel/tracing")
    if (path / "events").is_dir():
        yield
        return
    subprocess.run(["mount", "-t", "tracefs", "none", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)
