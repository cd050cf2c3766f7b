"""What waits are due to whom, added up by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from corelock.analysis.overlaps import Overlaps

#: So many overlaps of a wait with a hold are worked at together; 100 bytes each.
_AT_ONCE = 1 << 20
#: Waits for more holds than this, and than so many for each row that held, go row by row.
_MANY, _ROW_BY_ROW = 256, 4


class Charged(NamedTuple):
    """What the waits in row ``waiter`` were due to row ``holder``; arrays of equal length.

    ``waits`` is how many had a part of it, ``longest_ns`` the most of one.
    """

    waiter: Any
    holder: Any
    charged_ns: Any
    waits: Any
    longest_ns: Any


class Contended(NamedTuple):
    """By row number: contended waits, their sum, and what of it is charged to nobody."""

    waits: Any
    wait_ns: Any
    unknown_ns: Any


class Charges:
    """Adds up the charges of rows below ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.contended = Contended(*(np.zeros(size, np.int64) for _ in range(3)))
        self._sums: list[tuple[Any, ...]] = []
        self._pending = 0

    def add(self, of: Overlaps) -> None:
        """Add waits, each of which comes once."""
        waits = of.waits
        ns = waits.end_ns - waits.begin_ns
        np.add.at(self.contended.waits, waits.row, 1)
        np.add.at(self.contended.wait_ns, waits.row, ns)
        np.add.at(self.contended.unknown_ns, waits.row, ns)
        for wait, row, due_ns in _due(of, self._size):
            waiter = waits.row[wait]
            np.subtract.at(self.contended.unknown_ns, waiter, due_ns)
            self._keep(waiter * self._size + row, due_ns, np.ones_like(row), due_ns)

    def _keep(self, *columns: Any) -> None:
        self._sums.append(_summed(*columns))
        self._pending += len(self._sums[-1][0])
        if self._pending > 2 * len(self._sums[0][0]) + _AT_ONCE:
            self._sums = [_summed(*map(np.concatenate, zip(*self._sums)))]
            self._pending = len(self._sums[0][0])

    def total(self) -> Charged:
        """All together, one entry for each pair of rows."""
        if not self._sums:
            return Charged(*(np.empty(0, np.int64) for _ in Charged._fields))
        key, *sums = _summed(*map(np.concatenate, zip(*self._sums)))
        return Charged(key // self._size, key % self._size, *sums)


def _summed(key: Any, ns: Any, waits: Any, longest_ns: Any) -> tuple[Any, ...]:
    """Entries of the same key together."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(first):
        return key, ns, waits, longest_ns
    return (
        key[first], np.add.reduceat(ns[order], first), np.add.reduceat(waits[order], first),
        np.maximum.reduceat(longest_ns[order], first),
    )  # fmt: skip


def _due(of: Overlaps, size: int) -> Iterator[tuple[Any, Any, Any]]:
    """What each wait is due to each row of holders, as wait, row and ns; a pair comes once."""
    if not len(of.wait):
        return
    length = of.stretch_end - of.stretch_begin
    most = np.zeros(len(of.waits.row), np.int64)
    np.maximum.at(most, of.wait, of.last - of.first)
    # Of waits for very many holds it is cheaper to ask for each row how long it held.
    wide = most[of.wait] > _MANY
    if wide.any():
        by_row = _ByRow(of.stretches.row)
        wide = most[of.wait] > max(_MANY, _ROW_BY_ROW * len(by_row.rows))
        for part in _parts(of.wait[wide], np.full(int(wide.sum()), len(by_row.rows))):
            yield _due_row_by_row(of, length, np.flatnonzero(wide)[part], by_row)
    narrow = np.flatnonzero(~wide)
    for part in _parts(of.wait[narrow], of.last[narrow] - of.first[narrow]):
        yield _due_one_by_one(of, length, narrow[part], size)


def _parts(wait: Any, work: Any) -> Iterator[slice]:
    """Pieces of these waits in parts of about as much work, those of a wait together."""
    upto = np.append(0, np.cumsum(work))
    starts = np.append(np.flatnonzero(np.diff(wait, prepend=-1)), len(wait))
    # The first piece of the first wait at or beyond each multiple.
    at = np.searchsorted(upto[starts], np.arange(0, int(upto[-1]), _AT_ONCE))
    cuts = np.unique(np.append(starts[at], len(wait))).tolist()
    for begin, end in zip(cuts, cuts[1:]):
        yield slice(begin, end)


def _excess(of: Overlaps, part: Any) -> tuple[Any, Any]:
    """How far the first stretch of each piece reaches out of it, and the last."""
    before = of.begin[part] - of.stretch_begin[of.first[part]]
    after = of.stretch_end[of.last[part] - 1] - of.end[part]
    return np.maximum(0, before), np.maximum(0, after)


def _due_one_by_one(of: Overlaps, length: Any, part: Any, size: int) -> tuple[Any, Any, Any]:
    first, many = of.first[part], of.last[part] - of.first[part]
    upto = np.cumsum(many)
    begins = upto - many
    stretch = np.arange(upto[-1]) + np.repeat(first - begins, many)
    ns = length[stretch]
    before, after = _excess(of, part)
    ns[begins] -= before
    ns[upto - 1] -= after
    wait, row = np.repeat(of.wait[part], many), of.stretches.row[stretch]
    lowest = int(of.wait[part[0]])
    present = np.zeros(size, bool)
    present[row] = True
    rows = np.flatnonzero(present)
    if (int(of.wait[part[-1]]) - lowest + 1) * len(rows) <= 2 * len(row):
        key = (wait - lowest) * len(rows) + (np.cumsum(present) - 1)[row]
        # Of one wait: far below 2^53, where a double stops counting.
        sums = np.bincount(key, ns)
        some = np.flatnonzero(sums)
        return lowest + some // len(rows), rows[some % len(rows)], sums[some].astype(np.int64)
    key, ns, _, _ = _summed(wait * size + row, ns, ns, ns)
    return key // size, key % size, ns


class _ByRow:
    """The stretches of each row: ``rows`` and, for each, where its stretches are."""

    def __init__(self, row: Any) -> None:
        order = np.argsort(row, kind="stable")
        starts = np.flatnonzero(np.diff(row[order], prepend=-1))
        self.rows = row[order][starts]
        self.places = np.split(order, starts[1:])


def _due_row_by_row(of: Overlaps, length: Any, part: Any, by: _ByRow) -> tuple[Any, Any, Any]:
    first, last = of.first[part], of.last[part]
    waits, index = np.unique(of.wait[part], return_inverse=True)
    due = np.zeros((len(by.rows), len(waits)), np.int64)
    for number, places in enumerate(by.places):
        upto = np.append(0, np.cumsum(length[places]))
        held = upto[np.searchsorted(places, last)] - upto[np.searchsorted(places, first)]
        np.add.at(due[number], index, held)
    row, (before, after) = of.stretches.row, _excess(of, part)
    np.subtract.at(due, (np.searchsorted(by.rows, row[first]), index), before)
    np.subtract.at(due, (np.searchsorted(by.rows, row[last - 1]), index), after)
    where, wait = np.nonzero(due)
    return waits[wait], by.rows[where], due[where, wait]
