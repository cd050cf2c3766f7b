"""Keeping the slowest, by interval and in whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

from corelock.cli.run import Slowest
from corelock.model import SlowEvent
from corelock.tracer import Tracer


def event(duration_ns: int, kind: Literal["wait", "hold"] = "hold") -> SlowEvent:
    return SlowEvent(
        kind=kind, start_ns=0, duration_ns=duration_ns, mm_pid=1, mm_host_pid=1,
        mm_comm="p", pid=1, tid=1, host_pid=1, host_tid=1,
        comm="t", mode="write", operation="mmap", kernel_stack=(), user_stack=(),
        user_stack_full=False, stack_failed=False, user_context=None, process_key=0, program=None,
    )  # fmt: skip


class Ring:
    """A tracer whose kernel sends nothing below the threshold of the last read."""

    def __init__(self) -> None:
        self.least = 0
        self.waiting: list[SlowEvent] = []

    def send(self, *durations_ns: int) -> None:
        self.waiting += [event(ns) for ns in durations_ns if ns >= self.least]

    def slow_events(self, min_wait_ns: int, min_hold_ns: int) -> Iterator[SlowEvent]:
        self.least = min_hold_ns
        taken, self.waiting = self.waiting, []
        return (each for each in taken if each.duration_ns >= min_hold_ns)


def durations(events: list[SlowEvent]) -> list[int]:
    return [each.duration_ns for each in events]


def test_each_interval_has_its_own_slowest_and_the_run_has_those_of_all() -> None:
    ring, seen = Ring(), []
    tracer, slowest = cast(Tracer, ring), Slowest(2, seen.append)
    ring.send(5, 900, 800)
    slowest.take(tracer)
    ring.send(700, 850)
    assert durations(slowest.end_interval(tracer)) == [900, 850]
    ring.send(3, 2, 1)  # sent: with the interval the bar is down again
    assert durations(slowest.end_interval(tracer)) == [3, 2]
    ring.send(860)
    assert durations(slowest.whole(tracer)) == [900, 860]
    assert durations(seen) == [5, 900, 800, 850, 3, 2, 1, 860]
