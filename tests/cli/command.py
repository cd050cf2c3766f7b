"""Runs the ``corelock`` command as a user does: a process of its own, in a clean environment."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Optional

#: Another corelock may be named, to be tested in place of this Python's: the portable file.
COMMAND = os.environ.get("CORELOCK_TEST_COMMAND") or str(Path(sys.executable).with_name("corelock"))

TIMEOUT_S = 60.0


class Result(NamedTuple):
    """How a command ended; ``code`` is negative for a signal."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as one JSON object."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """What it printed, as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def assert_refused(self, *words: str, code: int = 1) -> None:
        """It failed with a message that has these words and a remedy, and printed no data."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        first, *remedy = self.err.splitlines()
        assert first.startswith("corelock: ")
        for word in words:
            assert word in self.err
        assert remedy, f"no remedy: {self.err}"
        assert all(line.startswith("  ") and line.strip() for line in remedy)

    def assert_table(self) -> None:
        """It printed a table, the accounting last, and ended well."""
        assert self.code == 0, self.err
        assert "Traceback" not in self.err
        assert re.search(r"^mmap_lock\b.* on Linux ", self.out, re.M)
        end = self.out.rpartition("\nevents ")[2].rstrip("\n")
        assert " = paired " in end
        assert len(end.splitlines()) <= 3, end
        assert "lost 0" in " ".join(end.split())


def environment(**more: str) -> dict[str, str]:
    """The caller's environment without what changes Python or corelock."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CORELOCK"))}
    return {**kept, "COLUMNS": "80", **more}


def eventually(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until ``condition`` holds, for what nothing can be told to announce."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to be in time"
        time.sleep(0.005)


def _default_interrupt() -> None:
    # And one of nohup with the end of the terminal ignored.
    for number in signal.SIGINT, signal.SIGHUP:
        signal.signal(number, signal.SIG_DFL)


class Corelock:
    """One run of the command, killed on exit if need be.

    ``prefix`` is what runs it (``unshare ...``); ``options`` are those of Popen.
    """

    def __init__(self, *arguments: object, prefix: Sequence[str] = (), **options: Any) -> None:
        self.command = [*prefix, COMMAND, *map(str, arguments)]
        self._options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": environment(),
            **options,
        }
        self._early = {"out": b"", "err": b""}

    def __enter__(self) -> Corelock:
        # A job in the background of a script is started with SIGINT ignored.
        self.process = subprocess.Popen(
            self.command, bufsize=0, preexec_fn=_default_interrupt, **self._options
        )
        self.pid = self.process.pid
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def wait_attached(self) -> Corelock:
        """Wait until it says that it traces."""
        line = self.line("err")
        if not line.startswith(("Tracing ", "Recording ")):
            raise RuntimeError(f"{self.command} said: {line}{self.finish().err}")
        return self

    def line(self, stream: str = "out", timeout_s: float = TIMEOUT_S) -> str:
        """Its next line on ``out`` or ``err``; "" at the end."""
        pipe = self.process.stdout if stream == "out" else self.process.stderr
        assert pipe is not None
        deadline_s = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise TimeoutError(f"{self.command}: no line on {stream} within {timeout_s:g} s")
            byte = os.read(pipe.fileno(), 1)
            if not byte:
                break
            line += byte
        self._early[stream] += line
        return line.decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, timeout_s: float = TIMEOUT_S) -> Result:
        """Wait for its end; the result has the lines read before, too."""
        out, err = self.process.communicate(timeout=timeout_s)
        return Result(
            self.process.returncode,
            (self._early["out"] + (out or b"")).decode(),
            (self._early["err"] + (err or b"")).decode(),
        )


def run(*arguments: object, timeout_s: float = TIMEOUT_S, **options: Any) -> Result:
    """Run the command to its end; see :class:`Corelock`."""
    with Corelock(*arguments, **options) as corelock:
        return corelock.finish(timeout_s)
