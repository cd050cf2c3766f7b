"""Waits and holds as histograms of powers of two, in the manner of bcc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from corelock.histogram import Histogram, bucket_bounds
from corelock.render.grouping import Group, several_processes
from corelock.render.table import group_label
from corelock.render.text import cut

_COUNT_WIDTH = 12
_BOUNDS_WIDTH = 13
_BAR_WIDTH = 52
#: So many empty buckets in a row are shown as such.
_EMPTY = 20


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
    return bars(power_rows(counts_by_power(histogram)))


def counts_by_power(histogram: Histogram) -> dict[int, int]:
    """Times as :func:`by_power_of_two` has them."""
    return by_power_of_two((bucket_bounds(index)[0], count) for index, count in histogram)


def bars(rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    """A line of 80 columns for each of these bounds and counts; for many empty ones, one."""
    most = max(count for _, count in rows)
    room = max([_BOUNDS_WIDTH, *(len(bounds) + 1 for bounds, _ in rows)])
    width = _BAR_WIDTH + _BOUNDS_WIDTH - room
    for empty, several in groupby(rows, key=lambda row: not row[1]):
        lines = list(several)
        if empty and len(lines) > _EMPTY:
            yield "..."
            continue
        for bounds, count in lines:
            bar = "@" * -(-count * width // most)  # rounded up: one of a million shows
            yield f"{bounds:<{room}}{count:>{_COUNT_WIDTH}} |{bar:<{width}}|"


def by_power_of_two(buckets: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Counts by ``n`` where the numbers are in ``[2**(n-1), 2**n)``, 0 for the number 0.

    Of negative numbers, -n where they are in ``(-(2**n), -(2**(n-1))]``. ``buckets`` are the number
    of each that is nearest to 0, and its count.
    """
    counts: dict[int, int] = {}
    for number, count in buckets:
        power = number.bit_length() if number >= 0 else -number.bit_length()
        counts[power] = counts.get(power, 0) + count
    return counts


def power_rows(counts: Mapping[int, int]) -> list[tuple[str, int]]:
    """Of what :func:`by_power_of_two` has, bounds and counts from the least to the largest."""
    return [(_bounds(n), counts.get(n, 0)) for n in range(min(counts), max(counts) + 1)]


def _bounds(power: int) -> str:
    if power == 0:
        return "[0, 1)"
    if power < 0:
        return f"(-{_power_of_two(-power)}, -{_power_of_two(-power - 1)}]"
    return f"[{_power_of_two(power - 1)}, {_power_of_two(power)})"


def _power_of_two(power: int) -> str:
    thousands, rest = divmod(power, 10)
    return f"{1 << rest}{('', 'K', 'M', 'G', 'T', 'P', 'E')[thousands]}"
