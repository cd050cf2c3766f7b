"""Which hold kept each of the longest waits, and that hold itself if it is not among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from corelock.analysis.source import Source
from corelock.render.html.gather import Clock, Gathered

Columns = dict[str, Any]


def linked(
    sources: Sequence[Source], gathered: Gathered, blockers: Sequence[Any]
) -> tuple[Columns, Any]:
    """The longest cycles and the holds that kept them; for each the index of that hold, or -1.

    ``blockers`` are of :func:`blocking_holds`: of all cycles of a recording, whatever is chosen.
    """
    clock, lane_by_row = gathered.clock, gathered.lane_by_row
    cycles = gathered.longest.columns()
    if not cycles:
        return cycles, np.empty(0, np.int64)
    kept_by = np.full(len(cycles["number"]), -1, np.int64)
    more: list[Columns] = []
    added = len(kept_by)
    for at, source in enumerate(sources):
        (own,) = np.nonzero(cycles["source"] == at)
        holds = blockers[at][cycles["number"][own]]
        place = {number: own[i] for i, number in enumerate(cycles["number"][own].tolist())}
        missing = np.setdiff1d(holds[holds >= 0], cycles["number"][own])
        found = _read(source, at, clock, lane_by_row[at], missing)
        place.update((number, added + i) for i, number in enumerate(found["number"].tolist()))
        added += len(found["number"])
        more.append(found)
        kept_by[own] = [place.get(number, -1) for number in holds.tolist()]
    together = {
        name: np.concatenate([column, *(found[name] for found in more)])
        for name, column in cycles.items()
    }
    # Who kept the holds that were added is not looked up: they are there to be pointed at.
    return together, np.concatenate([kept_by, np.full(added - len(kept_by), -1, np.int64)])


def _read(source: Source, at: int, clock: Clock, lane_of_row: Any, numbers: Any) -> Columns:
    """The cycles of these numbers (ascending) that have a lane, as :class:`Longest` has them."""
    parts: list[Mapping[str, Any]] = [_columns(at, clock, lane_of_row, None, numbers[:0], 0)]
    first = 0
    for block in source.recording:
        begin, end = np.searchsorted(numbers, (first, first + len(block)))
        if end > begin:
            index = numbers[begin:end] - first
            index = index[block.row[index] < len(lane_of_row)]
            index = index[lane_of_row[block.row[index]] >= 0]
            parts.append(_columns(at, clock, lane_of_row, block, index, first))
        first += len(block)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _columns(
    at: int, clock: Clock, lane_of_row: Any, block: Any, index: Any, first: int
) -> Columns:
    def of(name: str, dtype: Any) -> Any:
        return np.empty(0, dtype) if block is None else getattr(block, name)[index].astype(dtype)

    row = of("row", np.uint32)
    return {
        "source": np.full(len(index), at, np.uint16), "lane": lane_of_row[row].astype(np.uint32),
        "row": row, "kind": of("kind", np.uint8), "number": index.astype(np.int64) + first,
        "end": clock.on_page(at, of("end_ns", np.uint64)),
        "wait_ns": of("wait_ns", np.float64), "hold_ns": of("hold_ns", np.float64),
        "wait_stack": _stack(block, index, "wait_stack"),
        "hold_stack": _stack(block, index, "hold_stack"),
    }  # fmt: skip


def _stack(block: Any, index: Any, name: str) -> Any:
    if block is None:
        return np.empty(0, np.uint32)
    at = np.searchsorted(block.stacked_index, index)
    found = np.zeros(len(index), np.uint32)
    inside = at < len(block.stacked_index)
    inside[inside] = block.stacked_index[at[inside]] == index[inside]
    found[inside] = getattr(block, name)[at[inside]]
    return found
