"""Charges as a matrix: who waited, down, and whose holds that was charged to, across."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from corelock.blame import Blame, Certainty
from corelock.model import Row, RowKey
from corelock.render.blame_grouping import process_names, side_of
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
    certainties: set[Certainty] = field(default_factory=set)
    shade: int = 0

    @property
    def mark(self) -> str:
        """How far it is to be trusted; nothing: fully."""
        return "".join(sorted(_MARKS[certainty] for certainty in self.certainties))

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


def matrix(blame: Blame, by: str, most: int = 12) -> Matrix:
    """Charges between the ``most`` waiters and holders with the largest sums, and the others.

    ``by`` is one of ``BLAME_BY``.
    """
    name = _Names(by, process_names(blame.rows, blame.charges))
    waited: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for charge in blame.charges:
        waited[name.of(charge.waiter)] += charge.charged_ns
        held[name.of(charge.holder)] += charge.charged_ns
    waiters, holders = _largest(waited, most), _largest(held, most)
    down, across = {*waiters}, {*holders}
    cells: dict[tuple[str, str], Cell] = defaultdict(Cell)
    for charge in blame.charges:
        waiter, holder = name.of(charge.waiter), name.of(charge.holder)
        key = (waiter if waiter in down else OTHERS, holder if holder in across else OTHERS)
        cell = cells[key]
        cell.charged_ns += charge.charged_ns
        cell.charges += 1
        cell.waits += charge.waits
        cell.longest_ns = max(cell.longest_ns, charge.longest_ns)
        cell.certainties.add(charge.certainty)
    _shade(cells)
    return _laid_out(
        _with_others(waiters, (key[0] for key in cells)),
        _with_others(holders, (key[1] for key in cells)),
        cells,
    )


class _Names:
    """What rows are called, each worked out once: there may be a hundred thousand charges."""

    def __init__(self, by: str, processes: dict[int, str]) -> None:
        self._by = by
        self._processes = processes
        self._names: dict[RowKey, str] = {}

    def of(self, row: Row) -> str:
        name = self._names.get(row.key)
        if name is None:
            name = self._names[row.key] = self._name(row)
        return name

    def _name(self, row: Row) -> str:
        side = side_of(row, self._by, self._processes)
        mode = "W" if side.mode == "write" else "R"
        if side.who is None:
            return ("*" if side.foreign else "") + f"{side.operation} {mode}"
        if side.operation is None:
            return ("*" if side.foreign else "") + "".join(process_label(side.who)) + f" {mode}"
        return "".join(thread_label(side.who, side.foreign)) + f" {side.operation} {mode}"


def _largest(sums: Mapping[str, int], most: int) -> list[str]:
    return sorted(sums, key=lambda name: (-sums[name], name))[:most]


def _with_others(shown: Sequence[str], used: Iterable[str]) -> list[str]:
    return [*shown, OTHERS] if OTHERS in set(used) else list(shown)


def _shade(cells: Mapping[tuple[str, str], Cell]) -> None:
    """1 to 5 by the share of the largest of single pairs; a step is a factor of three."""
    single = [cell.charged_ns for key, cell in cells.items() if OTHERS not in key]
    largest = max(single, default=1)
    for cell in cells.values():
        cell.shade, bound = _SHADES, largest
        while cell.shade > 1 and cell.charged_ns * 3 <= bound:
            cell.shade, bound = cell.shade - 1, bound // 3


def _laid_out(
    down: Sequence[str], across: Sequence[str], cells: Mapping[tuple[str, str], Cell]
) -> Matrix:
    lines = []
    for waiter in down:
        line = [cells.get((waiter, holder), Cell()) for holder in across]
        lines.append((waiter, line, sum(cell.charged_ns for cell in line)))
    totals = [sum(line[at].charged_ns for _, line, _ in lines) for at in range(len(across))]
    return Matrix(list(across), lines, totals, sum(totals))
