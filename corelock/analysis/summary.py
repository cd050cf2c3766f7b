"""A recording as a report: rows with their times, the slowest, the accounting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Optional

import numpy as np

from corelock._rows import Reading, merged
from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.buckets import TimesByRow
from corelock.analysis.selection import Selection
from corelock.analysis.slowest import Slowest
from corelock.analysis.source import Source
from corelock.model import Accounting, Report, Row
from corelock.recording import (
    ABORTED,
    DOWNGRADED,
    ENDING,
    FAILED,
    HOLDING,
    NO_WAIT,
    RELEASED,
)


def summarize(
    sources: Iterable[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
    *,
    slowest: int = 3,
) -> list[tuple[Source, Report]]:
    """Each source with the report of its chosen cycles, and its ``slowest`` waits and holds.

    Rows count as those of a live trace do: a wait once it got the lock, a hold once it ended.
    ``accounting`` is that of the whole recording, None if that was cut.
    """
    return [(source, _summary(source, selection, progress, slowest)) for source in sources]


def _summary(
    source: Source, selection: Selection, progress: Optional[Progress], slowest: int
) -> Report:
    counts = _Counts(source, slowest)
    for batch in batches(source, selection, progress):
        counts.add(batch)
    start_ns, end_ns = selection.span(source)
    return Report(
        source.host, source.target, start_ns, end_ns - start_ns, counts.rows(),
        (*counts.slow_waits.events(), *counts.slow_holds.events()),
        accounting_of(source.recording.footer), None, source.cgroup,
    )  # fmt: skip


class _Counts:
    """What is counted of each row."""

    def __init__(self, source: Source, slowest: int) -> None:
        self._source = source
        known = source.row_table.known
        # Numbers of rows may be high and far between.
        self._slot = (np.cumsum(known) - 1).astype(np.int32)
        size = int(np.count_nonzero(known))
        self._waits, self._holds = TimesByRow(size), TimesByRow(size)
        self._endings = {
            ending: np.zeros(size, np.int64) for ending in (DOWNGRADED, FAILED, ABORTED)
        }
        self.slow_waits = Slowest(source, "wait", slowest)
        self.slow_holds = Slowest(source, "hold", slowest)

    def add(self, batch: Batch) -> None:
        ending, slot = batch.kind & ENDING, self._slot[batch.row]
        held = (ending == RELEASED) | (ending == DOWNGRADED)
        waited = (held | (ending == HOLDING)) & ((batch.kind & NO_WAIT) == 0)
        self._add(self._waits, slot, batch.wait_ns, waited)
        self._add(self._holds, slot, batch.hold_ns, held)
        self.slow_waits.add(batch, np.flatnonzero(waited))
        self.slow_holds.add(batch, np.flatnonzero(held))
        for which, counts in self._endings.items():
            slots = slot[ending == which]
            if len(slots):
                counts += np.bincount(slots, minlength=len(counts))

    @staticmethod
    def _add(times: TimesByRow, slot: Any, values_ns: Any, mask: Any) -> None:
        if mask.all():
            times.add(slot, values_ns)
        else:
            times.add(slot[mask], values_ns[mask])

    def rows(self) -> tuple[Row, ...]:
        """The rows in which anything was counted, under their final names."""
        readings = (self._reading(*item) for item in self._source.readings.items())
        active = (reading for reading in readings if reading.row.is_active)
        return tuple(merged(active, self._source.names).values())

    def _reading(self, number: int, reading: Reading) -> Reading:
        slot = int(self._slot[number])
        row = replace(
            reading.row,
            downgrades=int(self._endings[DOWNGRADED][slot]),
            trylock_failures=int(self._endings[FAILED][slot]),
            aborted_waits=int(self._endings[ABORTED][slot]),
            wait=self._waits.times(slot),
            hold=self._holds.times(slot),
        )
        return reading._replace(row=row)


def accounting_of(footer: Optional[Mapping[str, Any]]) -> Optional[Accounting]:
    """What a footer says of events, None if there is none."""
    if footer is None:
        return None
    said = footer["accounting"]
    return Accounting(
        events=said["events"],
        paired=said["paired"],
        held_at_start=said["held_at_start"],
        held_at_end=said["held_at_end"],
        unmatched=said["unmatched"],
        lost=said["lost"],
        slow_recorded=said["slow_recorded"],
        slow_lost=said["slow_lost"],
        children_not_followed=said["children_not_followed"],
        self_events=said["self"],
        hooks_missed=said.get("hooks_missed") or 0,
        charges_full=said.get("charges_full") or 0,
        open_waits=said.get("open_waits") or 0,
        attached_by=said.get("attached_by") or "tp_btf",
    )
