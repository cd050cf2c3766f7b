"""Making charges of what the kernel's tables say; only blame needs this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    contended = ((r.row_index, r.contention) for r in readings if any(r.contention))
    contentions, charges = charge_rows(row_of, contended, raw)
    return Charged(
        tuple(row for row in rows.values() if row.is_active), contentions, charges, row_of
    )


def charge_rows(
    row_of: Mapping[int, Row],
    contended: Iterable[tuple[int, tuple[int, ...]]],
    raw: Iterable[RawCharge],
) -> tuple[tuple[Contention, ...], tuple[Charge, ...]]:
    """What rows by index waited and were charged, ``contended`` as :class:`Contention` has it.

    Of indices that are the same row added up. Charges of what is in no row are left out.
    """
    sums: dict[RowKey, tuple[Row, tuple[int, ...]]] = {}
    for index, numbers in contended:
        row = row_of[index]
        before = sums[row.key][1] if row.key in sums else (0, 0, 0, 0)
        sums[row.key] = row, tuple(map(sum, zip(before, numbers)))
    charges: dict[tuple[RowKey, RowKey, Certainty], Charge] = {}
    for one in raw:
        if one.waiter not in row_of or one.holder not in row_of:
            continue
        waiter, holder = row_of[one.waiter], row_of[one.holder]
        charge = Charge(waiter, holder, one.certainty, one.charged_ns, one.waits, one.longest_ns)
        key = charge.key
        same = charges.get(key)
        charges[key] = charge if same is None else same.plus(charge)
    contentions = (Contention(row, *numbers) for row, numbers in sums.values())
    return tuple(contentions), tuple(charges.values())
