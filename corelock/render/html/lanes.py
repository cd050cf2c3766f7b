"""Which threads get a lane of the timeline, and where their cycles go on the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from corelock.analysis.batches import batches
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.model import Report, Row, RowKey
from corelock.render.columns import process_label, thread_label
from corelock.render.grouping import Name, shown_id


@dataclass
class Lane:
    """A thread of one recording, or (``thread`` None) all its threads without lanes.

    ``wait_ns`` and ``hold_ns`` are what it waited and held in all chosen cycles, those included
    that had not ended; ``blamed_ns`` is what waits of others were charged to its holds.
    """

    source: int
    thread: Optional[int]
    name: str
    process: str
    threads: int = 1
    wait_ns: int = 0
    hold_ns: int = 0
    blamed_ns: int = 0

    @property
    def weight(self) -> tuple[int, int]:
        """What puts it above others: being in the way, or having somebody in its way."""
        return self.wait_ns + self.blamed_ns, self.hold_ns


def thread_name(row: Row) -> str:
    """``name[tid]``, with a star for a thread of another process."""
    return "".join(thread_label(Name(row.comm, shown_id(row.tid, row.host_tid)), row.foreign))


def process_name(row: Row) -> str:
    """``name[pid]`` of the process whose address space was locked."""
    return "".join(process_label(Name(row.mm_comm, shown_id(row.mm_pid, row.mm_host_pid))))


def lanes_of(
    sources: Sequence[Source], reports: Sequence[Report], selection: Selection, most: int
) -> list[Lane]:
    """The ``most`` threads that matter most, by recording; the rest of each in one more.

    Threads are those of the chosen cycles, however these ended, and those whose holds kept one
    of them waiting.
    """
    found: list[Lane] = []
    for at, (source, report) in enumerate(zip(sources, reports)):
        found += _threads(at, source, report, selection)
    found.sort(key=lambda lane: lane.weight, reverse=True)
    shown, rest = found[:most], found[most:]
    for at in sorted({lane.source for lane in rest}):
        others = [lane for lane in rest if lane.source == at]
        shown.append(_together(at, others))
    return sorted(shown, key=lambda lane: (lane.source, lane.thread is None))


def _threads(at: int, source: Source, report: Report, selection: Selection) -> Iterable[Lane]:
    threads: dict[int, Lane] = {}

    def lane_of(row: Row) -> Lane:
        lane = threads.get(row.thread_key)
        if lane is None:
            lane = Lane(at, row.thread_key, thread_name(row), process_name(row))
            threads[row.thread_key] = lane
        elif row.foreign:
            # Of a thread that locks several address spaces, a foreign one is named.
            lane.name, lane.process = thread_name(row), process_name(row)
        return lane

    for number, wait_ns, hold_ns in _times_by_row(source, selection):
        lane = lane_of(source.name(number))
        lane.wait_ns += wait_ns
        lane.hold_ns += hold_ns
    holders: dict[RowKey, Row] = {}
    blamed: dict[RowKey, int] = defaultdict(int)
    for charge in report.blame.blame.charges if report.blame else ():
        holders[charge.holder.key] = charge.holder
        blamed[charge.holder.key] += charge.charged_ns
    for key, row in holders.items():
        lane_of(row).blamed_ns += blamed[key]
    return threads.values()


def _times_by_row(source: Source, selection: Selection) -> Iterator[tuple[int, int, int]]:
    """Each row with a chosen cycle: its number, and ns of waiting and of holding.

    A report has no row of a thread whose only wait did not end, but the page has its cycle.
    """
    size = len(source.row_table)
    cycles, wait_ns, hold_ns = np.zeros(size, np.int64), np.zeros(size), np.zeros(size)
    for batch in batches(source, selection):
        cycles += np.bincount(batch.row, minlength=size)
        wait_ns += np.bincount(batch.row, batch.wait_ns, size)
        hold_ns += np.bincount(batch.row, batch.hold_ns, size)
    for number in np.flatnonzero(cycles).tolist():
        yield number, int(wait_ns[number]), int(hold_ns[number])


def _together(source: int, lanes: Sequence[Lane]) -> Lane:
    plural = "thread" if len(lanes) == 1 else "threads"
    return Lane(
        source, None, f"{len(lanes):,} more {plural}", "", len(lanes),
        sum(lane.wait_ns for lane in lanes), sum(lane.hold_ns for lane in lanes),
        sum(lane.blamed_ns for lane in lanes),
    )  # fmt: skip


def lane_by_row(sources: Sequence[Source], lanes: Sequence[Lane]) -> list[Any]:
    """For each recording the lane of each of its rows, an array by row number; -1: it has none."""
    return [_lanes_of_rows(source, at, lanes) for at, source in enumerate(sources)]


def _lanes_of_rows(source: Source, at: int, lanes: Sequence[Lane]) -> Any:
    own: Mapping[Optional[int], int] = {
        lane.thread: number for number, lane in enumerate(lanes) if lane.source == at
    }
    rest = own.get(None, -1)
    table = source.row_table
    by_row = np.array([own.get(thread, rest) for thread in table.thread.tolist()], np.int64)
    return np.where(table.known, by_row, -1)
