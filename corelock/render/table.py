"""The hold-times table: one line a group, waits and holds side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Optional

from corelock.model import Report, Row, Times
from corelock.render import units
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
from corelock.render.grouping import BY_FIELDS, Group, Name, group, several_processes
from corelock.render.text import flow, printable

MIN_WIDTH = 80

_SORT_KEYS: dict[str, Callable[[Group], int]] = {
    "hold": lambda g: g.hold.total_ns,
    "hold-max": lambda g: g.hold.max_ns,
    "hold-p99": lambda g: g.hold.quantile(0.99) or 0,
    "wait": lambda g: g.wait.total_ns,
    "wait-max": lambda g: g.wait.max_ns,
    "wait-p99": lambda g: g.wait.quantile(0.99) or 0,
    "count": lambda g: g.holds,
    "thread": lambda g: 0,  # what breaks ties is by thread
}
SORT_FIELDS = tuple(_SORT_KEYS)


def sorted_groups(
    rows: Sequence[Row], by: Sequence[str], sort: str, hosts: Optional[Mapping[int, str]] = None
) -> list[Group]:
    """Groups of ``rows``, the largest of the field ``sort`` first; "thread" is by name.

    ``hosts`` is as of :func:`corelock.render.grouping.group`.

    Raises:
        ValueError: ``by`` or ``sort`` names no field of its kind.
    """
    if sort not in _SORT_KEYS:
        raise ValueError(f"cannot sort by {sort!r}, only by {', '.join(SORT_FIELDS)}")
    key = _SORT_KEYS[sort]
    return sorted(group(rows, by, hosts), key=lambda g: (-key(g), _by_name(g)))


def _by_name(g: Group) -> tuple[str, Name, Name, str, str]:
    nobody = Name("", 0)
    return g.host or "", g.process or nobody, g.thread or nobody, g.operation or "", g.mode or ""


def group_label(g: Group, *, with_process: bool) -> str:
    """A group in words, for a heading: ``*cat[7] on nginx[812] mmap read``."""
    words = [g.operation, g.mode, g.host and f"on {printable(g.host)}"]
    if g.process and (with_process or g.foreign):
        words.insert(0, "on " + "".join(process_label(g.process)))
    if g.thread:
        words.insert(0, "".join(thread_label(g.thread, g.foreign)))
    return " ".join(word for word in words if word) or "all"


def hold_times_table(
    report: Report,
    *,
    by: Sequence[str] = BY_FIELDS,
    sort: str = "hold",
    top: int = 20,
    width: int = MIN_WIDTH,
    hosts: Optional[Mapping[int, str]] = None,
    with_totals: bool = True,
) -> list[str]:
    """Lines of at most ``width`` columns (never fewer than 80) for the first ``top`` groups.

    COUNT is the number of holds that ended. Times are written as
    :func:`corelock.render.units.duration` does. ``top`` 0 shows all. ``hosts`` is as of
    :func:`corelock.render.grouping.group`. ``with_totals``: with the counts of all below.
    """
    width = max(width, MIN_WIDTH)
    groups = sorted_groups(report.rows, by, sort, hosts)
    shown = groups[:top] if top > 0 else groups
    if not shown:
        return ["no lock was taken"]
    names = name_columns(shown, with_process=several_processes(groups))
    lines = list(_layout(names, shown, width))
    if len(groups) > len(shown):
        lines.append(f"... and {len(groups) - len(shown):,} more (use -n)")
    lines += legend(shown)
    if with_totals:
        lines += totals(groups, width)
    return lines


def legend(shown: Sequence[Group]) -> Iterator[str]:
    """What the marks in the names of these groups mean."""
    if any(g.foreign for g in shown):
        yield "* foreign: another process's thread"
    if any(name and name.id < 0 for g in shown for name in (g.process, g.thread)):
        yield OUTSIDE_LEGEND


def name_columns(groups: list[Group], *, with_process: bool) -> list[list[Label]]:
    """What the groups are called: columns, the first label of each its title."""
    columns = []
    if groups[0].host is not None:
        columns.append([Label("HOST"), *(Label(printable(g.host or "")) for g in groups)])
    if with_process and groups[0].process:
        columns.append([Label("PROCESS"), *(process_label(g.process) for g in groups if g.process)])
    if groups[0].thread:
        threads = (thread_label(g.thread, g.foreign) for g in groups if g.thread)
        columns.append([Label("THREAD"), *threads])
    if groups[0].operation:
        columns.append([Label("OPERATION"), *(Label(g.operation or "") for g in groups)])
    if groups[0].mode:
        columns.append([Label("M"), *(Label("W" if g.mode == "write" else "R") for g in groups)])
    return columns


def _layout(names: list[list[Label]], groups: list[Group], width: int) -> Iterator[str]:
    blocks = _number_blocks(groups, ("p50", "p99"))
    if _room(blocks, names, width) < sum(map(least_width, names)):
        blocks = _number_blocks(groups, ("p99",))
    widths = fitted(names, _room(blocks, names, width))
    yield from map(" ".join, zip(*map(name_block, names, widths), *blocks))


def _room(blocks: list[list[str]], names: list[list[Label]], width: int) -> int:
    """Columns left for the names, without the blanks between them."""
    return width - sum(len(block[0]) + 1 for block in blocks) - max(len(names) - 1, 0)


def _number_blocks(groups: list[Group], quantiles: tuple[str, ...]) -> list[list[str]]:
    header = ["total", *quantiles, "max"]
    waits = [header, *(time_cells(g.wait, quantiles) for g in groups)]
    holds = [header, *(time_cells(g.hold, quantiles) for g in groups)]
    counts = [["COUNT"], *([units.count(g.holds)] for g in groups)]
    return [
        number_block("", counts),
        number_block(" WAIT ", waits),
        number_block(" HOLD ", holds),
    ]


def time_cells(times: Times, quantiles: tuple[str, ...]) -> list[str]:
    """The total, these quantiles ("p99") and the longest."""
    some = times.count > 0
    numbers = (
        times.total_ns if some else None,
        *(times.quantile(int(name[1:]) / 100) for name in quantiles),
        times.max_ns if some else None,
    )
    return [units.duration(number) for number in numbers]


def totals(groups: list[Group], width: int) -> Iterator[str]:
    """What the table has no columns for, of all groups together."""
    pieces = (
        f"downgrades {sum(g.downgrades for g in groups):,} ",
        f"trylock failures {sum(g.trylock_failures for g in groups):,} ",
        f"aborted waits {sum(g.aborted_waits for g in groups):,}",
    )
    return flow(pieces, width, indent="")
