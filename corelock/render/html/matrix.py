"""Charges as a matrix: who waited, down, and whose holds that was charged to, across."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from corelock.blame import Blame
from corelock.render.blame_grouping import Pair, Side, pairs
from corelock.render.columns import process_label, thread_label
from corelock.render.units import count, duration

_SHADES = 5
_MARKS = {"observed": "", "convoy": "c", "owner-word": "?"}


@dataclass
class Cell:
    """What the waits of one side were charged with to the holds of another."""

    charged_ns: int = 0
    mark: str = ""
    shade: int = 0
    words: str = ""


@dataclass(frozen=True)
class Matrix:
    """Sides with the most first; what has no line or column of its own is in the last."""

    holders: list[str]
    lines: list[tuple[str, list[Cell], int]]
    totals: list[int]
    charged_ns: int


def side_name(side: Side) -> str:
    """A side in words."""
    words = []
    if side.who is not None:
        label = process_label(side.who) if side.operation is None else None
        star = "*" if side.foreign else ""
        words.append(
            star + "".join(label) if label else "".join(thread_label(side.who, side.foreign))
        )
    elif side.foreign:
        words.append("*")
    if side.operation is not None:
        words.append(side.operation)
    return " ".join([*words, "W" if side.mode == "write" else "R"]).replace("* ", "*")


class _Names(dict[Side, str]):
    def __missing__(self, side: Side) -> str:
        self[side] = side_name(side)
        return self[side]


def matrix(blame: Blame, by: str, most: int = 12) -> Matrix:
    """Charges between the ``most`` waiters and holders with the largest sums, and the others."""
    found = pairs(blame, by)
    # There may be a hundred thousand pairs of a few hundred sides.
    name = _Names()
    waiters = _largest(((name[p.waiter], p.charged_ns) for p in found), most)
    holders = _largest(((name[p.holder], p.charged_ns) for p in found), most)
    rest = "others"
    cells: dict[tuple[str, str], Cell] = defaultdict(Cell)
    details: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in found:
        waiter, holder = name[pair.waiter], name[pair.holder]
        key = (waiter if waiter in waiters else rest, holder if holder in holders else rest)
        cells[key].charged_ns += pair.charged_ns
        details[key].append(pair)
    largest = max((cell.charged_ns for cell in cells.values()), default=0)
    for key, cell in cells.items():
        cell.shade = _shade(cell.charged_ns, largest)
        marks = {_MARKS[pair.certainty] for pair in details[key]}
        cell.mark = "".join(sorted(marks))
        cell.words = _words(key, cell, details[key])
    down = _with_rest(waiters, rest, (key[0] for key in cells))
    across = _with_rest(holders, rest, (key[1] for key in cells))
    lines = []
    for waiter in down:
        line = [cells.get((waiter, holder), Cell()) for holder in across]
        lines.append((waiter, line, sum(cell.charged_ns for cell in line)))
    totals = [sum(line[at].charged_ns for _, line, _ in lines) for at in range(len(across))]
    return Matrix(across, lines, totals, sum(totals))


def _largest(sides: Iterable[tuple[str, int]], most: int) -> list[str]:
    sums: dict[str, int] = defaultdict(int)
    for side, charged_ns in sides:
        sums[side] += charged_ns
    return sorted(sums, key=lambda side: (-sums[side], side))[:most]


def _with_rest(shown: Sequence[str], rest: str, used: Iterable[str]) -> list[str]:
    return [*shown, rest] if rest in set(used) else list(shown)


def _shade(charged_ns: int, largest: int) -> int:
    """1 to 5 by the share of the largest; a step is a factor of three."""
    shade, bound = _SHADES, largest
    while shade > 1 and charged_ns * 3 <= bound:
        shade, bound = shade - 1, bound // 3
    return shade


def _words(key: tuple[str, str], cell: Cell, charges: Sequence[Pair]) -> str:
    waits = sum(pair.waits for pair in charges)
    about = "" if len(charges) == 1 and charges[0].exact else "at most "
    longest: Optional[int] = max(pair.longest_ns for pair in charges)
    return (
        f"{key[0]} waited {duration(cell.charged_ns)} for {key[1]}, "
        f"in {about}{count(waits)} waits, {duration(longest)} in one"
    )
