"""Which waits and holds were the worst lately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from corelock.model import SlowEvent, SlowKind

#: One is the worst for one to two of these, unless a longer one comes.
WINDOW_NS = 5_000_000_000
_FAR_SHORTER = 16


class LongestLately:
    """Keeps the longest wait or hold of the present window, and of the one before."""

    def __init__(self, kind: SlowKind) -> None:
        self._kind = kind
        self._since_ns = 0
        self._present: Optional[SlowEvent] = None
        self._before: Optional[SlowEvent] = None
        self._floor_ns = 0

    @property
    def least_ns(self) -> int:
        """Shorter ones than this will not be the worst.

        After a storm of long ones, the many that are far shorter are no news at first: to
        take each of their stacks would be dear.
        """
        return self._floor_ns if self._present is None else self._present.duration_ns + 1

    def add(self, events: Iterable[SlowEvent]) -> Optional[SlowEvent]:
        """Take what has come; the longest of it, if it is longer than all of the window."""
        before = self._present
        for event in events:
            if event.kind == self._kind and event.duration_ns >= self.least_ns:
                self._present = event
        return None if self._present is before else self._present

    def at(self, now_ns: int) -> Optional[SlowEvent]:
        """The worst at this moment; begins a new window when it is time for one."""
        before, present = self._before, self._present
        if now_ns - self._since_ns >= WINDOW_NS:
            self._before, self._present = present, None
            longest_ns = self._floor_ns if present is None else present.duration_ns
            self._floor_ns = longest_ns // _FAR_SHORTER
            self._since_ns = now_ns
        if before is None or present is None:
            return before or present
        return before if before.duration_ns > present.duration_ns else present
