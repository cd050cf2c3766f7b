"""Waits and holds as histograms of powers of two, in the manner of bcc."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corelock.histogram import Histogram, bucket_bounds
from corelock.render.grouping import Group, several_processes
from corelock.render.table import group_label
from corelock.render.text import cut

_COUNT_WIDTH = 12
_BOUNDS_WIDTH = 13
_BAR_WIDTH = 52


def histograms(groups: Sequence[Group], width: int) -> Iterator[str]:
    """Lines for the waits and holds of each group. K, M, G, T in bounds are powers of 1024."""
    several = several_processes(groups)
    for g in groups:
        for kind, times in (("wait", g.wait), ("hold", g.hold)):
            if times.count:
                yield ""
                yield cut(group_label(g, with_process=several), f": {kind} (ns)", width)
                yield from _bars(times.histogram)


def _bars(histogram: Histogram) -> Iterator[str]:
    counts = by_power_of_two(histogram)
    most = max(counts.values())
    for power in range(min(counts), max(counts) + 1):
        count = counts.get(power, 0)
        bar = "@" * -(-count * _BAR_WIDTH // most)  # rounded up: one of a million shows
        yield f"{_bounds(power):<{_BOUNDS_WIDTH}}{count:>{_COUNT_WIDTH}} |{bar:<{_BAR_WIDTH}}|"


def by_power_of_two(histogram: Histogram) -> dict[int, int]:
    """Counts by ``n`` where the times are in ``[2**(n-1), 2**n)``, 0 for the time 0."""
    counts: dict[int, int] = {}
    for index, count in histogram:
        power = bucket_bounds(index)[0].bit_length()
        counts[power] = counts.get(power, 0) + count
    return counts


def _bounds(power: int) -> str:
    if power == 0:
        return "[0, 1)"
    return f"[{_power_of_two(power - 1)}, {_power_of_two(power)})"


def _power_of_two(power: int) -> str:
    thousands, rest = divmod(power, 10)
    return f"{1 << rest}{('', 'K', 'M', 'G', 'T')[thousands]}"
