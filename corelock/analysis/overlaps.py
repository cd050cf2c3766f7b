"""Who was in whose way: the waits of a recording, and the holds that overlap them.

By the rules of ``docs/blame.md``. Worked out period by period, the latest first: once a period
is done, all holds are known that end after it begins, and so all that overlap waits that began
in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional, TypeVar

import numpy as np

from corelock.analysis.periods import CYCLES, Chosen, Period, Progress, periods
from corelock.analysis.stretches import NEVER, Axis, Stretches, own_stretches
from corelock.recording import (
    CONTENDED,
    DOWNGRADED,
    ENDING,
    HOLDING,
    NO_WAIT,
    RELEASED,
    Recording,
)

#: Waits from here on are looked into though the lock seemed free when they began, as live.
LONG_WAIT_NS = 4096


class Waits(NamedTuple):
    """Contended waits that got the lock; ``write`` is how, ``end_ns`` when."""

    lock: Any
    write: Any
    begin_ns: Any
    end_ns: Any
    row: Any
    cycle: Any

    def where(self, mask: Any) -> Waits:
        """Some of them."""
        return Waits(*(column[mask] for column in self))


class Overlaps(NamedTuple):
    """Waits, and what of ``stretches`` they are due to, as pieces of waits.

    Piece ``i`` is of wait ``wait[i]`` (ascending), lasts from ``begin[i]`` to ``end[i]``, and
    overlaps the stretches from ``first[i]`` to before ``last[i]``, at least one, all of which it
    is due to as far as it overlaps them. Pieces of one wait do not overlap. ``begin`` and ``end``
    are places on the same axis as ``stretch_begin`` and ``stretch_end``.
    """

    waits: Waits
    stretches: Stretches
    stretch_begin: Any
    stretch_end: Any
    wait: Any
    first: Any
    last: Any
    begin: Any
    end: Any


def contended(kind: Any, wait_ns: Any) -> Any:
    """Which cycles waited for somebody, or for long, and got the lock: an array of bool."""
    ending = kind & ENDING
    got = (ending == RELEASED) | (ending == DOWNGRADED) | (ending == HOLDING)
    late = ((kind & CONTENDED) != 0) | (wait_ns >= LONG_WAIT_NS)
    waited: Any = got & late & ((kind & NO_WAIT) == 0)
    return waited


def overlaps(
    recording: Recording,
    chosen: Optional[Chosen] = None,
    progress: Optional[Progress] = None,
    cycles: int = CYCLES,
) -> Iterator[Overlaps]:
    """Each contended wait of the chosen cycles once, with the holds of all cycles it is due to."""
    sweep = _Sweep(recording)
    pending: list[Period] = []
    for period in periods(recording, chosen, progress, cycles):
        pending.append(period)
        # What is carried on is copied each time: so more at a time, the more that is.
        if sum(len(each.cycle) for each in pending) >= sweep.carries:
            yield from sweep.advance(_together(pending))
            pending = []
    if pending:
        yield from sweep.advance(_together(pending))


def _together(some: list[Period]) -> Period:
    """Periods that follow each other, the latest first, as one."""
    if len(some) == 1:
        return some[0]
    return Period(some[-1].after_ns, *map(np.concatenate, zip(*(each[1:] for each in some))))


class _Tables(NamedTuple):
    """What rows are, by number: the lock as an index from 0 on, and whether for writing."""

    lock: Any
    write: Any
    known: Any
    locks: int

    @classmethod
    def of(cls, recording: Recording) -> _Tables:
        rows = recording.rows
        size = int(rows["row"].max(initial=0)) + 1
        mms, index = np.unique(rows["mm"], return_inverse=True)
        lock, write, known = np.zeros(size, np.int64), np.zeros(size, bool), np.zeros(size, bool)
        lock[rows["row"]], write[rows["row"]], known[rows["row"]] = index, rows["mode"] == 1, True
        return cls(lock, write, known, max(1, len(mms)))


class _Carried(NamedTuple):
    """What later periods leave to earlier ones.

    Waits that began before the periods that were looked at, and of their locks, from the
    beginning of these periods on, who had them, of all holds and of write holds alone, and
    when write holds began (of stretches, only that is meant).
    """

    waits: Waits
    holders: Stretches
    writers: Stretches
    writes: Stretches

    def of(self, locks: Any) -> _Carried:
        """What is about some locks, those for which ``locks`` is true."""
        waits, *lines = self
        kept = (line.where(locks[line.lock]) for line in lines)
        return _Carried(waits.where(locks[waits.lock]), *kept)


class _Step(NamedTuple):
    """What is known of some locks from a period's beginning on; the fields of ``_Carried``."""

    axis: Axis
    waits: Waits
    holders: Stretches
    writers: Stretches
    writes: Stretches

    def overlaps(self, waits: Waits) -> Overlaps:
        """What the waits are due to; they began after the period did."""
        place = self.axis.place
        begin, end = place(waits.lock, waits.begin_ns), place(waits.lock, waits.end_ns)
        holders = _Places.of(self.holders, self.axis)
        until = self._kept_out_by_readers(begin, end, waits.write)
        first = np.searchsorted(holders.end, begin, "right")
        last = np.where(
            waits.write,
            np.searchsorted(holders.begin, end, "left"),
            # Readers that were still there when that writer came were not kept out by it.
            np.searchsorted(holders.left, until, "right"),
        )
        # After that, readers wait for writers only.
        readers = np.flatnonzero(~waits.write)
        writers = _Places.of(self.writers, self.axis)
        then = np.searchsorted(writers.end, until[readers], "right")
        pieces = (
            np.append(np.arange(len(begin)), readers),
            np.append(first, then + len(holders.end)),
            np.append(last, np.searchsorted(writers.begin, end[readers]) + len(holders.end)),
            np.append(begin, until[readers]),
            np.append(until, end[readers]),
        )
        some = np.flatnonzero((pieces[1] < pieces[2]) & (pieces[3] < pieces[4]))
        some = some[np.argsort(pieces[0][some], kind="stable")]
        return Overlaps(
            waits, _joined(self.holders, self.writers), np.append(holders.begin, writers.begin),
            np.append(holders.end, writers.end), *(column[some] for column in pieces),
        )  # fmt: skip

    def _kept_out_by_readers(self, begin: Any, end: Any, write: Any) -> Any:
        """Up to when each wait may be due to readers: a reader's, till the last writer came."""
        came = self.axis.place(self.writes.lock, self.writes.begin_ns)
        came = np.append(came, -1)  # also what [-1] finds
        last = came[np.searchsorted(came[:-1], end, "left") - 1]
        return np.where(write, end, np.maximum(begin, last))

    def rest(self, waits: Waits) -> _Carried:
        """What these waits, which began before the period, need of it."""
        furthest = np.zeros(self.axis.locks, np.int64)
        np.maximum.at(furthest, waits.lock, waits.end_ns)
        return _Carried(
            waits, *(line.where(line.begin_ns < furthest[line.lock]) for line in self[2:])
        )


class _Places(NamedTuple):
    """Stretches on an axis."""

    begin: Any
    end: Any
    left: Any

    @classmethod
    def of(cls, line: Stretches, axis: Axis) -> _Places:
        return cls(
            *(axis.place(line.lock, ns) for ns in (line.begin_ns, line.end_ns, line.left_ns))
        )


class _Sweep:
    """Goes through the periods."""

    def __init__(self, recording: Recording) -> None:
        self._tables = _Tables.of(recording)
        none = np.empty(0, np.int64)
        waits = Waits(none, none.astype(bool), none, none, none, none)
        self._carried = _Carried(waits, *(Stretches.none() for _ in range(3)))
        self._earliest = np.full(self._tables.locks, NEVER)
        self._earliest_write = np.full(self._tables.locks, NEVER)

    @property
    def carries(self) -> int:
        """How many stretches are left over from later periods."""
        return len(self._carried.holders.lock)

    def advance(self, period: Period) -> Iterator[Overlaps]:
        """The waits that began in this period, the next earlier one."""
        waits = _joined(self._carried.waits, self._contended(period))
        if not len(waits.lock):
            return
        wanted = np.zeros(self._tables.locks, bool)
        wanted[waits.lock] = True
        holds = self._holds(period, wanted)
        carried = self._carried._replace(waits=waits)
        times = [each.begin_ns.min(initial=NEVER) for each in (holds, *carried)]
        base_ns = int(min(times))
        span_ns = int(max(holds.end_ns.max(initial=0), waits.end_ns.max())) - base_ns + 1
        locks = np.flatnonzero(wanted)
        rest = []
        # In one go, unless there are so many locks for so long that no number could tell.
        for some in np.array_split(locks, -(-len(locks) * span_ns // NEVER)):
            among = np.zeros(len(wanted), bool)
            among[some] = True
            index = np.cumsum(among) - 1
            step = self._step(
                carried.of(among), holds.where(among[holds.lock]), Axis(index, base_ns, span_ns)
            )
            begun = step.waits.begin_ns >= period.after_ns
            if begun.any():
                yield step.overlaps(step.waits.where(begun))
            rest.append(step.rest(step.waits.where(~begun)))
        self._carried = _Carried(*(_joined(*each) for each in zip(*rest)))

    def _contended(self, period: Period) -> Waits:
        which = np.flatnonzero(contended(period.kind, period.wait_ns) & period.chosen)
        which = which[self._known(period.row[which])]
        row, end_ns = period.row[which], period.end_ns[which] - period.hold_ns[which]
        return Waits(
            self._tables.lock[row], self._tables.write[row], end_ns - period.wait_ns[which],
            end_ns, row.astype(np.int64), period.cycle[which],
        )  # fmt: skip

    def _holds(self, period: Period, wanted: Any) -> Stretches:
        """Those that ended, whole."""
        ending = period.kind & ENDING
        which = np.flatnonzero((ending == RELEASED) | (ending == DOWNGRADED))
        which = which[self._known(period.row[which])]
        which = which[wanted[self._tables.lock[period.row[which]]]]
        row, end_ns = period.row[which].astype(np.int64), period.end_ns[which]
        return Stretches(
            self._tables.lock[row], end_ns - period.hold_ns[which], end_ns, end_ns, row,
            period.cycle[which],
        )  # fmt: skip

    def _known(self, row: Any) -> Any:
        known = self._tables.known
        return known[np.minimum(row, len(known) - 1)] & (row < len(known))

    def _step(self, carried: _Carried, holds: Stretches, axis: Axis) -> _Step:
        holds = axis.ordered(holds)
        writes = holds.where(self._tables.write[holds.row])
        return _Step(
            axis,
            carried.waits,
            axis.ordered(_joined(own_stretches(holds, axis, self._earliest), carried.holders)),
            axis.ordered(
                _joined(own_stretches(writes, axis, self._earliest_write), carried.writers)
            ),
            axis.ordered(_joined(writes, carried.writes), "begin_ns"),
        )


_Columns = TypeVar("_Columns", bound=tuple[Any, ...])


def _joined(*parts: _Columns) -> _Columns:
    """Columns of several one after the other."""
    some = [part for part in parts if len(part[0])] or list(parts[:1])
    return some[0] if len(some) == 1 else type(some[0])(*map(np.concatenate, zip(*some)))
