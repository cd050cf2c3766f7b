"""What cycles are made into: everything on the page that is not in a report's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.clocks import wall_ns
from corelock.analysis.longest import LongestOfEach
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.model import Report
from corelock.recording import ABORTED, DOWNGRADED, ENDING, FAILED, NO_WAIT, RELEASED, WAITING
from corelock.render.html.heat import HeatMap
from corelock.render.html.lanes import Lane, lane_by_row, lanes_of
from corelock.render.html.shading import READ_HOLD, WAIT, WRITE_HOLD, Shading


@dataclass(frozen=True)
class Limits:
    """How much of a recording a page shows in detail, which bounds its size.

    ``slices`` cycles one by one, ``lanes`` threads apart, ``columns`` of time in heat maps,
    ``cells`` (lanes x columns) in the timeline's shading, ``frames`` in a flame graph,
    ``stacks`` of single cycles, ``rows`` of each table.
    """

    slices: int = 20_000
    lanes: int = 255
    columns: int = 2048
    cells: int = 1 << 19
    frames: int = 4000
    stacks: int = 4000
    rows: int = 200


LIMITS = Limits()


class Clock:
    """Moments of several recordings as ns since the page begins.

    A recording's own clock is kept; several are laid side by side by what the wall clocks of
    their hosts said when their spans began.
    """

    def __init__(self, sources: Sequence[Source], selection: Selection) -> None:
        spans = [selection.span(source) for source in sources]
        walls = [wall_ns(source, span[0]) for source, span in zip(sources, spans)]
        self.wall_ns = min(walls)
        self._origins = [span[0] - (wall - self.wall_ns) for span, wall in zip(spans, walls)]
        self.span_ns = max(1, *(span[1] - origin for span, origin in zip(spans, self._origins)))

    def on_page(self, source: int, monotonic_ns: Any) -> Any:
        """Moments of a recording (uint64), as float64: exact to 104 days."""
        return monotonic_ns.astype(np.int64).astype(np.float64) - self._origins[source]

    def start_of(self, source: int) -> int:
        """The moment of that recording at which the page begins (``CLOCK_MONOTONIC``)."""
        return self._origins[source]


@dataclass
class Gathered:
    """What the pass found. ``busy`` is ns of waiting and of holding by column of time."""

    clock: Clock
    lanes: Sequence[Lane]
    columns: int
    wait_heat: HeatMap
    hold_heat: HeatMap
    shading: Shading
    busy: Shading
    longest: LongestOfEach
    lane_by_row: Sequence[Any]
    #: By recording, kind and stack id: nanoseconds and cycles.
    stacks: dict[tuple[int, str, int], list[int]] = field(default_factory=dict)
    cycles: int = 0


def gather(
    sources: Sequence[Source], reports: Sequence[Report], selection: Selection, limits: Limits,
    progress: Optional[Progress] = None,
) -> Gathered:  # fmt: skip
    """Read all cycles, once to know the lanes and once to fill the page.

    Memory does not depend on how many there are.
    """
    clock = Clock(sources, selection)
    lanes = lanes_of(sources, reports, selection, limits.lanes)
    columns = max(limits.columns // 4, min(8 * limits.columns, limits.cells // max(1, len(lanes))))
    gathered = Gathered(
        clock, lanes, columns,
        HeatMap(clock.span_ns, limits.columns), HeatMap(clock.span_ns, limits.columns),
        Shading(clock.span_ns, len(lanes), columns), Shading(clock.span_ns, 1, limits.columns),
        LongestOfEach(limits.slices), lane_by_row(sources, lanes),
    )  # fmt: skip
    for at, source in enumerate(sources):
        for batch in batches(source, selection, progress):
            _add(gathered, at, batch, gathered.lane_by_row[at])
    return gathered


def _add(gathered: Gathered, source: int, batch: Batch, lane_of_row: Any) -> None:
    """One batch, added to all that counts."""
    end = gathered.clock.on_page(source, batch.end_ns)
    wait, hold = batch.wait_ns.astype(np.float64), batch.hold_ns.astype(np.float64)
    begun = end - hold
    lane = lane_of_row[batch.row]
    ending = batch.kind & ENDING
    waited = (batch.kind & NO_WAIT) == 0
    got = ~np.isin(ending, (FAILED, ABORTED, WAITING))
    ended = (ending == RELEASED) | (ending == DOWNGRADED)
    # What counts as a wait or a hold is as in the rows of a report.
    gathered.wait_heat.add(begun[waited & got], wait[waited & got])
    gathered.hold_heat.add(end[ended], hold[ended])
    hold_plane = np.where(batch.source.row_table.mode[batch.row] == 1, WRITE_HOLD, READ_HOLD)
    planes = np.concatenate([np.full(len(end), WAIT), hold_plane])
    begins, ends = np.concatenate([begun - wait, begun]), np.concatenate([begun, end])
    gathered.shading.add(planes, np.concatenate([lane, lane]), begins, ends)
    gathered.busy.add(planes, np.zeros(len(planes), np.int64), begins, ends)
    gathered.longest.add(
        {
            "source": np.full(len(end), source, np.uint16), "lane": lane.astype(np.uint32),
            "row": batch.row, "kind": batch.kind, "number": batch.number, "end": end,
            "wait_ns": wait, "hold_ns": hold,
            "wait_stack": _dense(batch, batch.wait_stack),
            "hold_stack": _dense(batch, batch.hold_stack),
        }
    )  # fmt: skip
    _add_stacks(gathered, source, batch, "wait", batch.wait_stack, batch.wait_ns)
    _add_stacks(gathered, source, batch, "hold", batch.hold_stack, batch.hold_ns)
    gathered.cycles += len(end)


def _dense(batch: Batch, ids: Any) -> Any:
    stacks = np.zeros(len(batch.row), np.uint32)
    stacks[batch.stacked] = ids
    return stacks


def _add_stacks(
    gathered: Gathered, source: int, batch: Batch, kind: str, ids: Any, times: Any
) -> None:
    (has,) = np.nonzero(ids)
    at = batch.stacked[has]
    # One row of a stack's cycles names all of them: who it is of comes with the row.
    pairs = ids[has].astype(np.uint64) << np.uint64(32) | batch.row[at].astype(np.uint64)
    unique, inverse, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    totals = np.zeros(len(unique), np.uint64)
    np.add.at(totals, inverse, times[at].astype(np.uint64))
    for pair, total, count in zip(unique.tolist(), totals.tolist(), counts.tolist()):
        sums = gathered.stacks.setdefault((source, kind, pair), [0, 0])
        sums[0] += total
        sums[1] += count
