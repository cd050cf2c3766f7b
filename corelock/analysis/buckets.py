"""Waits or holds of many cycles as totals, maxima and histograms by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from corelock.histogram import BUCKETS, SUB_BUCKETS, Histogram
from corelock.model import Times
from corelock.recording import U32, U64

_PACKED = np.dtype([("index", "=u4"), ("", "=u4"), ("count", "=u8")])
# A double has its exponent and the bits after the leading one where a bucket's number has them.
_SUB_SHIFT = 52 - (SUB_BUCKETS.bit_length() - 1)
_FIRST = (1023 + 2) * SUB_BUCKETS


def buckets_of(values_ns: Any) -> U32:
    """:func:`corelock.histogram.bucket_of` of each of an array of unsigned times."""
    bits = values_ns.astype(np.float64).view(np.uint64) >> np.uint64(_SUB_SHIFT)
    large = np.minimum(bits, np.uint64(_FIRST + BUCKETS - 1)) - np.uint64(_FIRST)
    buckets: U32 = np.where(values_ns < SUB_BUCKETS, values_ns, large).astype(np.uint32)
    return buckets


class TimesByRow:
    """Adds up times by row number, for rows below ``size``."""

    def __init__(self, size: int) -> None:
        self._total: U64 = np.zeros(size, np.uint64)
        self._max: U64 = np.zeros(size, np.uint64)
        # Memory that nothing was counted in is never touched, so it costs nothing.
        self._counts = np.zeros(size * BUCKETS, np.uint64)

    def add(self, row: U32, values_ns: Any) -> None:
        """Add times, each to the row at the same place."""
        if not len(row):
            return
        order = np.argsort(row)
        rows, values = row[order], values_ns[order]
        first = _runs(rows)
        at = rows[first]
        self._total[at] += np.add.reduceat(values, first, dtype=np.uint64)
        self._max[at] = np.maximum(self._max[at], np.maximum.reduceat(values, first))
        keys = np.sort(rows.astype(np.uint64) * np.uint64(BUCKETS) + buckets_of(values))
        first = _runs(keys)
        # Each key is here once: adding by index leaves none out.
        self._counts[keys[first]] += np.diff(first, append=len(keys)).astype(np.uint64)

    def times(self, row: int) -> Times:
        """Those of a row."""
        counts = self._counts[row * BUCKETS : (row + 1) * BUCKETS]
        indices = np.flatnonzero(counts)
        packed = np.zeros(len(indices), _PACKED)
        packed["index"] = indices
        packed["count"] = counts[indices]
        longest = int(self._max[row])
        return Times(
            int(counts.sum()), int(self._total[row]), longest, 0, Histogram(packed.tobytes())
        )


def _runs(ordered: Any) -> Any:
    """Where equal values of an ordered array begin."""
    return np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
