"""Blame as text for a terminal: a summary, foreign holders, who waited for whom, stacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from corelock.blame import Blame, ResolvedBlame
from corelock.model import Report
from corelock.render import units
from corelock.render.blame_grouping import ForeignHolder, Pair, Side, foreign_holders, largest_pairs
from corelock.render.columns import (
    OUTSIDE_LEGEND,
    Label,
    fitted,
    least_width,
    name_block,
    number_block,
    process_label,
    thread_label,
)  # fmt: skip
from corelock.render.slow import event_lines
from corelock.render.text import flow, printable

_FOREIGN = 5  # processes worth a line of their own

#: What is put behind a holder, by how sure it is.
MARKS = {"observed": "", "convoy": "c", "owner-word": "?"}
_LEGEND = {
    "convoy": "c convoy: readers behind readers, because a writer was queued between them",
    "owner-word": "? the lock's owner when the wait began; its hold was not seen whole",
}


def blame_lines(report: Report, *, by: str, top: int, stacks: int, width: int) -> Iterator[str]:
    """Lines of at most ``width`` columns; ``top`` 0 shows all pairs.

    Raises:
        ValueError: there is no such ``by``.
    """
    assert report.blame is not None
    blame = report.blame.blame
    open_waits = report.accounting.open_waits if report.accounting else 0
    yield from summary(blame, open_waits, width)
    foreign = [each for each in foreign_holders(blame) if each.charged_ns]
    for holder in foreign[:_FOREIGN]:
        yield from flow(_sentence(holder, report), width, indent="  ")
    shown, found = largest_pairs(blame, by, top)
    if shown:
        yield ""
        yield from _table(shown, blame.wait_ns, width)
        if found > len(shown):
            yield f"... and {found - len(shown):,} more (use -n)"
        yield from legend(shown)
    yield from _examples(report.blame, report.start_ns, stacks, width)


def summary(blame: Blame, open_waits: int, width: int) -> Iterator[str]:
    """How much was waited, and what of it was charged or is unknown, and why."""
    waits = sum(row.wait.count for row in blame.rows)
    if open_waits:
        yield from flow(
            (
                f"STILL WAITING: {open_waits:,}, in no number here;",
                "corelock holders --waiters shows for whom",
            ),
            width,
            indent="  ",
        )
    if not waits:
        yield "no wait ended meanwhile" if open_waits else "no lock was waited for"
        return
    share = f" ({percent(blame.charged_ns, blame.wait_ns)})" if blame.wait_ns else ""
    yield from flow(
        (
            f"waited {units.duration(blame.wait_ns)} in {units.count(waits)} waits:",
            f"charged {units.duration(blame.charged_ns)}{share},",
            f"unknown {units.duration(blame.unknown_ns)}",
        ),
        width,
        indent="  ",
    )
    unheld = sum(each.unheld_ns for each in blame.contentions)
    lost = blame.unknown_ns - blame.uncontended_ns - unheld
    reasons = (
        (blame.uncontended_ns, "uncontended"),
        (unheld, "with no holder seen (waking up, waiting for a CPU)"),
        (lost, "behind more holds than are kept (see docs/blame.md)"),
    )
    parts = [f"{units.duration(ns)} {words}" for ns, words in reasons if ns]
    if parts:
        commas = [f"{part}," for part in parts[:-1]]
        yield from flow(("  unknown:", *commas, parts[-1]), width, indent="    ")
    if blame.missing != 0:
        yield from flow(_missing(blame.missing), width, indent="    ")
    if blame.unaccounted_ns:
        yield f"UNBALANCED by {blame.unaccounted_ns:,} ns: these numbers cannot be trusted"


def _missing(holds: Optional[int]) -> tuple[str, ...]:
    if holds is None:
        whose = "some holds are not on record:"
    else:
        whose = f"up to {holds:,} hold{'' if holds == 1 else 's'} not on record:"
    return (
        f"  MISSING: {whose}", "their time is unknown,",
        "and of several readers", "the last on record is charged",
    )  # fmt: skip


def _sentence(holder: ForeignHolder, report: Report) -> tuple[str, ...]:
    least, most = holder.waits
    waits = units.count(most) if least == most else f"{units.count(least)} to {units.count(most)}"
    whose = f"of {printable(report.target.comm)}'s waits" if report.target else "waits of others"
    return (
        f"*{''.join(process_label(holder.name))} {holder.mode}:",
        f"{units.count(holder.holds)} holds,",
        f"longest {units.duration(holder.longest_ns)},",
        f"blocked {waits} {whose}",
        f"for {units.duration(holder.charged_ns)}",
    )


def _table(shown: Sequence[Pair], wait_ns: int, width: int) -> Iterator[str]:
    waiters = side_columns([pair.waiter for pair in shown])
    holders = side_columns([pair.holder for pair in shown])
    if any(pair.certainty != "observed" for pair in shown):
        holders.append([Label(""), *(Label(MARKS[pair.certainty]) for pair in shown)])
    names = [*waiters, *holders]
    between = "  "
    numbers = _number_block(shown, wait_ns)
    if _room(numbers, names, width) < sum(map(least_width, names)):
        numbers = _number_block(shown, None)
    widths = fitted(names, _room(numbers, names, width))
    left = _titled("WAITER", waiters, widths[: len(waiters)])
    right = _titled("HOLDER", holders, widths[len(waiters) :])
    for number, waiter, holder in zip(numbers, left, right):
        yield f"{number} {waiter}{between}{holder}".rstrip()


def _number_block(shown: Sequence[Pair], wait_ns: Optional[int]) -> list[str]:
    """The numbers, with their share of ``wait_ns`` if it is given."""
    lines = [["CHARGED", "%", "WAITS", "LONGEST"]]
    for pair in shown:
        charged, longest = units.duration(pair.charged_ns), units.duration(pair.longest_ns)
        waits = ("" if pair.exact else "~") + units.count(pair.waits)
        lines.append([charged, percent(pair.charged_ns, wait_ns or 0)[:-1], waits, longest])
    if wait_ns is None:
        lines = [[charged, waits, longest] for charged, _, waits, longest in lines]
    return number_block("", lines)


def _room(numbers: Sequence[str], names: Sequence[object], width: int) -> int:
    """Columns left for the names, without the blank before each and one more between the sides."""
    return width - len(numbers[0]) - len(names) - 1


def side_columns(sides: Sequence[Side]) -> list[list[Label]]:
    """Who waited or held: columns, the first label of each its title."""
    columns = []
    if sides[0].who:
        title = "PROCESS" if sides[0].operation is None else "THREAD"
        columns.append([Label(title), *(thread_label(s.who, s.foreign) for s in sides if s.who)])
    if sides[0].operation is not None:
        # Where no thread says so, the operation is whose it is.
        starred = ("*" if s.foreign and not s.who else "" for s in sides)
        labels = (Label(star + (s.operation or "")) for star, s in zip(starred, sides))
        columns.append([Label("OPERATION"), *labels])
    columns.append([Label("M"), *(Label("W" if s.mode == "write" else "R") for s in sides)])
    return columns


def _titled(title: str, columns: Sequence[list[Label]], widths: Sequence[int]) -> list[str]:
    lines = [" ".join(cells) for cells in zip(*map(name_block, columns, widths))]
    return [f" {title} ".center(len(lines[0]), "-"), *lines[1:]]


def legend(shown: Sequence[Pair]) -> Iterator[str]:
    """What the marks in these pairs mean."""
    if any(pair.holder.foreign or pair.waiter.foreign for pair in shown):
        yield "* foreign: another process's thread"
    sides = (side.who for pair in shown for side in (pair.waiter, pair.holder))
    if any(who and who.id < 0 for who in sides):
        yield OUTSIDE_LEGEND
    for certainty, words in _LEGEND.items():
        if any(pair.certainty == certainty for pair in shown):
            yield words
    if not all(pair.exact for pair in shown):
        yield "~ at most: waits behind several of these are counted for each"


def _examples(resolved: ResolvedBlame, start_ns: int, stacks: int, width: int) -> Iterator[str]:
    shown = set()
    for charge in resolved.blame.largest(stacks) if stacks else ():
        sides = ((charge.waiter, "wait"), (charge.holder, "hold"))
        for row, kind in sides:
            example = resolved.examples.get((row.key, kind))  # type: ignore[arg-type]
            if example is None or (row.key, kind) in shown:
                continue
            shown.add((row.key, kind))
            yield ""
            yield from event_lines(example, start_ns, width, with_process=False)


def percent(part: int, whole: int) -> str:
    """A share, "-" of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "-"
