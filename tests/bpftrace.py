"""bpftrace beside corelock: the same question, asked by another tool in the same run."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import time
from types import TracebackType
from typing import Any, Optional

TIMEOUT_S = 60.0


class Bpftrace:
    """A script at work, attached from the block's beginning on.

    ``maps`` after :meth:`finish` has its maps by name, ``printed`` what it printed.
    """

    def __init__(self, script: str) -> None:
        self._script = 'BEGIN { printf("attached\\n"); } ' + script
        self.maps: dict[str, Any] = {}
        self.printed: list[str] = []

    def __enter__(self) -> Bpftrace:
        self._process = subprocess.Popen(
            ["bpftrace", "-f", "json", "-e", self._script],
            bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, deadline_s = b"", time.monotonic() + TIMEOUT_S
        assert self._process.stdout is not None
        while b"attached" not in said:
            left = deadline_s - time.monotonic()
            if not select.select([self._process.stdout], [], [], max(0.0, left))[0]:
                raise TimeoutError(f"bpftrace does not attach: {said!r}")
            some = self._process.stdout.read(4096)
            if not some:
                raise RuntimeError(f"bpftrace: {self._process.communicate()[1]!r}")
            said += some
        self._said = said
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def finish(self) -> None:
        """Let it print its maps, and read them."""
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=TIMEOUT_S)
        assert self._process.returncode == 0, err
        for line in filter(None, (self._said + out).decode().splitlines()):
            said = json.loads(line)
            if said["type"] == "printf":
                self.printed += said["data"].splitlines()
            elif said["type"] in ("map", "hist"):
                self.maps.update(said["data"])
            elif said["type"] == "lost_events":
                raise AssertionError(said)
        self.printed.remove("attached")
