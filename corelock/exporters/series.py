"""Adding up snapshots of a tracer under a bounded number of names that never count down.

What a row has gained since the last snapshot is added to the series that its process has
now. So nothing that was counted under one name moves to another when a process is renamed,
gets a name of its own or loses it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from corelock.exporters import edges
from corelock.model import Mode, Row, RowKey, Snapshot, Times
from corelock.symbolize.syscalls import is_kernel_thread

#: Processes without a name of their own, and those of them that ended before they were seen.
OTHER, EXITED = "(other)", "(exited)"
#: The address space of a fork that was under way and that was not seen again.
UNKNOWN = "(unknown)"
KERNEL_THREAD = "kernel-thread"

_SHARED = (OTHER, EXITED)


class SeriesKey(NamedTuple):
    """The labels of a series."""

    process: str
    mode: Mode
    operation: str


@dataclass
class Distribution:
    """Waits or holds: how many by bucket (``edges.SLOTS`` of them), their sum, the longest."""

    slots: list[int] = field(default_factory=lambda: [0] * edges.SLOTS)
    total_ns: int = 0
    max_ns: int = 0

    def add(self, times: Times, sign: int = 1) -> None:
        """Add them, or (-1) take them away, but for the longest."""
        edges.add(self.slots, times.histogram, sign)
        self.total_ns += sign * times.total_ns
        self.max_ns = max(self.max_ns, times.max_ns)

    def copy(self) -> Distribution:
        """As it is now."""
        return Distribution(list(self.slots), self.total_ns, self.max_ns)


@dataclass
class Series:
    """What was counted under one set of labels since ``start_ns`` (``CLOCK_MONOTONIC``)."""

    start_ns: int
    wait: Distribution = field(default_factory=Distribution)
    hold: Distribution = field(default_factory=Distribution)
    trylock_failures: int = 0
    aborted_waits: int = 0
    downgrades: int = 0

    def add(self, row: Row, sign: int = 1) -> None:
        """Add a row, or (-1) take it away."""
        self.wait.add(row.wait, sign)
        self.hold.add(row.hold, sign)
        self.trylock_failures += sign * row.trylock_failures
        self.aborted_waits += sign * row.aborted_waits
        self.downgrades += sign * row.downgrades

    def copy(self) -> Series:
        """As it is now."""
        return Series(
            self.start_ns, self.wait.copy(), self.hold.copy(), self.trylock_failures,
            self.aborted_waits, self.downgrades,
        )  # fmt: skip


class _Label:
    """A process name that has series of its own."""

    def __init__(self, start_ns: int, pids: set[int]) -> None:
        self.start_ns = start_ns
        self.grown_ns = start_ns  # when it last counted something
        self.pids = pids
        self.pids_before: set[int] = set()  # of earlier sessions, and not seen in this one

    def is_gone(self) -> bool:
        return not any(map(_lives, self.pids | self.pids_before))


def _lives(pid: int) -> bool:
    # 0: a process of another pid namespace, of which nothing can be known.
    return pid == 0 or os.path.exists(f"/proc/{pid}")


class Accumulator:
    """All series, of at most ``max_processes`` names and ``(other)`` and ``(exited)``.

    A name keeps its series for as long as a process of that name lives, and ``keep_ns`` after
    its last event; then another process may have its place. The series end then, and are added
    to no other: they were there to be seen, and would count twice in a rate.
    """

    def __init__(self, max_processes: int, keep_ns: int, start_ns: int) -> None:
        self._max_processes = max_processes
        self._keep_ns = keep_ns
        self._start_ns = start_ns
        self._taken_ns = start_ns
        self._before: dict[RowKey, Row] = {}
        self._labels: dict[str, _Label] = {}
        self._series: dict[SeriesKey, Series] = {}
        #: How many names have lost their series to others.
        self.retired = 0

    @property
    def names(self) -> int:
        """How many names have series of their own now."""
        return len(self._labels)

    def series(self) -> dict[SeriesKey, Series]:
        """All series as they are now, for another thread to read."""
        return {key: series.copy() for key, series in self._series.items()}

    def add(self, snapshot: Snapshot) -> None:
        """Add what has come since the snapshot before this one."""
        now_ns = snapshot.start_ns + snapshot.duration_ns
        changed = [row for row in snapshot.rows if self._has_grown(row)]
        self._note_pids(snapshot.rows)
        self._give_labels(changed, now_ns)
        for row in changed:
            series = self._series_of(row, now_ns)
            series.add(row)
            if row.key in self._before:
                series.add(self._before[row.key], -1)
        self._before = {row.key: row for row in snapshot.rows}
        self._taken_ns = now_ns

    def start_session(self) -> None:
        """The next snapshot is of a tracer that counts from 0 again."""
        self._before = {}
        for label in self._labels.values():
            label.pids_before = set(filter(_lives, label.pids | label.pids_before))

    def _has_grown(self, row: Row) -> bool:
        old = self._before.get(row.key)
        return old is None or _counts(old) != _counts(row)

    def _note_pids(self, rows: Iterable[Row]) -> None:
        for label in self._labels.values():
            label.pids.clear()
        for row in rows:
            label_ = self._labels.get(name_of(row))
            if label_ is not None:
                label_.pids.add(row.mm_pid)

    def _give_labels(self, changed: list[Row], now_ns: int) -> None:
        """Names of their own for those that waited most, the living first."""
        waited: dict[str, int] = {}
        pids: dict[str, set[int]] = {}
        for row in changed:
            name = name_of(row)
            if name not in self._labels and name not in _SHARED:
                old = self._before.get(row.key)
                new_ns = row.wait.total_ns - (old.wait.total_ns if old else 0)
                waited[name] = waited.get(name, 0) + new_ns
                pids.setdefault(name, set()).add(row.mm_pid)
        living = {name for name in waited if any(map(_lives, pids[name]))}
        ranked = sorted(waited, key=lambda name: (name not in living, -waited[name], name))
        free = self._max_processes - len(self._labels)
        wanted = sum(name in living for name in ranked) - free
        if wanted > 0:
            free += self._retire(wanted, now_ns)
        for name in ranked[: max(0, free)]:
            self._labels[name] = _Label(self._taken_ns, pids[name])

    def _retire(self, wanted: int, now_ns: int) -> int:
        """Take series from names that nobody has any more, the longest gone first; how many."""
        old = [
            name
            for name, label in self._labels.items()
            if now_ns - label.grown_ns >= self._keep_ns and label.is_gone()
        ]
        gone = set(sorted(old, key=lambda name: self._labels[name].grown_ns)[:wanted])
        for name in gone:
            del self._labels[name]
        self._series = {key: one for key, one in self._series.items() if key.process not in gone}
        self.retired += len(gone)
        return len(gone)

    def _series_of(self, row: Row, now_ns: int) -> Series:
        name = name_of(row)
        label = self._labels.get(name)
        if label is not None:
            label.grown_ns = now_ns
            start_ns = label.start_ns
        else:
            name = OTHER if name in _SHARED or _lives(row.mm_pid) else EXITED
            start_ns = self._start_ns
        key = SeriesKey(name, row.mode, _operation(row))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(start_ns)
        return series


def name_of(row: Row) -> str:
    """What the process is called whose address space was locked."""
    return row.mm_comm or UNKNOWN


def _operation(row: Row) -> str:
    """The row's operation; kernel threads, whose names have numbers in them, are all one."""
    return KERNEL_THREAD if is_kernel_thread(row.operation) else row.operation


def _counts(row: Row) -> tuple[int, ...]:
    return (
        row.wait.count, row.hold.count, row.wait.total_ns, row.hold.total_ns,
        row.trylock_failures, row.aborted_waits, row.downgrades,
    )  # fmt: skip
