"""The thread that reads the tracer, and what it leaves for those that send or serve it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Optional

from corelock.exporters.metrics import Collected, State, of_accounting, of_series, of_state
from corelock.exporters.series import Accumulator
from corelock.model import Accounting, Host
from corelock.tracer import Tracer

#: Series of a name that nobody has any more stay so long: some scrapes at their slowest.
KEEP_NS = 300 * 10**9


class Collector:
    """Reads a tracer whenever told to; :attr:`latest` may be read by any thread.

    It is replaced whole and never changed: whoever reads it waits for nothing, and nothing
    waits for whoever reads it.
    """

    def __init__(self, tracer: Tracer, host: Host, max_processes: int) -> None:
        self._tracer = tracer
        self._host = host
        # One for all times: a start must not move when the clock is set.
        self._realtime_offset_ns = time.time_ns() - time.monotonic_ns()
        self._start_ns = self._to_realtime(tracer.start_ns)
        self._accumulator = Accumulator(max_processes, KEEP_NS, tracer.start_ns)
        self._before: Optional[Accounting] = None
        self._untraced_ns = 0
        self._rows = 0
        self.latest: Optional[Collected] = None

    @property
    def is_nearly_full(self) -> bool:
        """Whether the tracer will soon have no room for new rows, or has none already.

        Rows of threads and processes that have ended keep their places.
        """
        room = self._tracer.room
        return self._tracer.accounting().lost["map_full"] > 0 or 0 < room * 3 <= self._rows * 4

    def go_on_with(self, tracer: Tracer) -> None:
        """Take over from the tracer, which has stopped and was read since, by one with room."""
        old, self._tracer = self._tracer, tracer
        self._before = _added(self._before, old.accounting())
        self._untraced_ns += tracer.start_ns - old.start_ns - old.duration_ns
        self._accumulator.start_session()

    def accounting(self) -> Accounting:
        """Where all events went, of all tracers."""
        return _added(self._before, self._tracer.accounting())

    def collect(self) -> None:
        """Read the tracer, which may have stopped."""
        begun_ns = time.monotonic_ns()
        # The accounting first: its events are in the rows then, too.
        accounting = self.accounting()
        snapshot = self._tracer.snapshot()
        self._rows = len(snapshot.rows)
        self._accumulator.add(snapshot)
        start_ns, taken_ns = self._start_ns, time.time_ns()
        state = State(
            self._host.kernel,
            accounting.attached_by,
            time.monotonic_ns() - begun_ns,
            self._accumulator.names,
            self._accumulator.retired,
            self._untraced_ns,
        )
        self.latest = Collected(
            start_ns,
            taken_ns,
            (
                *of_series(self._accumulator.series(), self._to_realtime),
                *of_accounting(accounting, start_ns),
                *of_state(state, start_ns, taken_ns),
            ),
        )

    def _to_realtime(self, monotonic_ns: int) -> int:
        return monotonic_ns + self._realtime_offset_ns


def _added(before: Optional[Accounting], now: Accounting) -> Accounting:
    """Both together."""
    if before is None:
        return now
    return Accounting(
        **{
            field.name: _sum(getattr(before, field.name), getattr(now, field.name))
            for field in fields(Accounting)
        }
    )


def _sum(before: Any, now: Any) -> Any:
    if isinstance(now, Mapping):
        return {name: before.get(name, 0) + count for name, count in now.items()}
    return now if isinstance(now, str) else before + now
