"""Making charges of what the kernel's tables say; only blame needs this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from corelock._rows import Names, Reading, merged
from corelock.blame import Certainty, Charge, Contention
from corelock.model import Row, RowKey

#: By ``enum corelock_certainty``.
CERTAINTIES: tuple[Certainty, ...] = ("observed", "convoy", "owner-word")


class RawCharge(NamedTuple):
    """One charge of the kernel's table; its rows by index."""

    waiter: int
    holder: int
    certainty: Certainty
    charged_ns: int
    waits: int
    longest_ns: int
    last_start_ns: int = 0  # when the wait began that was charged last
    last_ns: int = 0  # what that one was charged with


class Charged(NamedTuple):
    """The two tables together, under final names."""

    rows: tuple[Row, ...]
    contentions: tuple[Contention, ...]
    charges: tuple[Charge, ...]
    row_of: dict[int, Row]  # by index


def assemble_charges(readings: Sequence[Reading], raw: Iterable[RawCharge]) -> Charged:
    """As :func:`assemble`, with the charges among the rows.

    A holder may be in no row's counts: one that is known by the lock's owner word alone, or whose
    only hold began before tracing. A charge that came after its rows were read is left out.
    """
    names = Names(readings)
    rows = merged(readings, names)
    row_of = {reading.row_index: rows[names.final(reading).key] for reading in readings}
    contended: dict[RowKey, tuple[int, ...]] = {}
    for reading in readings:
        if any(reading.contention):
            key = row_of[reading.row_index].key
            sums = zip(contended.get(key, (0, 0, 0, 0)), reading.contention)
            contended[key] = tuple(map(sum, sums))
    charges: dict[tuple[RowKey, RowKey, Certainty], Charge] = {}
    for one in raw:
        if one.waiter not in row_of or one.holder not in row_of:
            continue
        waiter, holder = row_of[one.waiter], row_of[one.holder]
        charge = Charge(waiter, holder, one.certainty, one.charged_ns, one.waits, one.longest_ns)
        same = charges.get(charge.key)
        charges[charge.key] = charge if same is None else same.plus(charge)
    return Charged(
        tuple(row for row in rows.values() if row.is_active),
        tuple(Contention(rows[key], *numbers) for key, numbers in contended.items()),
        tuple(charges.values()),
        row_of,
    )
