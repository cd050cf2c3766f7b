"""Charges merged by thread, by operation or by process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.blame import Blame, Certainty, Charge
from corelock.model import Mode, Row
from corelock.render.grouping import Name, name_of

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
    if by not in BLAME_BY:
        raise ValueError(f"cannot group by {by!r}, only by {', '.join(BLAME_BY)}")
    names = process_names(blame.rows, blame.charges)
    groups: dict[tuple[object, ...], list[Charge]] = defaultdict(list)
    for charge in blame.charges:
        sides = _identity(charge.waiter, by), _identity(charge.holder, by)
        groups[(*sides, charge.certainty)].append(charge)
    merged = [_pair(charges, by, names) for charges in groups.values()]
    return sorted(
        merged, key=lambda pair: (-pair.charged_ns, pair.waiter, pair.holder, pair.certainty)
    )


def foreign_holders(blame: Blame) -> list[ForeignHolder]:
    """Other processes that were in the way, the one with most of the time first."""
    names = process_names(blame.rows, blame.charges)
    groups: dict[tuple[int, Mode], list[Charge]] = defaultdict(list)
    for charge in blame.charges:
        # What foreign threads do to each other is nothing to the process.
        if charge.holder.foreign and not charge.waiter.foreign:
            groups[charge.holder.host_pid, charge.holder.mode].append(charge)
    found = []
    for (host_pid, mode), charges in groups.items():
        rows = (r for r in blame.rows if r.foreign and r.host_pid == host_pid)
        held = [row.hold for row in rows if row.mode == mode]
        found.append(
            ForeignHolder(
                names[host_pid],
                mode,
                sum(hold.count for hold in held),
                max((hold.max_ns for hold in held), default=0),
                _waits(charges),
                sum(charge.charged_ns for charge in charges),
            )
        )
    return sorted(found, key=lambda each: (-each.charged_ns, each.name))


def process_names(rows: Iterable[Row], charges: Iterable[Charge]) -> dict[int, Name]:
    """What each process is called: as the leader of its threads, or else as one of them.

    By their pids in the initial pid namespace, as outside of the tracer's own all are 0.
    """
    names: dict[int, Name] = {}
    leaders: dict[int, Name] = {}
    for row in (*rows, *(each.holder for each in charges)):
        name = name_of(row.comm, row.pid, row.host_pid)
        names.setdefault(row.host_pid, name)
        mm_name = name_of(row.mm_comm, row.mm_pid, row.mm_host_pid)
        leaders.setdefault(row.mm_host_pid, mm_name)
        if row.host_tid == row.host_pid:
            leaders[row.host_pid] = name
    return {**names, **leaders}


def _identity(row: Row, by: str) -> tuple[object, ...]:
    if by == "thread":
        return row.key
    if by == "operation":
        return row.foreign, row.operation, row.mode
    return row.foreign, row.host_pid, row.mode


def _pair(charges: list[Charge], by: str, names: dict[int, Name]) -> Pair:
    first = charges[0]
    least, most = _waits(charges)
    return Pair(
        _side(first.waiter, by, names),
        _side(first.holder, by, names),
        first.certainty,
        sum(charge.charged_ns for charge in charges),
        most,
        max(charge.longest_ns for charge in charges),
        least == most,
    )


def _side(row: Row, by: str, names: dict[int, Name]) -> Side:
    thread = name_of(row.comm, row.tid, row.host_tid)
    who = {"thread": thread, "process": names[row.host_pid]}.get(by)
    return Side(who, row.foreign, None if by == "process" else row.operation, row.mode)


def _waits(charges: Iterable[Charge]) -> tuple[int, int]:
    """How many waits these charges were made to, at least and at most."""
    by_waiter: dict[object, list[int]] = defaultdict(list)
    for charge in charges:
        by_waiter[charge.waiter.key].append(charge.waits)
    return sum(map(max, by_waiter.values())), sum(map(sum, by_waiter.values()))
