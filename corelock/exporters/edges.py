"""The buckets that monitoring systems are given: some of the kernel's, joined, so counts are exact.

A kernel bucket is a half-open range of whole ns, ``[low, high)``; theirs are given by an
inclusive upper edge (Prometheus' ``le``, OpenTelemetry's bounds). An edge is therefore the
last whole ns before a power of two, 1023 ns and not 1024: what was counted below it is
exactly what is less or equal.
"""

from __future__ import annotations

from corelock.histogram import BUCKETS, SUB_BUCKETS, Histogram, bucket_bounds, bucket_of

#: About 1 microsecond to 8.6 seconds, each twice the one before: 24 edges.
_FIRST, _LAST = bucket_of(1 << 10), bucket_of(1 << 33)

EDGES_NS = tuple(bucket_bounds(i)[0] - 1 for i in range(_FIRST, _LAST + 1, SUB_BUCKETS))
EDGES_S = tuple(edge / 1e9 for edge in EDGES_NS)
#: One for each edge, and one for what is longer.
SLOTS = len(EDGES_NS) + 1
#: By kernel bucket.
_SLOT = tuple(
    max(0, min((index - _FIRST) // SUB_BUCKETS + 1, SLOTS - 1)) for index in range(BUCKETS)
)


def add(slots: list[int], histogram: Histogram, sign: int = 1) -> None:
    """Add the histogram's counts to ``slots``, which are ``SLOTS`` counts, not cumulative.

    >>> slots = [0] * SLOTS
    >>> add(slots, Histogram.of([1023, 1024, 2047, 2048, 1 << 40]))
    >>> slots[:3], slots[-1]
    ([1, 2, 1], 1)
    """
    for index, count in histogram:
        slots[_SLOT[index]] += sign * count
