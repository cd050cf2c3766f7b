"""What waits are due to whom, added up by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from corelock.analysis.overlaps import Overlaps

#: So many overlaps of a wait with a hold are worked at together; 100 bytes each.
_AT_ONCE = 1 << 20


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
        length = of.stretch_end - of.stretch_begin
        for part in _parts(of):
            wait, row, due_ns = _due(of, length, part, self._size)
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


def _parts(of: Overlaps) -> Iterator[slice]:
    """The pieces in parts of about as many overlaps, those of a wait together."""
    if not len(of.wait):
        return
    upto = np.cumsum(of.last - of.first)
    starts = np.flatnonzero(np.diff(of.wait, prepend=-1))
    before = np.append(0, upto)[starts]
    # The first piece of the first wait beyond each multiple.
    at = np.searchsorted(before, np.arange(0, int(upto[-1]) + 1, _AT_ONCE))
    cuts = np.unique(np.append(np.append(starts, len(of.wait))[at], (0, len(of.wait))))
    for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist()):
        yield slice(begin, end)


def _due(of: Overlaps, length: Any, part: slice, size: int) -> tuple[Any, Any, Any]:
    """What each wait in a part is due to each row of holders, as wait, row and ns."""
    first, many = of.first[part], of.last[part] - of.first[part]
    upto = np.cumsum(many)
    begins = upto - many
    stretch = np.arange(upto[-1]) + np.repeat(first - begins, many)
    ns = length[stretch]
    # The first and the last stretch of a piece may reach out of it.
    ns[begins] -= np.maximum(0, of.begin[part] - of.stretch_begin[first])
    ns[upto - 1] -= np.maximum(0, of.stretch_end[of.last[part] - 1] - of.end[part])
    wait, row = np.repeat(of.wait[part], many), of.stretches.row[stretch]
    lowest, waits = int(of.wait[part.start]), int(of.wait[part.stop - 1] - of.wait[part.start]) + 1
    present = np.zeros(size, bool)
    present[row] = True
    rows = np.flatnonzero(present)
    if waits * len(rows) <= 2 * len(row):
        key = (wait - lowest) * len(rows) + (np.cumsum(present) - 1)[row]
        # Of one wait: far below 2^53, where a double stops counting.
        sums = np.bincount(key, ns, minlength=0)
        key = np.flatnonzero(sums)
        return lowest + key // len(rows), rows[key % len(rows)], sums[key].astype(np.int64)
    key, ns, _, _ = _summed(wait * size + row, ns, ns, ns)
    return key // size, key % size, ns
