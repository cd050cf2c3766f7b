"""Histograms of events' fields, and of times between events, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Callable, Optional

from corelock.distribution import Bucket, Distribution
from corelock.measured import HistAccounting, HistogramsSnapshot, Key, Measured
from corelock.probes.measures import Measure, Unit
from corelock.render import units
from corelock.render.histogram import bars, by_power_of_two, power_rows
from corelock.render.text import cut, flow, printable

_WIDTH = 80

_NUMBERS: dict[Unit, Callable[[int], str]] = {
    "ns": units.duration,
    "bytes": units.size,
    "": units.number,
}
# Linux' own: the upper bits of a device are of its driver.
_MINOR_BITS = 20


def distributions(snapshot: HistogramsSnapshot, top: int, linear: bool) -> Iterator[str]:
    """Lines for the ``top`` keys of each measure (0: all) that have the most, then the accounting.

    ``linear``: whether buckets are, and not octaves.
    """
    for measured in snapshot.measures:
        shown = list(measured.histograms.items())[: top or None]
        for key, distribution in shown:
            words = key_words(snapshot.by, key, measured.key_types)
            yield cut(title(measured.measure), "", _WIDTH)
            if words:
                yield cut(words, "", _WIDTH)
            yield from _histogram(measured.measure, distribution, linear)
            yield ""
        rest = len(measured.histograms) - len(shown)
        if rest:
            more = f"... and {rest:,} more key{'s' * (rest != 1)}"
            yield f"{more} of {title(measured.measure)} (use -n)"
            yield ""
    yield from accounting(snapshot.measures)


def title(measure: Measure) -> str:
    """What a histogram is of, in words.

    >>> title(Measure("kmem:kmalloc", "bytes_alloc")), title(Measure("a:b", start="a:c"))
    ('kmem:kmalloc:bytes_alloc (bytes)', 'a:c -> a:b (ns)')
    """
    name = f"{measure.start} -> {measure.event}" if measure.start else measure.event
    if measure.field:
        name += f":{measure.field}"
    return f"{name} ({measure.unit})" if measure.unit else name


def key_words(by: Sequence[str], key: Key, types: Sequence[str]) -> str:
    """A key in words, as its fields' types have it."""
    values = [
        printable(value) or '""' if isinstance(value, str) else _key_number(value, type_)
        for value, type_ in zip(key, types)
    ]
    return ", ".join(map(" ".join, zip(by, values)))


def _key_number(value: int, type_: str) -> str:
    if type_ == "dev_t":
        return f"{value >> _MINOR_BITS}:{value & (1 << _MINOR_BITS) - 1}"
    return f"{value:#x}" if type_.endswith("*") else str(value)


def _histogram(measure: Measure, distribution: Distribution, linear: bool) -> Iterator[str]:
    if distribution.buckets:
        rows = _linear_rows(distribution.buckets) if linear else _octave_rows(distribution)
        yield from bars(rows)
    yield from flow(_figures(measure, distribution), _WIDTH, indent="")


def _octave_rows(distribution: Distribution) -> list[tuple[str, int]]:
    counts = by_power_of_two(
        (each.low if each.low >= 0 else each.high - 1, each.count)
        for each in distribution.buckets
        if each.low is not None and each.high is not None
    )
    return power_rows(counts)


def _linear_rows(buckets: Sequence[Bucket]) -> list[tuple[str, int]]:
    """The empty ones in between, too."""
    rows: list[tuple[str, int]] = []
    last: Optional[int] = None
    for bucket in buckets:
        low, high, count = bucket.low, bucket.high, bucket.count
        if low is None:
            rows.append((f"(..., {high})", count))
        else:
            if last is not None and low > last:
                rows.append((f"[{last}, {low})", 0))
            rows.append((f"[{low}, {'...' if high is None else high})", count))
        last = high
    return rows


def _figures(measure: Measure, distribution: Distribution) -> Iterator[str]:
    if distribution.mean is None or distribution.min is None or distribution.max is None:
        yield f"count 0  lost {distribution.lost:,}"
        return
    words = _NUMBERS[measure.unit]
    p50, p99 = distribution.quantiles(0.5, 0.99)
    yield f"count {distribution.count:,} "
    yield f"mean {_mean(distribution.mean, words)} "
    for name, value in ("p50", p50), ("p99", p99):
        yield f"{name} {'-' if value is None else words(value)} "
    yield f"min {words(distribution.min)} "
    yield f"max {words(distribution.max)}"
    if distribution.lost:
        yield f" lost {distribution.lost:,}"


def _mean(mean: float, words: Callable[[int], str]) -> str:
    """Small ones with what comes behind the point."""
    return f"{mean:.3g}" if abs(mean) < 100 and words is not units.duration else words(round(mean))


def accounting(measures: Sequence[Measured]) -> Iterator[str]:
    """Where the events went: a line for all measures of an event that say the same."""
    alike: dict[tuple[str, str], list[Measured]] = {}
    for measured in measures:
        key = (measured.measure.event, repr(measured.accounting))
        alike.setdefault(key, []).append(measured)
    for several in alike.values():
        measure, one = several[0].measure, several[0].accounting
        name = measure.event
        if sum(event == name for event, _ in alike) > 1:
            name += ":" + ",".join(each.measure.field for each in several)
        yield from _equation(name, "event", one.seen, _ends(one))
        if measure.start:
            yield from _equation(measure.start, "event", one.starts_seen, _starts(one))
        if one.unaccounted:
            yield f"UNBALANCED: {one.unaccounted:,} events of {name} are not accounted for"


def _equation(name: str, what: str, total: int, parts: Sequence[tuple[int, str]]) -> Iterator[str]:
    first, *others = parts
    words = [f"{first[0]:,} {first[1]}", *(f"{n:,} {word}" for n, word in others if n)]
    pieces = [f"{name}: {total:,} {what}{'s' * (total != 1)} =", words[0]]
    return flow([*pieces, *(f"+ {each}" for each in words[1:])], _WIDTH, indent="  ")


def _ends(one: HistAccounting) -> list[tuple[int, str]]:
    lost = [(count, f"lost ({cause})") for cause, count in one.lost.items()]
    return [
        (one.counted, "counted"),
        (one.filtered, "filtered out"),
        (one.without_start, "without a start"),
        *lost,
    ]


def _starts(one: HistAccounting) -> list[tuple[int, str]]:
    return [
        (one.starts_ended, "ended"),
        (one.starts_replaced, "replaced by another"),
        (one.starts_lost, "lost (starts_full)"),
        (one.starts_open, "open"),
    ]
