"""Adding up snapshots of a tracer under a bounded number of names that never count down.

What a row has gained since the last snapshot is added to the series that its process has
now. So nothing that was counted under one name moves to another when a process is renamed,
gets a name of its own or loses it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional

from corelock.exporters import edges
from corelock.histogram import BUCKETS, Histogram, bucket_bounds
from corelock.model import Mode, Row, RowKey, Snapshot, Times
from corelock.symbolize.syscalls import is_kernel_thread

#: Processes without a name of their own, and those of them that ended before they were seen.
OTHER, EXITED = "(other)", "(exited)"
#: The address space of a fork that was under way and that was not seen again.
UNKNOWN = "(unknown)"
KERNEL_THREAD = "kernel-thread"

_SHARED = (OTHER, EXITED)
_NO_TIMES = Times(0, 0, 0, 0, Histogram())


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
    _longest_ns: int = 0
    # Of those that may have been longer; of these only the bucket is known.
    _at_most_ns: int = 0

    @property
    def max_ns(self) -> Optional[int]:
        """The longest, None if it is not known: a row says that of all that it ever counted."""
        return self._longest_ns if self._longest_ns >= self._at_most_ns else None

    def add(self, times: Times, before: Times) -> None:
        """Add what ``times`` have more than those of ``before``."""
        edges.add(self.slots, times.histogram)
        edges.add(self.slots, before.histogram, -1)
        self.total_ns += times.total_ns - before.total_ns
        if times.max_ns > before.max_ns:
            self._longest_ns = max(self._longest_ns, times.max_ns)
        elif times.count > before.count:
            self._at_most_ns = max(self._at_most_ns, _at_most_ns(times, before))

    def copy(self) -> Distribution:
        """As it is now."""
        return Distribution(list(self.slots), self.total_ns, self._longest_ns, self._at_most_ns)


def _at_most_ns(times: Times, before: Times) -> int:
    """What none of the times is longer than that came since ``before``."""
    old = dict(before.histogram)
    highest = max((i for i, count in times.histogram if count > old.get(i, 0)), default=0)
    # The last bucket has all that is longer, too.
    return times.max_ns if highest == BUCKETS - 1 else bucket_bounds(highest)[1] - 1


@dataclass
class Series:
    """What was counted under one set of labels since ``start_ns`` (``CLOCK_MONOTONIC``)."""

    start_ns: int
    wait: Distribution = field(default_factory=Distribution)
    hold: Distribution = field(default_factory=Distribution)
    trylock_failures: int = 0
    aborted_waits: int = 0
    downgrades: int = 0

    def add(self, row: Row, before: Row) -> None:
        """Add what the row has more than it had ``before``."""
        self.wait.add(row.wait, before.wait)
        self.hold.add(row.hold, before.hold)
        self.trylock_failures += row.trylock_failures - before.trylock_failures
        self.aborted_waits += row.aborted_waits - before.aborted_waits
        self.downgrades += row.downgrades - before.downgrades

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
            self._series_of(row, now_ns).add(row, self._before.get(row.key) or _empty(row))
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


def _empty(row: Row) -> Row:
    """The row before it counted anything."""
    return replace(
        row, wait=_NO_TIMES, hold=_NO_TIMES, trylock_failures=0, aborted_waits=0, downgrades=0
    )


def _counts(row: Row) -> tuple[int, ...]:
    return (
        row.wait.count, row.hold.count, row.wait.total_ns, row.hold.total_ns,
        row.wait.max_ns, row.hold.max_ns,
        row.trylock_failures, row.aborted_waits, row.downgrades,
    )  # fmt: skip
