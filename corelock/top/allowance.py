"""What may cost too much to be done whenever it would be good to."""

from __future__ import annotations

import time


class Allowance:
    """What something may take of a core, on average."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._again_ns = 0

    def is_left(self) -> bool:
        """Whether it may be done now."""
        return time.monotonic_ns() >= self._again_ns

    def spend(self, cpu_ns: int) -> None:
        """It was done, and took so much CPU time."""
        self._again_ns = time.monotonic_ns() + round(cpu_ns / self._share)
