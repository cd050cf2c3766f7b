"""Tracing the own thread for a moment: whether the counts are right, and what an event costs."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Optional

from corelock._native import take_locks
from corelock.model import Accounting, Snapshot
from corelock.tracer import ATTACH, Attach, Tracer

# Loops short enough that most are not interrupted, each so many locks of either mode.
_LOOPS = 15
_LOCKS = 200
_EVENTS = 2 * 3 * _LOCKS
#: Locks of either mode that a trial takes.
TAKEN = _LOOPS * _LOCKS

_ROUNDS = 5
_ROUNDS_S = 0.4

#: What ``take_locks`` does, and in which mode that takes the lock.
_OPERATIONS = {"munlock": "write", "msync": "read"}


@dataclass(frozen=True)
class Trial:
    """How tracing went. ``problem`` says what it counted wrong, None: nothing."""

    attached_by: Attach
    locks: int
    problem: Optional[str]
    event_cost_ns: float


def try_tracing(attach: Optional[Attach] = None, btf: Optional[str] = None) -> Trial:
    """Take a known number of locks, the same with tracing and without it before and after.

    ``attach`` and ``btf`` are as of :class:`Tracer`, which says what it raises, too.
    """
    before_ns = _loop_ns()
    with Tracer(pid=os.getpid(), slow_ns=None, attach=attach, btf=btf) as tracer:
        traced_ns = _loop_ns()
        tracer.stop()
        plain_ns = min(before_ns, _loop_ns())
        return Trial(
            next(way for way in ATTACH if way == tracer.attached_by),
            len(_OPERATIONS) * TAKEN,
            what_is_wrong(tracer.snapshot(), tracer.accounting()),
            (traced_ns - plain_ns) / _EVENTS,
        )


def event_cost_ns(first: Trial, btf: Optional[str] = None) -> int:
    """What tracing adds to an event: the median of some more rounds, for at most 0.4 s."""
    costs_ns = [first.event_cost_ns]
    end = time.monotonic() + _ROUNDS_S
    while len(costs_ns) < _ROUNDS and time.monotonic() < end:
        costs_ns.append(try_tracing(first.attached_by, btf).event_cost_ns)
    return max(0, round(sorted(costs_ns)[len(costs_ns) // 2]))


def _loop_ns() -> int:
    """Of the loop that was disturbed the least."""
    times_ns = []
    for _ in range(_LOOPS):
        start_ns = time.perf_counter_ns()
        take_locks(_LOCKS)
        times_ns.append(time.perf_counter_ns() - start_ns)
    return min(times_ns)


def what_is_wrong(snapshot: Snapshot, accounting: Accounting) -> Optional[str]:
    """What of this thread's locks was not counted, or not as what it was; None: nothing."""
    own = threading.get_native_id()
    counted = {
        row.operation: (row.wait.count, row.hold.count)
        for row in snapshot.rows
        if row.tid == own and _OPERATIONS.get(row.operation) == row.mode
    }
    for operation, mode in _OPERATIONS.items():
        waits, holds = counted.get(operation, (0, 0))
        if (waits, holds) != (TAKEN, TAKEN):
            return (
                f"of {TAKEN} {mode} locks by {operation} it counted "
                f"{waits} waits and {holds} holds"
            )
    if accounting.unaccounted:
        return f"{accounting.unaccounted} events are unaccounted for"
    return None
