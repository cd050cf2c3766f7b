"""What is exported, under which name and in which unit; docs/dashboards.md lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Union

from corelock.exporters.series import Distribution, Series, SeriesKey
from corelock.model import Accounting
from corelock.version import VERSION

Kind = Literal["counter", "gauge", "histogram"]


class Point(NamedTuple):
    """One value. ``labels`` are in the order of :attr:`Metric.label_names`.

    ``start_ns`` is when counting began (``CLOCK_REALTIME``); 0 for a gauge.
    """

    labels: tuple[str, ...]
    value: Union[int, float, Distribution]
    start_ns: int

    @property
    def number(self) -> Union[int, float]:
        """The value of a counter or gauge."""
        assert not isinstance(self.value, Distribution)
        return self.value

    @property
    def distribution(self) -> Distribution:
        """The value of a histogram."""
        assert isinstance(self.value, Distribution)
        return self.value


@dataclass(frozen=True)
class Metric:
    """One metric and its values. ``unit`` is as in UCUM: ``s``, ``{event}``, or ``1``."""

    name: str
    unit: str
    help: str
    kind: Kind
    label_names: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Collected:
    """Everything as it was at ``taken_ns`` (``CLOCK_REALTIME``), since ``start_ns``."""

    start_ns: int
    taken_ns: int
    metrics: tuple[Metric, ...]


class State(NamedTuple):
    """What the exporter says of itself."""

    kernel: str
    attached_by: str
    collection_ns: int  # what it took to read this
    names: int
    retired: int
    untraced_ns: int


_SERIES = ("process", "mode", "operation")

_HISTOGRAMS: Mapping[str, tuple[str, Callable[[Series], Distribution]]] = {
    "wait": ("Time that threads waited for mmap_lock until they had it.", lambda one: one.wait),
    "hold": ("Time that threads held mmap_lock.", lambda one: one.hold),
}
_COUNTERS: Mapping[str, tuple[str, str, Callable[[Series], int]]] = {
    "trylock_failures": (
        "{failure}", "Attempts to have mmap_lock without waiting that failed.",
        lambda one: one.trylock_failures,
    ),
    "aborted_waits": (
        "{wait}", "Waits for mmap_lock that a fatal signal ended.", lambda one: one.aborted_waits
    ),
    "downgrades": (
        "{downgrade}", "Write holds of mmap_lock that became read holds.",
        lambda one: one.downgrades,
    ),
}  # fmt: skip


def of_series(
    series: Mapping[SeriesKey, Series], to_realtime: Callable[[int], int]
) -> Iterable[Metric]:
    """The metrics by process, mode and operation."""
    ordered = sorted(series.items())

    def points(value: Callable[[Series], Union[int, Distribution]]) -> tuple[Point, ...]:
        return tuple(Point(key, value(one), to_realtime(one.start_ns)) for key, one in ordered)

    for name, (help_, times) in _HISTOGRAMS.items():
        yield Metric(f"mmap_lock.{name}", "s", help_, "histogram", _SERIES, points(times))
    for name, (unit, help_, count) in _COUNTERS.items():
        yield Metric(f"mmap_lock.{name}", unit, help_, "counter", _SERIES, points(count))


def of_accounting(accounting: Accounting, start_ns: int) -> Iterable[Metric]:
    """What became of the events, and what the numbers lack."""

    def counter(name: str, unit: str, help_: str, label: str, counts: Mapping[str, int]) -> Metric:
        points = tuple(Point((kind,), count, start_ns) for kind, count in counts.items())
        return Metric(name, unit, help_, "counter", (label,), points)

    yield counter("events", "{event}", "Events seen, by tracepoint.", "event", accounting.events)
    yield counter(
        "unmatched_events", "{event}", "Events that fit no other, by kind.", "kind",
        accounting.unmatched,
    )  # fmt: skip
    losses = {
        **accounting.lost,
        "children_not_followed": accounting.children_not_followed,
        "hooks_missed": accounting.hooks_missed,
    }
    yield counter(
        "losses", "{loss}", "Events, and forks, renames and exits, that were lost, by cause.",
        "cause", losses,
    )  # fmt: skip
    yield gauge(
        "complete", "1", "1: nothing was lost or unmatched since the start; 0: see losses.",
        int(accounting.complete),
    )  # fmt: skip


def of_state(state: State, start_ns: int, taken_ns: int) -> Iterable[Metric]:
    """What the exporter says of itself."""
    labels = ("version", "kernel", "attached_by")
    values = (VERSION, state.kernel, state.attached_by)
    yield Metric(
        "build_info", "1", "Always 1; what runs where.", "gauge", labels, (Point(values, 1, 0),)
    )
    yield gauge("start_timestamp", "s", "When counting began.", start_ns / 1e9)
    yield gauge("collected_timestamp", "s", "When these numbers were read.", taken_ns / 1e9)
    yield gauge("collection_duration", "s", "What reading them took.", state.collection_ns / 1e9)
    yield gauge("named_processes", "{name}", "Process names with series of their own.", state.names)
    yield Metric(
        "retired_processes", "{name}", "Names whose series ended to make room for others.",
        "counter", (), (Point((), state.retired, start_ns),),
    )  # fmt: skip
    yield Metric(
        "untraced", "s", "Time in which nothing was counted, as full tables were emptied.",
        "counter", (), (Point((), state.untraced_ns / 1e9, start_ns),),
    )  # fmt: skip


def gauge(name: str, unit: str, help_: str, value: Union[int, float]) -> Metric:
    """A gauge without labels."""
    return Metric(name, unit, help_, "gauge", (), (Point((), value, 0),))
