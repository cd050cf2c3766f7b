"""How numbers of any size and sign are distributed: counts by bucket, and what is exact beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.arguments import check_range
from corelock.errors import InvalidArgument
from corelock.histogram import bucket_bounds, nearest_ranks

#: Of linear histograms, at most (``CORELOCK_HIST_LINEAR``).
MOST_BUCKETS = 500


@dataclass(frozen=True)
class Bucket:
    """``count`` whole numbers from ``low`` on that are below ``high``; None: there is no bound."""

    low: Optional[int]
    high: Optional[int]
    count: int


@dataclass(frozen=True)
class Distribution:
    """Numbers by bucket, immutable.

    ``buckets`` are in ascending order, and none is empty. ``sum``, ``min`` and ``max`` are exact.
    ``lost`` numbers had no room, and are in none of these.
    """

    buckets: tuple[Bucket, ...] = ()
    sum: int = 0
    min: Optional[int] = None
    max: Optional[int] = None
    lost: int = 0

    @property
    def count(self) -> int:
        """How many numbers were counted."""
        return sum(bucket.count for bucket in self.buckets)

    @property
    def mean(self) -> Optional[float]:
        """Their mean, exact but for the last bits of a float; None: there are none."""
        return self.sum / self.count if self.buckets else None

    def quantiles(self, *qs: float) -> tuple[Optional[int], ...]:
        """Nearest-rank quantiles for ascending ``qs`` in 0..1; None where there is none.

        The middle of the bucket that the number is in: of octaves, within 6.25 % of it. In a
        bucket without a bound, it is not known.
        """
        found = nearest_ranks([bucket.count for bucket in self.buckets], qs)
        return tuple(None if i is None else self._middle(self.buckets[i]) for i in found)

    def _middle(self, bucket: Bucket) -> Optional[int]:
        if bucket.low is None or bucket.high is None or self.min is None or self.max is None:
            return None
        return min(max((bucket.low + bucket.high - 1) // 2, self.min), self.max)

    def plus(self, other: Distribution) -> Distribution:
        """Both together. Their buckets are of one kind."""
        counts: Counter[tuple[Optional[int], Optional[int]]] = Counter()
        for bucket in (*self.buckets, *other.buckets):
            counts[bucket.low, bucket.high] += bucket.count
        return Distribution(
            in_order(Bucket(*bounds, count) for bounds, count in counts.items()),
            self.sum + other.sum,
            min((x.min for x in (self, other) if x.min is not None), default=None),
            max((x.max for x in (self, other) if x.max is not None), default=None),
            self.lost + other.lost,
        )


def in_order(buckets: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """Buckets in ascending order; the one without a lower bound comes first."""
    return tuple(sorted(buckets, key=lambda x: (x.low is not None, x.low)))


class Linear(NamedTuple):
    """Buckets of ``step`` from ``low`` on; what is below it, or not below ``high``, is apart."""

    low: int
    high: int
    step: int

    @property
    def buckets(self) -> int:
        """How many there are."""
        return -(-(self.high - self.low) // self.step)

    def bounds(self, index: int) -> tuple[Optional[int], Optional[int]]:
        """Those of a bucket, by its index as programs have it.

        >>> Linear(0, 25, 10).bounds(2), Linear(0, 25, 10).bounds(3), Linear(0, 25, 10).bounds(4)
        ((20, 25), (None, 0), (25, None))
        """
        if index == self.buckets:
            return None, self.low
        if index > self.buckets:
            return self.high, None
        low = self.low + index * self.step
        return low, min(low + self.step, self.high)


def signed_bounds(index: int, negative: bool) -> tuple[int, int]:
    """The half-open range of a log-linear bucket of numbers, or of their negatives.

    >>> signed_bounds(16, False), signed_bounds(16, True), signed_bounds(1, True)
    ((16, 18), (-17, -15), (-1, 0))
    """
    low, high = bucket_bounds(index)
    return (1 - high, 1 - low) if negative else (low, high)


def check_linear(linear: Linear) -> None:
    """Make sure that there are such buckets.

    Raises:
        InvalidArgument: there are not.
    """
    words = ":".join(map(str, linear))
    for name, value in zip(("low", "high", "step"), linear):
        check_range(f"{name} of linear {words}", value, -(1 << 63), (1 << 63) - 1)
    if linear.step < 1 or linear.low >= linear.high:
        raise InvalidArgument(
            f"{words} are no linear buckets",
            "Give LO:HI:STEP, with LO below HI and STEP above 0, as 0:1000:50.",
        )
    if linear.buckets > MOST_BUCKETS:
        raise InvalidArgument(
            f"{words} are {linear.buckets:,} buckets, and {MOST_BUCKETS} is the most",
            f"Take a step of {-(-(linear.high - linear.low) // MOST_BUCKETS)} or more.",
        )
