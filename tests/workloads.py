"""Runs the programs of ``tests/workloads`` by their handshake (see ``workload.h`` there)."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Optional

BUILD = Path(__file__).resolve().parent.parent / "build" / "workloads"

TIMEOUT_S = 120.0


class Workload:
    """One workload, idle until :meth:`run`, idle again after it, killed on exit if need be.

    ``pid`` is the process to trace, ``extra`` whatever numbers followed it. A
    ``command`` runs it, or another program that keeps to the handshake.

    >>> with Workload("storm", "4", "2000") as storm:  # doctest: +SKIP
    ...     attach(storm.pid)
    ...     storm.run()
    ...     detach()
    ...     storm.finish()
    """

    def __init__(
        self, name: str, *arguments: str, command: Optional[Sequence[object]] = None
    ) -> None:
        self.command = list(map(str, command or [BUILD / name, *arguments]))
        self.pid = 0
        self.extra: tuple[int, ...] = ()

    def __enter__(self) -> Workload:
        if shutil.which(self.command[0]) is None:
            raise FileNotFoundError(f"{self.command[0]} is not built: run make")
        self._process = subprocess.Popen(
            self.command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            word, *numbers = self._line(TIMEOUT_S).split()
            if word != "ready":
                raise RuntimeError(f"{self.command} said {word!r}, not 'ready'")
            self.pid, *extra = map(int, numbers)
            self.extra = tuple(extra)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._kill()

    @property
    def tids(self) -> tuple[int, ...]:
        """The threads that the traced process has now."""
        return tuple(sorted(map(int, os.listdir(f"/proc/{self.pid}/task"))))

    def go(self) -> None:
        """Start the load."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    def wait_done(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait for the end of the load; the process is idle then."""
        line = self._line(timeout_s)
        if line != "done":
            raise RuntimeError(f"{self.command} said {line!r}, not 'done'")

    def run(self, timeout_s: float = TIMEOUT_S) -> None:
        """Start the load and wait for its end."""
        self.go()
        self.wait_done(timeout_s)

    def finish(self) -> None:
        """Let the program exit, and see that it does so without an error."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(TIMEOUT_S)
        if code != 0:
            raise RuntimeError(f"{self.command} exited with {code}")

    def _line(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline_s = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([fd], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise TimeoutError(f"{self.command} said nothing for {timeout_s:g} s")
            # One byte at a time: nothing of the next line may be taken.
            byte = os.read(fd, 1)
            if not byte:
                raise RuntimeError(f"{self.command} ended too early")
            line += byte
        return line.decode().strip()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
