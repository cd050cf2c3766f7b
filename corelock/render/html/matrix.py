"""Charges as a matrix: who waited, down, and whose holds that was charged to, across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corelock.blame import Blame, Certainty
from corelock.model import Row, RowKey
from corelock.render.blame_grouping import Side, process_names, side_of
from corelock.render.columns import process_label, thread_label
from corelock.render.units import count, duration

OTHERS = "others"
_SHADES = 5
_MARKS: Mapping[Certainty, str] = {"observed": "", "convoy": "c", "owner-word": "?"}


@dataclass
class Cell:
    """What the waits of one side were charged with to the holds of another."""

    charged_ns: int = 0
    charges: int = 0
    waits: int = 0
    longest_ns: int = 0
    mark: str = ""  # how far it is to be trusted; nothing: fully
    shade: int = 0

    @property
    def words(self) -> str:
        """What its number does not say."""
        about = "" if self.charges == 1 else "at most "
        return f"in {about}{count(self.waits)} waits, {duration(self.longest_ns)} in one"


@dataclass(frozen=True)
class Matrix:
    """Sides with the most first; what has no line or column of its own is in the last.

    ``lines`` are waiters, each with a cell for each of ``holders``, and their sum.
    """

    holders: list[str]
    lines: list[tuple[str, list[Cell], int]]
    totals: list[int]
    charged_ns: int


class Charges:
    """The charges of a blame as arrays: there may be a million."""

    def __init__(self, blame: Blame) -> None:
        numbers: dict[RowKey, int] = {}
        self.rows: list[Row] = []

        def number(row: Row) -> int:
            found = numbers.setdefault(row.key, len(numbers))
            if found == len(self.rows):
                self.rows.append(row)
            return found

        self.processes = process_names(blame.rows, blame.charges)
        certainties = list(_MARKS)
        columns = [
            (
                number(charge.waiter), number(charge.holder), charge.charged_ns, charge.waits,
                charge.longest_ns, certainties.index(charge.certainty),
            )
            for charge in blame.charges
        ]  # fmt: skip
        self.columns = np.array(columns, np.int64).reshape(-1, 6).T

    def names(self, by: str) -> tuple[list[str], Any]:
        """Names of sides, and for each of :attr:`rows` the number of its side."""
        sides: dict[str, int] = {}
        of_rows = [
            sides.setdefault(_name(side_of(row, by, self.processes)), len(sides))
            for row in self.rows
        ]
        return list(sides), np.array(of_rows, np.int64)


def matrix(charges: Charges, by: str, most: int = 12) -> Matrix:
    """Charges between the ``most`` waiters and holders with the largest sums, and the others.

    ``by`` is one of ``BLAME_BY``.
    """
    names, side = charges.names(by)
    waiter, holder, charged_ns, waits, longest_ns, certainty = charges.columns
    down, waiters = _places(names, side[waiter], charged_ns, most)
    across, holders = _places(names, side[holder], charged_ns, most)
    # A place beyond the names is that of the others.
    width = len(across) + 1
    at = waiters * width + holders
    sums = np.zeros((5, (len(down) + 1) * width), np.int64)
    np.add.at(sums[0], at, charged_ns)
    np.add.at(sums[1], at, 1)
    np.add.at(sums[2], at, waits)
    np.maximum.at(sums[3], at, longest_ns)
    np.bitwise_or.at(sums[4], at, 1 << certainty)
    cells = [
        Cell(ns, number, waited, longest, _mark(certainties))
        for ns, number, waited, longest, certainties in sums.T.tolist()
    ]
    lines = [cells[first : first + width] for first in range(0, len(cells), width)]
    _shade(lines)
    return _laid_out(down, across, lines)


def _places(names: Sequence[str], side: Any, ns: Any, most: int) -> tuple[list[str], Any]:
    """The largest sides by name, and the place of each charge's side among them."""
    sums = np.zeros(len(names), np.int64)
    np.add.at(sums, side, ns)
    order = sorted(np.flatnonzero(sums).tolist(), key=lambda one: (-sums[one], names[one]))[:most]
    place = np.full(len(names), len(order))
    place[order] = np.arange(len(order))
    return [names[one] for one in order], place[side]


def _mark(certainties: int) -> str:
    return "".join(mark for at, mark in enumerate(_MARKS.values()) if certainties >> at & 1)


def _name(side: Side) -> str:
    """A side in words."""
    mode = "W" if side.mode == "write" else "R"
    if side.who is None:
        return ("*" if side.foreign else "") + f"{side.operation} {mode}"
    if side.operation is None:
        return ("*" if side.foreign else "") + "".join(process_label(side.who)) + f" {mode}"
    return "".join(thread_label(side.who, side.foreign)) + f" {side.operation} {mode}"


def _shade(lines: Sequence[Sequence[Cell]]) -> None:
    """1 to 5 by the share of the largest of single pairs; a step is a factor of three."""
    largest = max((cell.charged_ns for line in lines[:-1] for cell in line[:-1]), default=1)
    for cell in (cell for line in lines for cell in line if cell.charges):
        cell.shade, bound = _SHADES, largest
        while cell.shade > 1 and cell.charged_ns * 3 <= bound:
            cell.shade, bound = cell.shade - 1, bound // 3


def _laid_out(down: list[str], across: list[str], lines: Sequence[Sequence[Cell]]) -> Matrix:
    """With the line and the column of others only if there are any."""
    if any(line[-1].charges for line in lines):
        across = [*across, OTHERS]
    if any(cell.charges for cell in lines[-1]):
        down = [*down, OTHERS]
    shown = [list(line[: len(across)]) for line in lines[: len(down)]]
    totals = [sum(line[at].charged_ns for line in shown) for at in range(len(across))]
    named = [(name, line, sum(c.charged_ns for c in line)) for name, line in zip(down, shown)]
    return Matrix(across, named, totals, sum(totals))
