"""Charges merged by thread, by operation or by process."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.blame import Blame, Certainty, Charge
from corelock.model import Mode, Row
from corelock.render.grouping import Name, shown_id

BLAME_BY = ("thread", "operation", "process")


class Side(NamedTuple):
    """Who waited, or who held; what it was not grouped by is None."""

    who: Optional[Name]
    foreign: bool
    operation: Optional[str]
    mode: Mode


@dataclass(frozen=True)
class Pair:
    """Charges that agree in both sides and in certainty, added up.

    ``exact`` says that no wait can be in ``waits`` twice, and that ``longest_ns``
    is all that one wait was charged with; else the former is the most and the
    latter the least it can be.
    """

    waiter: Side
    holder: Side
    certainty: Certainty
    charged_ns: int
    waits: int
    longest_ns: int
    exact: bool


@dataclass(frozen=True)
class ForeignHolder:
    """What one other process did to the waits, in one mode.

    ``waits`` is (least, most): a wait behind several of its threads or
    operations is charged to each.
    """

    name: Name
    mode: Mode
    holds: int
    longest_ns: int
    waits: tuple[int, int]
    charged_ns: int


def pairs(blame: Blame, by: str) -> list[Pair]:
    """The charges grouped, the largest first.

    Raises:
        ValueError: ``by`` is not in ``BLAME_BY``.
    """
    return largest_pairs(blame, by, 0)[0]


def largest_pairs(blame: Blame, by: str, top: int) -> tuple[list[Pair], int]:
    """The ``top`` largest groups of charges (0: all), the largest first, and how many there are.

    Raises:
        ValueError: ``by`` is not in ``BLAME_BY``.
    """
    if by not in BLAME_BY:
        raise ValueError(f"cannot group by {by!r}, only by {', '.join(BLAME_BY)}")
    groups: dict[tuple[object, ...], list[Charge]] = defaultdict(list)
    for charge in blame.charges:
        sides = _identity(charge.waiter, by), _identity(charge.holder, by)
        groups[(*sides, charge.certainty)].append(charge)
    of_pairs: Iterable[list[Charge]] = groups.values()
    if top:
        # Of 100,000 pairs only those that are shown are worth a name; equal ones are ordered below.
        least = heapq.nlargest(top, map(_charged_ns, of_pairs))[-1:]
        of_pairs = (charges for charges in of_pairs if [_charged_ns(charges)] >= least)
    names = process_names(blame.rows, blame.charges)
    merged = sorted(
        (_pair(charges, by, names) for charges in of_pairs),
        key=lambda pair: (-pair.charged_ns, pair.waiter, pair.holder, pair.certainty),
    )
    return merged[:top] if top else merged, len(groups)


def _charged_ns(charges: Iterable[Charge]) -> int:
    return sum(charge.charged_ns for charge in charges)


def foreign_holders(blame: Blame) -> list[ForeignHolder]:
    """Other processes that were in the way, the one with most of the time first."""
    names = process_names(blame.rows, blame.charges)
    groups: dict[tuple[int, Mode], list[Charge]] = defaultdict(list)
    for charge in blame.charges:
        # What foreign threads do to each other is nothing to the process.
        if charge.holder.foreign and not charge.waiter.foreign:
            groups[_process(charge.holder), charge.holder.mode].append(charge)
    found = []
    for (pid, mode), charges in groups.items():
        rows = (row for row in blame.rows if row.foreign and _process(row) == pid)
        held = [row.hold for row in rows if row.mode == mode]
        found.append(
            ForeignHolder(
                Name(names[pid], pid),
                mode,
                sum(hold.count for hold in held),
                max((hold.max_ns for hold in held), default=0),
                _waits(charges),
                _charged_ns(charges),
            )
        )
    return sorted(found, key=lambda each: (-each.charged_ns, each.name))


def process_names(rows: Iterable[Row], charges: Iterable[Charge]) -> dict[int, str]:
    """What each process, by its shown pid, is called: as its leader, or else as a thread of it."""
    names: dict[int, str] = {}
    leaders: dict[int, str] = {}
    for row in (*rows, *(each.holder for each in charges)):
        names.setdefault(_process(row), row.comm)
        leaders.setdefault(shown_id(row.mm_pid, row.mm_host_pid), row.mm_comm)
        if row.host_tid == row.host_pid:
            leaders[_process(row)] = row.comm
    return {**names, **leaders}


def _process(row: Row) -> int:
    return shown_id(row.pid, row.host_pid)


def _identity(row: Row, by: str) -> tuple[object, ...]:
    if by == "thread":
        return row.key
    if by == "operation":
        return row.foreign, row.operation, row.mode
    return row.foreign, _process(row), row.mode


def _pair(charges: list[Charge], by: str, names: dict[int, str]) -> Pair:
    first = charges[0]
    least, most = _waits(charges)
    return Pair(
        side_of(first.waiter, by, names),
        side_of(first.holder, by, names),
        first.certainty,
        _charged_ns(charges),
        most,
        max(charge.longest_ns for charge in charges),
        least == most,
    )


def side_of(row: Row, by: str, names: dict[int, str]) -> Side:
    """The side that a row is on; ``names`` of :func:`process_names`."""
    thread = Name(row.comm, shown_id(row.tid, row.host_tid))
    process = Name(names[_process(row)], _process(row))
    who = {"thread": thread, "process": process}.get(by)
    return Side(who, row.foreign, None if by == "process" else row.operation, row.mode)


def _waits(charges: Iterable[Charge]) -> tuple[int, int]:
    """How many waits these charges were made to, at least and at most."""
    by_waiter: dict[object, list[int]] = defaultdict(list)
    for charge in charges:
        by_waiter[charge.waiter.key].append(charge.waits)
    return sum(map(max, by_waiter.values())), sum(map(sum, by_waiter.values()))
