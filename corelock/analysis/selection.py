"""Which cycles of a recording are looked at."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from corelock.analysis.clocks import moment, time_of_day
from corelock.analysis.source import Source
from corelock.recording import Block

#: Nanoseconds since the recording's start, a time of day, or a date with one.
When = Union[int, datetime.time, datetime.datetime]


@dataclass(frozen=True)
class Selection:
    """Cycles to be looked at; the default is all.

    A cycle belongs to ``from_ns`` to ``to_ns`` if any part of it does, from when the lock was
    asked for to when it was given back. ``pid`` is that of the thread's process or of the one
    whose address space was locked, ``operation`` a name as in reports. ``min_ns`` is what the
    longer one of wait and hold has to last at least.
    """

    from_ns: Optional[When] = None
    to_ns: Optional[When] = None
    pid: Optional[int] = None
    tid: Optional[int] = None
    operation: Optional[str] = None
    min_ns: int = 0

    def bounds(self, source: Source) -> tuple[int, int]:
        """From when to when cycles are looked at (``CLOCK_MONOTONIC``)."""
        first, last = _moment(source, self.from_ns, 0), _moment(source, self.to_ns, 2**63)
        return max(0, first), max(0, min(last, 2**63))

    def span(self, source: Source) -> tuple[int, int]:
        """The part of the recording that is looked at (``CLOCK_MONOTONIC``)."""
        first, last = self.bounds(source)
        first = min(max(first, source.start_ns), source.end_ns)
        return first, max(first, min(last, source.end_ns))

    def rows(self, source: Source) -> Any:
        """Whether cycles of a row are looked at, by the row's number: an array of bool."""
        table = source.row_table
        chosen = table.known
        if self.pid is not None:
            chosen = chosen & ((table.pid == self.pid) | (table.mm_pid == self.pid))
        if self.tid is not None:
            chosen = chosen & (table.tid == self.tid)
        if self.operation is not None:
            chosen = chosen & source.rows_of(self.operation)
        return chosen


def skips(block: Block, bounds: tuple[int, int]) -> bool:
    """Whether no cycle of the block can be within the bounds."""
    return bool(block.last_ns < bounds[0] or block.first_ns > bounds[1] + block.longest_ns)


def within(block: Block, bounds: tuple[int, int]) -> Optional[Any]:
    """Which cycles of the block are, an array of bool; None: all."""
    first, last = bounds
    if block.first_ns >= first and block.last_ns <= last:
        return None
    end = block.end_ns
    asked = end - block.hold_ns - block.wait_ns
    chosen: Any = (end >= np.uint64(first)) & (asked <= np.uint64(last))
    return chosen


def _moment(source: Source, when: Optional[When], default: int) -> int:
    if when is None:
        return default
    if isinstance(when, datetime.datetime):
        return moment(source, when)
    if isinstance(when, datetime.time):
        return time_of_day(source, when)
    return source.start_ns + when
