"""Who was in whose way, worked out from ftrace's events: the witness for blame.

Moment by moment, without regard to how corelock does it: at each moment of a
wait the lock was held by the holds that cover it, and of several readers the
one that left last is the one that was waited for. A reader is not kept out by
readers, unless a writer got the lock between them and it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Optional

from tests.witness import Event


class Span(NamedTuple):
    """A wait or a hold: from when to when, by whom, for writing or not."""

    start_ns: int
    end_ns: int
    tid: int
    write: bool


class Due(NamedTuple):
    """Whose waits were due to whose holds."""

    waiter: int
    waiter_write: bool
    holder: int
    holder_write: bool


def spans(events: Iterable[Event]) -> tuple[list[Span], list[Span]]:
    """Waits that ended with the lock, and holds that ended, of one mm's events in order of time."""
    asked: dict[tuple[int, bool], list[int]] = defaultdict(list)
    held: dict[tuple[int, bool], list[int]] = defaultdict(list)
    waits, holds = [], []
    for event in events:
        key = event.tid, event.write
        if event.kind == "start":
            asked[key].append(event.ts_ns)
        elif event.kind == "release":
            if held[key]:
                holds.append(Span(held[key].pop(), event.ts_ns, *key))
        elif asked[key]:
            start_ns = asked[key].pop()
            if event.success:
                waits.append(Span(start_ns, event.ts_ns, *key))
                held[key].append(event.ts_ns)
        elif event.success and held[event.tid, True]:
            holds.append(Span(held[event.tid, True].pop(), event.ts_ns, event.tid, True))
            held[key].append(event.ts_ns)
    return waits, holds


def blame(events: Iterable[Event]) -> tuple[dict[Due, int], int]:
    """The time of waits due to each holder in ns, and the time of all waits; of one mm."""
    waits, holds = spans(events)
    return due_to(waits, holds), sum(wait.end_ns - wait.start_ns for wait in waits)


def due_to(waits: Iterable[Span], holds: Iterable[Span]) -> dict[Due, int]:
    """The time of waits of one mm due to each holder in ns."""
    # Holds of about the same length together: one long one makes the search no longer for all.
    alike: dict[int, list[Span]] = defaultdict(list)
    for hold in sorted(holds, key=lambda hold: hold.end_ns):
        alike[(hold.end_ns - hold.start_ns).bit_length()].append(hold)
    searched = [(1 << bits, [h.end_ns for h in some], some) for bits, some in alike.items()]
    due: dict[Due, int] = defaultdict(int)
    for wait in waits:
        overlapping = []
        for longest_ns, ends, some in searched:
            for at in range(bisect_right(ends, wait.start_ns), len(some)):
                hold = some[at]
                if hold.end_ns - longest_ns > wait.end_ns:
                    break
                if hold.start_ns < wait.end_ns:
                    overlapping.append(hold)
        overlapping.sort(key=lambda hold: hold.end_ns)
        moments = {wait.start_ns, wait.end_ns}
        for hold in overlapping:
            moments |= {hold.start_ns, hold.end_ns}
        ordered = sorted(m for m in moments if wait.start_ns <= m <= wait.end_ns)
        for begin_ns, end_ns in zip(ordered, ordered[1:]):
            blocker = _blocker(wait, overlapping, begin_ns)
            if blocker is not None:
                key = Due(wait.tid, wait.write, blocker.tid, blocker.write)
                due[key] += end_ns - begin_ns
    return dict(due)


def _blocker(wait: Span, holds: list[Span], moment_ns: int) -> Optional[Span]:
    covering = [hold for hold in holds if hold.start_ns <= moment_ns < hold.end_ns]
    if not wait.write:
        covering = [
            hold
            for hold in covering
            if hold.write or any(o.write and o.start_ns >= hold.end_ns for o in holds)
        ]
    return max(covering, key=lambda hold: hold.end_ns, default=None)


def agreement(ours: dict[Due, int], theirs: dict[Due, int]) -> float:
    """The share of the witness's time that was charged to the same holder."""
    same = sum(min(ns, ours.get(key, 0)) for key, ns in theirs.items())
    return same / sum(theirs.values())
