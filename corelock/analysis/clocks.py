"""Wall-clock time in a recording, whose own clock stands still while the host is suspended."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from corelock.analysis.source import Source

_DAY_S = 86_400
#: Of two clocks that should agree, as NTP moves one of them meanwhile.
_SET_NS = 500_000_000
_SUSPENDED_NS = 1_000_000


class Drift(NamedTuple):
    """What happened to the clocks between a recording's beginning and its end."""

    suspended_ns: int  # the host slept so long; in no time of the recording
    set_ns: int  # the wall clock was set forward by this; 0 if by less than half a second

    def __bool__(self) -> bool:
        return bool(self.suspended_ns or self.set_ns)


def drift(source: Source) -> Drift:
    """How far the clocks went apart."""
    clocks = source.recording.clocks
    suspended = clocks[-1].boottime_offset_ns - clocks[0].boottime_offset_ns
    moved = clocks[-1].realtime_offset_ns - clocks[0].realtime_offset_ns - suspended
    return Drift(
        suspended if suspended >= _SUSPENDED_NS else 0, moved if abs(moved) >= _SET_NS else 0
    )


def wall_ns(source: Source, monotonic_ns: int) -> int:
    """What the host's wall clock said then (``CLOCK_REALTIME``)."""
    clocks = source.recording.clocks
    later = [clock for clock in clocks if clock.monotonic_ns >= monotonic_ns]
    return monotonic_ns + (later[0] if later else clocks[-1]).realtime_offset_ns


def monotonic_ns(source: Source, wall: int) -> int:
    """When the wall clock said ``wall`` ns: a time that the host slept through is its waking."""
    reached = 0
    for clock in source.recording.clocks:
        if wall <= clock.monotonic_ns + clock.realtime_offset_ns:
            return max(wall - clock.realtime_offset_ns, reached)
        reached = clock.monotonic_ns
    return wall - source.recording.clocks[-1].realtime_offset_ns


def time_of_day(source: Source, time: datetime.time) -> int:
    """The moment of the recording at which local clocks showed ``time``; monotonic ns.

    Of several days the first on which it lies in the recording, or else comes nearest to it.
    """
    start, end = (wall_ns(source, at) / 1e9 for at in (source.start_ns, source.end_ns))
    first = datetime.datetime.fromtimestamp(start).date()
    days = int((end - start) // _DAY_S) + 2
    candidates = [
        datetime.datetime.combine(first + datetime.timedelta(day), time).timestamp()
        for day in range(-1, days + 1)
    ]
    best = min(candidates, key=lambda at: max(start - at, at - end, 0))
    return monotonic_ns(source, round(best * 1_000_000) * 1000)


def moment(source: Source, at: datetime.datetime) -> int:
    """The moment of the recording at that date and time, local unless it says of where."""
    return monotonic_ns(source, round(at.timestamp() * 1_000_000) * 1000)
