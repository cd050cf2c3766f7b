"""Which threads get a lane of the timeline, and where their cycles go on the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from corelock.analysis.source import Source
from corelock.model import Report, Row
from corelock.render.columns import process_label, thread_label
from corelock.render.grouping import Name, shown_id


@dataclass
class Lane:
    """A thread of one recording, or (``thread`` None) all its threads without lanes.

    ``wait_ns`` and ``hold_ns`` are what it waited and held in all; ``blamed_ns`` is what
    waits of others were charged to its holds.
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


def lanes_of(reports: Sequence[Report], most: int) -> list[Lane]:
    """The ``most`` threads that matter most, by recording; the rest of each in one more."""
    found: list[Lane] = []
    for source, report in enumerate(reports):
        blamed: dict[int, int] = defaultdict(int)
        for charge in report.blame.blame.charges if report.blame else ():
            blamed[charge.holder.thread_key] += charge.charged_ns
        threads: dict[int, Lane] = {}
        for row in report.rows:
            lane = threads.get(row.thread_key)
            if lane is None or row.foreign:
                # Of a thread that locks several address spaces, a foreign one is named.
                lane = Lane(source, row.thread_key, thread_name(row), process_name(row))
                lane = threads[row.thread_key] = _joined(lane, threads.get(row.thread_key))
            lane.wait_ns += row.wait.total_ns
            lane.hold_ns += row.hold.total_ns
        for key, lane in threads.items():
            lane.blamed_ns = blamed[key]
        found += threads.values()
    found.sort(key=lambda lane: lane.weight, reverse=True)
    shown, rest = found[:most], found[most:]
    for source in sorted({lane.source for lane in rest}):
        others = [lane for lane in rest if lane.source == source]
        shown.append(_together(source, others))
    return sorted(shown, key=lambda lane: (lane.source, lane.thread is None))


def _joined(lane: Lane, earlier: Optional[Lane]) -> Lane:
    if earlier is not None:
        lane.wait_ns, lane.hold_ns = earlier.wait_ns, earlier.hold_ns
    return lane


def _together(source: int, lanes: Sequence[Lane]) -> Lane:
    plural = "thread" if len(lanes) == 1 else "threads"
    return Lane(
        source, None, f"{len(lanes):,} more {plural}", "", len(lanes),
        sum(lane.wait_ns for lane in lanes), sum(lane.hold_ns for lane in lanes),
        sum(lane.blamed_ns for lane in lanes),
    )  # fmt: skip


def lane_by_row(sources: Sequence[Source], lanes: Sequence[Lane]) -> list[Any]:
    """For each recording the lane of each of its rows, an array by row number."""
    return [_lanes_of_rows(source, at, lanes) for at, source in enumerate(sources)]


def _lanes_of_rows(source: Source, at: int, lanes: Sequence[Lane]) -> Any:
    own: Mapping[Optional[int], int] = {
        lane.thread: number for number, lane in enumerate(lanes) if lane.source == at
    }
    rest = own.get(None, 0)
    threads = source.row_table.thread
    return np.array([own.get(thread, rest) for thread in threads.tolist()], np.uint32)
