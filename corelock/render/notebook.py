"""Results as HTML for a Jupyter notebook: :func:`html` is what their ``_repr_html_`` gives.

Tables name no colours, so that they are as readable on dark themes as on light ones, and
carry their styles themselves, as some viewers of notebooks take style sheets out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatch
from html import escape
from itertools import groupby, zip_longest
from typing import NamedTuple, Optional

from corelock.blame import Blame
from corelock.diagnosis import Diagnosis
from corelock.locks import HoldersSnapshot, LockState
from corelock.model import Accounting, Snapshot
from corelock.render import blame as blame_text
from corelock.render import doctor, holders, table, units
from corelock.render.accounting import accounting_lines
from corelock.render.blame_grouping import pairs
from corelock.render.columns import Label
from corelock.render.grouping import BY_FIELDS, several_processes
from corelock.render.text import printable

_TOP = 20  # rows of a table, locks of a look
_WAITERS = 5  # of a lock
_ONE_LINE = 1 << 30  # a notebook breaks lines itself

_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:2px 8px;white-space:nowrap;vertical-align:top;text-align:"
_PROSE = "padding:2px 8px;white-space:normal;vertical-align:top;text-align:left"
_RULE = ";border-bottom:1px solid rgba(128,128,128,.5)"


class _Column(NamedTuple):
    """A column of a table: its title, what it is part of, and its cells."""

    title: str
    cells: Sequence[str]
    side: str = "left"
    group: str = ""

    @property
    def style(self) -> str:
        return _PROSE if self.side == "prose" else _CELL + self.side


@singledispatch
def html(result: object) -> str:
    """A result as a fragment of HTML; names are escaped.

    Raises:
        TypeError: results of this type have no table.
    """
    raise TypeError(f"no table shows a {type(result).__name__}")


@html.register
def _(snapshot: Snapshot) -> str:
    groups = table.sorted_groups(snapshot.rows, BY_FIELDS, "hold")
    if not groups:
        return _fragment("no lock was taken")
    shown = groups[:_TOP]
    columns = _names("", table.name_columns(shown, with_process=several_processes(groups)))
    columns.append(_Column("COUNT", [units.count(g.holds) for g in shown], "right"))
    quantiles = ("p50", "p99")
    for kind, of_kind in (
        ("WAIT", [g.wait for g in shown]),
        ("HOLD", [g.hold for g in shown]),
    ):
        cells = zip(*(table.time_cells(times, quantiles) for times in of_kind))
        titles = ("total", *quantiles, "max")
        columns += [_Column(t, c, "right", kind) for t, c in zip(titles, cells)]
    below = [*table.legend(shown), *table.totals(groups, _ONE_LINE)]
    title = f"mmap_lock for {units.duration(snapshot.duration_ns)}"
    return _fragment(title, columns, [*_more(len(groups), len(shown)), *below])


@html.register
def _(blame: Blame) -> str:
    found = pairs(blame, "thread")
    shown = found[:_TOP]
    title, *why = blame_text.summary(blame, 0, _ONE_LINE)
    if not shown:
        return _fragment(title, below=why)
    waits = [("" if pair.exact else "~") + units.count(pair.waits) for pair in shown]
    columns = [
        _Column("CHARGED", [units.duration(pair.charged_ns) for pair in shown], "right"),
        _Column(
            "%", [blame_text.percent(p.charged_ns, blame.wait_ns)[:-1] for p in shown], "right"
        ),
        _Column("WAITS", waits, "right"),
        _Column("LONGEST", [units.duration(pair.longest_ns) for pair in shown], "right"),
        *_names("WAITER", blame_text.side_columns([pair.waiter for pair in shown])),
        *_names("HOLDER", blame_text.side_columns([pair.holder for pair in shown])),
    ]
    if any(pair.certainty != "observed" for pair in shown):
        marks = [blame_text.MARKS[pair.certainty] for pair in shown]
        columns.append(_Column("", marks, group="HOLDER"))
    below = [*_more(len(found), len(shown)), *blame_text.legend(shown), *why]
    return _fragment(title, columns, below)


@html.register
def _(accounting: Accounting) -> str:
    a = accounting
    counts = {
        "paired": a.paired,
        "held at start": a.held_at_start,
        "held at end": a.held_at_end,
        "unmatched": sum(a.unmatched.values()),
        "lost": sum(a.lost.values()),
        "all": a.seen,
    }
    columns = [
        _Column("EVENTS", list(counts)),
        _Column("COUNT", [f"{count:,}" for count in counts.values()], "right"),
    ]
    # The first is what the table says.
    return _fragment("", columns, list(accounting_lines(a, width=_ONE_LINE))[1:])


@html.register
def _(snapshot: HoldersSnapshot) -> str:
    whole = "" if snapshot.whole_host else " of this pid namespace"
    title = f"{len(snapshot.locks):,} of {snapshot.mms:,} address spaces{whole}"
    if not snapshot.locks:
        return _fragment(f"nothing held: {title}")
    lines = [line for lock in snapshot.locks[:_TOP] for line in _lock(lock, snapshot)]
    titles = ("LOCK OF", "WHO", "MODE", "OPERATION", "HOW SURE")
    columns = [_Column(title, cells) for title, cells in zip(titles, zip(*lines))]
    below = [*_more(len(snapshot.locks), len(snapshot.locks[:_TOP]))]
    if any(who.startswith("*") for _, who, *_ in lines):
        below.append("* foreign: another process's thread")
    if snapshot.not_kept:
        below.append(f"{snapshot.not_kept:,} locks or threads stay without names")
    return _fragment(f"mmap_lock held or waited for: {title}", columns, below)


def _lock(lock: LockState, snapshot: HoldersSnapshot) -> Iterator[tuple[str, ...]]:
    """A line for who holds it, and one for each of the first that wait."""
    thread = lock.holder.thread
    operation = thread.operation if thread else ""
    who, of = holders.thread_name(thread, lock), holders.processes(lock)
    if lock.mode is None:
        yield of, "", "free", "", "about to be taken by the first that waits"
    elif lock.mode == "read":
        sure = f"{holders.readers(lock)}; {holders.CERTAINTY[lock.holder.certainty]}"
        yield of, who, "holds, read", operation, sure
    else:
        yield of, who, "holds, write", operation, holders.CERTAINTY[lock.holder.certainty]
    for waiter in lock.waiters[:_WAITERS]:
        operation = waiter.thread.operation if waiter.thread else ""
        name = holders.thread_name(waiter.thread, lock)
        sure = holders.waiter_certainty(waiter, snapshot)
        yield "", name, f"waits, {waiter.mode}", operation, sure
    behind = lock.waiter_count - len(lock.waiters[:_WAITERS])
    if behind:
        # More than were counted may wait.
        least = "" if lock.waiters_counted else "at least "
        yield "", f"{least}{behind:,} more", "wait", "", ""


@html.register
def _(diagnosis: Diagnosis) -> str:
    checks = diagnosis.checks
    columns = [
        _Column("", [doctor.VERDICTS[check.verdict] for check in checks]),
        _Column("CHECK", [check.title for check in checks]),
        _Column("FOUND", [check.found for check in checks], "prose"),
    ]
    if any(check.remedy for check in checks):
        columns.append(_Column("WHAT TO DO", [check.remedy for check in checks], "prose"))
    return _fragment(doctor.verdict(diagnosis), columns)


def _names(group: str, columns: Iterable[Sequence[Label]]) -> list[_Column]:
    return [
        _Column(title.head, ["".join(label) for label in labels], group=group)
        for title, *labels in columns
    ]


def _more(found: int, shown: int) -> Iterator[str]:
    if found > shown:
        yield f"... and {found - shown:,} more"


def _fragment(title: str, columns: Sequence[_Column] = (), below: Iterable[str] = ()) -> str:
    """A title, a table, and notes; each may be missing."""
    parts = [f"<p><b>{_text(title)}</b></p>"] if title else []
    if columns:
        parts += [f'<table style="{_TABLE}">', *_head(columns), "<tbody>"]
        for cells in zip_longest(*(column.cells for column in columns), fillvalue=""):
            parts.append(_line("td", zip(cells, (column.style for column in columns))))
        parts.append("</tbody></table>")
    # Not dimmed: they say what the numbers lack.
    for line in below:
        weight = ";font-weight:bold" if line.startswith("UNBALANCED") else ""
        parts.append(f'<div style="white-space:pre-wrap{weight}">{_text(line.strip())}</div>')
    return "<div>" + "\n".join(parts) + "</div>"


def _head(columns: Sequence[_Column]) -> Iterator[str]:
    yield "<thead>"
    if any(column.group for column in columns):
        groups = groupby(columns, lambda column: column.group)
        yield "<tr>" + "".join(_spanning(group, len(list(of))) for group, of in groups) + "</tr>"
    yield _line("th", ((column.title, column.style + _RULE) for column in columns))
    yield "</thead>"


def _spanning(group: str, columns: int) -> str:
    rule = _RULE if group else ""
    return f'<th colspan="{columns}" style="{_CELL}center{rule}">{_text(group)}</th>'


def _line(tag: str, cells: Iterable[tuple[str, str]]) -> str:
    return (
        "<tr>"
        + "".join(f'<{tag} style="{style}">{_text(text)}</{tag}>' for text, style in cells)
        + "</tr>"
    )


def _text(text: Optional[str]) -> str:
    return escape(printable(text or ""))
