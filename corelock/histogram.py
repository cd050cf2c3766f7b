"""Log-linear histograms: the buckets of ``src/abi/corelock_abi.h``, and what is read from them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional

SUB_BUCKETS = 8
OCTAVES = 40
BUCKETS = SUB_BUCKETS * OCTAVES

_BUCKET = struct.Struct("=IIQ")  # index, padding, count


def bucket_bounds(index: int) -> tuple[int, int]:
    """The half-open range ``[low, high)`` in ns that bucket ``index`` counts.

    >>> bucket_bounds(5), bucket_bounds(16), bucket_bounds(17)
    ((5, 6), (16, 18), (18, 20))
    """
    octave, sub = divmod(index, SUB_BUCKETS)
    if octave == 0:
        return sub, sub + 1
    width = 1 << (octave - 1)
    low = (SUB_BUCKETS + sub) * width
    return low, low + width


def bucket_of(value_ns: int) -> int:
    """The bucket that counts ``value_ns``; times beyond 2**42 ns are in the last one.

    >>> bucket_of(7), bucket_of(17), bucket_of(1 << 60) == BUCKETS - 1
    (7, 16, True)
    """
    if value_ns < SUB_BUCKETS:
        return value_ns
    octave = value_ns.bit_length() - 3
    if octave >= OCTAVES:
        return BUCKETS - 1
    return octave * SUB_BUCKETS + ((value_ns >> (octave - 1)) & (SUB_BUCKETS - 1))


def nearest_ranks(counts: Sequence[int], qs: Sequence[float]) -> list[Optional[int]]:
    """In which of these buckets the quantiles are, for ascending ``qs``; None: there are none.

    >>> nearest_ranks([2, 1, 1], [0.5, 0.75, 1]), nearest_ranks([], [0.5])
    ([0, 1, 2], [None])
    """
    total = sum(counts)
    found: list[Optional[int]] = []
    below = 0
    for index, count in enumerate(counts):
        below += count
        while len(found) < len(qs) and below >= qs[len(found)] * total:
            found.append(index)
    return found or [None] * len(qs)


class Histogram:
    """Counts by log-linear bucket, immutable; iterates as ``(index, count)``, ascending.

    A quantile read from it is within 6.25 % of the true one for times from
    1 ns to 1 hour (see ``src/abi/corelock_abi.h``).
    """

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes = b"") -> None:
        # Kept as the library wrote it: 16 bytes a bucket, where a list of
        # pairs would take 130. A trace of 10,000 threads has 60,000 of these.
        self._packed = packed

    @classmethod
    def from_counts(cls, counts: Mapping[int, int]) -> Histogram:
        """Build from ``{bucket index: count}``; zero counts are left out."""
        return cls(b"".join(_BUCKET.pack(i, 0, n) for i, n in sorted(counts.items()) if n))

    @classmethod
    def of(cls, values_ns: Iterable[int]) -> Histogram:
        """Build from single times.

        >>> list(Histogram.of([3, 3, 17]))
        [(3, 2), (16, 1)]
        """
        counts: dict[int, int] = {}
        for value in values_ns:
            index = bucket_of(value)
            counts[index] = counts.get(index, 0) + 1
        return cls.from_counts(counts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for index, _, count in _BUCKET.iter_unpack(self._packed):
            yield index, count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._packed == other._packed

    def __hash__(self) -> int:
        return hash(self._packed)

    def __repr__(self) -> str:
        return f"Histogram({dict(self)})"

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(count for _, count in self)

    def quantiles(self, *qs: float) -> tuple[Optional[int], ...]:
        """Nearest-rank quantiles in ns for ascending ``qs`` in 0..1; None when empty.

        >>> Histogram.of([1, 2, 3, 1000]).quantiles(0.5, 0.75)
        (2, 3)
        """
        buckets = list(self)
        found = nearest_ranks([count for _, count in buckets], qs)
        bounds = (None if i is None else bucket_bounds(buckets[i][0]) for i in found)
        return tuple(x and (x[0] + x[1] - 1) // 2 for x in bounds)

    def plus(self, other: Histogram, sign: int = 1) -> Histogram:
        """The two added (``sign`` 1), or ``other`` taken away (-1)."""
        counts = dict(self)
        for index, count in other:
            counts[index] = counts.get(index, 0) + sign * count
        return Histogram.from_counts(counts)
