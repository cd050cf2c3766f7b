"""The thread that reads the tracer, and what it leaves for those that send or serve it."""

from __future__ import annotations

import time
from typing import Optional

from corelock.exporters.metrics import Collected, State, of_accounting, of_series, of_state
from corelock.exporters.series import Accumulator
from corelock.model import Host
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
        self._accumulator = Accumulator(max_processes, KEEP_NS, tracer.start_ns)
        self.latest: Optional[Collected] = None

    def collect(self) -> None:
        """Read the tracer, which may have stopped."""
        begun_ns = time.monotonic_ns()
        # The accounting first: its events are in the rows then, too.
        accounting = self._tracer.accounting()
        self._accumulator.add(self._tracer.snapshot())
        start_ns, taken_ns = self._to_realtime(self._tracer.start_ns), time.time_ns()
        state = State(
            self._host.kernel,
            accounting.attached_by,
            time.monotonic_ns() - begun_ns,
            self._accumulator.names,
            self._accumulator.retired,
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
