"""Which wait was the worst lately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from corelock.model import SlowEvent

#: A wait is the worst for one to two of these, unless a longer one comes.
WINDOW_NS = 5_000_000_000


class LongestLately:
    """Keeps the longest wait of the present window, and of the one before."""

    def __init__(self) -> None:
        self._since_ns = 0
        self._present: Optional[SlowEvent] = None
        self._before: Optional[SlowEvent] = None

    @property
    def least_ns(self) -> int:
        """Shorter waits than this will not be the worst."""
        return 0 if self._present is None else self._present.duration_ns + 1

    def add(self, waits: Iterable[SlowEvent]) -> Optional[SlowEvent]:
        """Take what has come; the longest of it, if it is longer than all of the window."""
        before = self._present
        for wait in waits:
            if wait.kind == "wait" and wait.duration_ns >= self.least_ns:
                self._present = wait
        return None if self._present is before else self._present

    def at(self, now_ns: int) -> Optional[SlowEvent]:
        """The worst at this moment; begins a new window when it is time for one."""
        before, present = self._before, self._present
        if now_ns - self._since_ns >= WINDOW_NS:
            self._before, self._present = present, None
            self._since_ns = now_ns
        if before is None or present is None:
            return before or present
        return before if before.duration_ns > present.duration_ns else present
