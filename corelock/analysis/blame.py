"""Blame, worked out from a recording, as a live run has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

from corelock._charges import RawCharge, charge_rows
from corelock.analysis.batches import batches, chooser
from corelock.analysis.census import Census
from corelock.analysis.charges import Charges
from corelock.analysis.overlaps import contended, overlaps
from corelock.analysis.periods import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.slowest import Slowest
from corelock.analysis.source import NO_TIMES, Source
from corelock.analysis.summary import summarize
from corelock.blame import Blame, Charge, ResolvedBlame
from corelock.model import Accounting, Report, ResolvedSlowEvent, Row, RowKey, SlowKind

_READ, _WRITE = 0, 1


def with_blame(
    source: Source,
    report: Report,
    selection: Selection,
    census: Census,
    progress: Optional[Progress] = None,
    *,
    stacks: int = 0,
) -> Report:
    """``report`` of ``source`` and ``selection``, with whose holds its waits were due to.

    Waits are those of the chosen cycles; holds are looked for in all of the recording. Stacks
    are found for both sides of the ``stacks`` largest charges.
    """
    charges = Charges(len(source.row_table))
    for each in overlaps(source.recording, chooser(source, selection), progress):
        charges.add(each)
    waited, total = charges.contended, charges.total()
    numbers = {*waited.waits.nonzero()[0].tolist(), *total.holder.tolist()}
    rows = _rows(source, report, selection, numbers, progress)
    row_of = {number: rows[source.name(number).key] for number in numbers}
    contentions, charged = charge_rows(
        row_of,
        (
            (number, tuple(int(of[number]) for of in (*waited, waited.unknown_ns)))
            for number in waited.waits.nonzero()[0].tolist()
        ),
        _raw(source, total),
    )
    blame = Blame(
        report.start_ns, report.duration_ns, tuple(rows.values()), contentions, charged, {},
        missing_holds(census, report.accounting),
    )  # fmt: skip
    examples = _examples(source, selection, row_of, blame.largest(stacks) if stacks else [])
    return replace(report, blame=ResolvedBlame(blame, examples))


def missing_holds(census: Census, accounting: Optional[Accounting]) -> Optional[int]:
    """How many holds at most are in no cycle that could be read; None: nobody knows."""
    if accounting is None or census.unread is None:
        return None
    return (
        max(census.unread, 0)
        + census.nameless
        + sum(census.lost.values())
        # Each event that was not paired may be the end of a hold.
        + accounting.held_at_start
        + sum(accounting.unmatched.values())
        + sum(accounting.lost.values())
    )


def _rows(
    source: Source, report: Report, selection: Selection, numbers: set[int],
    progress: Optional[Progress],
) -> dict[RowKey, Row]:  # fmt: skip
    """The rows of the report and of these numbers, by key, with all of their recorded holds.

    A wait may have been for a hold that was over when the chosen time began. Rows that were not
    chosen have no waits here, as those are in no sum either.
    """
    rows = {row.key: row for row in report.rows}
    for number in numbers:
        row = source.name(number)
        rows.setdefault(row.key, row)
    if selection != Selection():
        (_, whole), *_ = summarize([source], Selection(), progress, slowest=0)
        held = {row.key: row.hold for row in whole.rows}
        rows = {key: replace(row, hold=held.get(key, NO_TIMES)) for key, row in rows.items()}
    return rows


def _raw(source: Source, total: Any) -> Iterator[RawCharge]:
    mode = source.row_table.mode
    for waiter, holder, *numbers in zip(*(column.tolist() for column in total)):
        convoy = mode[waiter] == mode[holder] == _READ
        yield RawCharge(waiter, holder, "convoy" if convoy else "observed", *numbers)


def _examples(
    source: Source, selection: Selection, row_of: dict[int, Row], charges: list[Charge]
) -> dict[tuple[RowKey, SlowKind], ResolvedSlowEvent]:
    """The longest contended wait and the longest hold with stacks, of both sides of charges."""
    waiters = {charge.waiter.key for charge in charges}
    holders = {charge.holder.key for charge in charges}
    found: dict[tuple[int, SlowKind], Slowest] = {}
    for number, row in row_of.items():
        if row.key in waiters:
            found[number, "wait"] = Slowest(source, "wait", 1)
        if row.key in holders:
            found[number, "hold"] = Slowest(source, "hold", 1)
    if found:
        within = Selection(selection.from_ns, selection.to_ns)
        for batch in batches(source, within):
            late = contended(batch.kind[batch.stacked], batch.wait_ns[batch.stacked])
            for (number, kind), slowest in found.items():
                of_row = batch.row[batch.stacked] == number
                taken = batch.hold_stack != 0 if kind == "hold" else late & (batch.wait_stack != 0)
                slowest.add(batch, batch.stacked[of_row & taken])
    events = (
        ((row_of[number].key, kind), event)
        for (number, kind), slowest in found.items()
        for event in slowest.events()
    )
    # Of one row under several numbers, the longer one stays.
    return dict(sorted(events, key=lambda item: item[1].event.duration_ns))
