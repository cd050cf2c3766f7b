"""Whose waits were due to whose holds, as frozen values that know nothing of BPF.

Times are integers in nanoseconds, as in :mod:`corelock.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Optional

from corelock.model import ResolvedSlowEvent, Row, RowKey, Shown, SlowEvent, SlowKind

#: How it is known who was waited for: from a hold that was seen to overlap the
#: wait; so, and it was a reader that waited behind readers because a writer was
#: queued between them; or only from the lock's owner word when the wait began.
Certainty = Literal["observed", "convoy", "owner-word"]


@dataclass(frozen=True)
class Charge:
    """What the waits in one row were due to the holds of another.

    ``charged_ns`` is the part of the waits that the holds overlapped; of several
    holds at a time, all of readers, the one that ended last is charged. ``waits``
    is how many of the waits had such a part, ``longest_ns`` the most that one of
    them was charged with.
    """

    __slots__ = ("waiter", "holder", "certainty", "charged_ns", "waits", "longest_ns")
    waiter: Row
    holder: Row
    certainty: Certainty
    charged_ns: int
    waits: int
    longest_ns: int

    @property
    def key(self) -> tuple[RowKey, RowKey, Certainty]:
        """What makes a charge one charge within its session."""
        return self.waiter.key, self.holder.key, self.certainty

    def plus(self, other: Charge) -> Charge:
        """This charge with the numbers of ``other``, of other waits, added."""
        return Charge(
            self.waiter, self.holder, self.certainty,
            self.charged_ns + other.charged_ns,
            self.waits + other.waits,
            max(self.longest_ns, other.longest_ns),
        )  # fmt: skip


@dataclass(frozen=True)
class Contention:
    """The waits of one row that were in somebody's way, or long.

    ``waits`` began when the lock could not be had, or took 4.1 us or more;
    ``wait_ns`` is their sum, ``unknown_ns`` what of it was charged to nobody, and
    ``unheld_ns`` the part of that in which nobody was seen to have the lock: the
    thread was waking up, or had the lock and no CPU to go on.
    """

    __slots__ = ("row", "waits", "wait_ns", "unknown_ns", "unheld_ns")
    row: Row
    waits: int
    wait_ns: int
    unknown_ns: int
    unheld_ns: int


@dataclass(frozen=True)
class Blame(Shown):
    """Every wait, charged to the holds that overlapped it.

    ``wait_ns`` (all waits in ``rows``) is always ``charged_ns`` plus
    ``unknown_ns``. ``examples`` has for a row, by its key, the longest wait or
    hold of which stacks were taken: within a factor of two of the longest that
    was in somebody's way. ``missing`` is how many holds at most are not on record though they
    may have been in the way (None: nobody knows how many); their time is unknown, and of
    several readers the last of those on record is charged. It is 0 of a live run, which says
    for each wait whether holds were forgotten.
    """

    start_ns: int
    duration_ns: int
    rows: tuple[Row, ...]
    contentions: tuple[Contention, ...]
    charges: tuple[Charge, ...]
    examples: Mapping[tuple[RowKey, SlowKind], SlowEvent]
    missing: Optional[int] = 0

    @property
    def wait_ns(self) -> int:
        """All waits together."""
        return sum(row.wait.total_ns for row in self.rows)

    @property
    def charged_ns(self) -> int:
        """What of them was charged to holds."""
        return sum(charge.charged_ns for charge in self.charges)

    @property
    def unknown_ns(self) -> int:
        """What of them was not: nobody was seen to be in the way, or it could not be told who."""
        return self.uncontended_ns + sum(each.unknown_ns for each in self.contentions)

    @property
    def uncontended_ns(self) -> int:
        """Of the unknown, waits for a lock that was free: the time that taking it takes."""
        return self.wait_ns - sum(each.wait_ns for each in self.contentions)

    @property
    def unaccounted_ns(self) -> int:
        """Waits minus charged and unknown: 0 once tracing has ended, or do not trust it."""
        return self.wait_ns - self.charged_ns - self.unknown_ns

    def example(self, row: Row, kind: SlowKind) -> Optional[SlowEvent]:
        """A wait or hold of a row with its stacks, if one was sent."""
        return self.examples.get((row.key, kind))

    def largest(self, top: int) -> list[Charge]:
        """The ``top`` largest charges (0: all), the largest first."""
        ordered = sorted(self.charges, key=lambda charge: (-charge.charged_ns, charge.key))
        return ordered[:top] if top else ordered


@dataclass(frozen=True)
class ResolvedBlame:
    """Blame with the stacks of its examples as symbols, those of some charges."""

    blame: Blame
    examples: Mapping[tuple[RowKey, SlowKind], ResolvedSlowEvent]


def resolved(
    blame: Blame, resolve: Callable[[SlowEvent], ResolvedSlowEvent], charges: Iterable[Charge]
) -> ResolvedBlame:
    """``blame`` with the examples of both sides of these of its charges."""
    examples: dict[tuple[RowKey, SlowKind], ResolvedSlowEvent] = {}
    sides: tuple[tuple[Row, SlowKind], ...]
    for charge in charges:
        sides = (charge.waiter, "wait"), (charge.holder, "hold")
        for row, kind in sides:
            event = blame.example(row, kind)
            if event is not None and (row.key, kind) not in examples:
                examples[row.key, kind] = resolve(event)
    return ResolvedBlame(blame, examples)
