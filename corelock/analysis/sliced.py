"""Waits and holds of a recording by group and by slices of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from corelock.analysis.batches import Progress, batches
from corelock.analysis.buckets import buckets_of
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.histogram import BUCKETS, bucket_bounds
from corelock.recording import DOWNGRADED, ENDING, HOLDING, NO_WAIT, RELEASED

WAIT, HOLD = 0, 1

_MIDDLE_NS = np.array([(low + high - 1) // 2 for low, high in map(bucket_bounds, range(BUCKETS))])


class Sliced(NamedTuple):
    """Arrays by group, by ``WAIT`` or ``HOLD``, and, but for ``max_ns``, by slice of time.

    A cycle counts in the slice in which it ended. ``cell`` (ascending) is the index of a group,
    kind and slice and a histogram's bucket, all flattened, in which there are ``cell_count``.
    """

    count: Any
    total_ns: Any
    max_ns: Any
    cell: Any
    cell_count: Any

    def quantile(self, q: float) -> Any:
        """By group, kind and slice, in ns, nearest rank; NaN: none."""
        return _quantile(self.cell, self.cell_count, self.count, q)

    def whole_quantile(self, q: float) -> Any:
        """By group and kind, of all slices together, in ns, nearest rank; NaN: none."""
        slices = self.count.shape[2]
        cell = self.cell // (slices * BUCKETS) * BUCKETS + self.cell % BUCKETS
        cell, count = _summed(cell, self.cell_count)
        found = _quantile(cell, count, self.count.sum(axis=2), q)
        return np.minimum(found, self.max_ns)


def slice_up(
    source: Source, group_of_row: Any, groups: int, edges_ns: Sequence[int],
    progress: Optional[Progress] = None,
) -> Sliced:  # fmt: skip
    """All cycles of ``source``; ``group_of_row`` is an array by row number.

    ``edges_ns`` are the beginnings of the slices and the end of the last; what ended outside of
    them is in the nearest.
    """
    slices = len(edges_ns) - 1
    shape = groups, 2, slices
    count, total, longest = (np.zeros(shape, np.int64) for _ in range(3))
    cells: list[tuple[Any, Any]] = []
    inner = np.array(edges_ns[1:-1], np.uint64)
    for batch in batches(source, Selection(), progress):
        ending = batch.kind & ENDING
        held = (ending == RELEASED) | (ending == DOWNGRADED)
        waited = (held | (ending == HOLDING)) & ((batch.kind & NO_WAIT) == 0)
        at = group_of_row[batch.row] * 2 * slices + np.searchsorted(inner, batch.end_ns, "right")
        for kind, mask, times in ((WAIT, waited, batch.wait_ns), (HOLD, held, batch.hold_ns)):
            where, ns = at[mask] + kind * slices, times[mask]
            if not len(ns):
                continue
            order = np.argsort(where, kind="stable")
            where, ns = where[order], ns[order]
            first = np.flatnonzero(np.diff(where, prepend=-1))
            into = where[first]
            count.ravel()[into] += np.diff(np.append(first, len(where)))
            total.ravel()[into] += np.add.reduceat(ns.astype(np.int64), first)
            highest = np.maximum.reduceat(ns, first).astype(np.int64)
            longest.ravel()[into] = np.maximum(longest.ravel()[into], highest)
            cells.append(np.unique(where * BUCKETS + buckets_of(ns), return_counts=True))
        if len(cells) > 64:
            cells = [_summed(*map(np.concatenate, zip(*cells)))]
    none = np.empty(0, np.int64)
    cell, cell_count = _summed(*map(np.concatenate, zip((none, none), *cells)))
    return Sliced(count, total, longest.max(axis=2), cell, cell_count)


def _summed(cell: Any, count: Any) -> tuple[Any, Any]:
    order = np.argsort(cell, kind="stable")
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    if not len(first):
        return cell, count
    return cell[order][first], np.add.reduceat(count[order], first)


def _quantile(cell: Any, cell_count: Any, totals: Any, q: float) -> Any:
    flat = totals.ravel()
    upto = np.append(0, np.cumsum(cell_count))
    begin = upto[np.searchsorted(cell, np.arange(len(flat)) * BUCKETS)]
    some = np.flatnonzero(flat)
    # As many as that are at or below it.
    rank = begin[some] + np.maximum(np.ceil(q * flat[some]), 1)
    found = np.full(len(flat), np.nan)
    found[some] = _MIDDLE_NS[cell[np.searchsorted(upto[1:], rank)] % BUCKETS]
    return found.reshape(totals.shape)
