"""A whole report as text: title, table, histograms, slow events, accounting."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Optional, TextIO, Union

from corelock.model import Report
from corelock.render.accounting import accounting_lines
from corelock.render.columns import cgroup_label, process_label
from corelock.render.grouping import BY_FIELDS, Name
from corelock.render.histogram import histograms
from corelock.render.slow import slow_events
from corelock.render.table import MIN_WIDTH, hold_times_table, sorted_groups
from corelock.render.text import cut
from corelock.render.units import duration

# Colour is laid over finished lines, so that it cannot move a column and a
# pipe gets the very same text.
_STYLES = (
    (r"^mmap_lock .*|.* total +(p50 +)?p99 +max .*max$|^ *-+ WAIT -+ -+ HOLD -+$", "bold"),
    (r"^(all together|each by itself|on \S+)$", "bold"),
    (r"^CHARGED .*|^ +-+ WAITER -+ +-+ HOLDER -+$", "bold"),
    (r"^(wait|hold) +\d\S+", "bold"),
    (r"(?<= )(-|0n?)(?= |$)", "dim"),
    (r"(?<!\S)\*[^*]+?\[\^?\d+\]|^\* foreign", "yellow"),
    (r"^  (unmatched|lost|slow records lost|children not followed):.*", "yellow"),
    (r"^UNBALANCED.*|^DAMAGED:|^STILL WAITING: [\d,]+", "bold red"),
)


@dataclass(frozen=True)
class TextOptions:
    """What to show and how.

    ``top`` and ``stacks`` are numbers of groups and of slow waits and holds
    (``top`` 0: all; ``stacks`` 0: none). ``width`` None is the terminal's,
    ``colour`` None is "if the stream is a terminal".
    """

    by: tuple[str, ...] = BY_FIELDS
    sort: str = "hold"
    top: int = 20
    stacks: int = 0
    hist: bool = False
    width: Optional[int] = None
    colour: Optional[bool] = None


@dataclass(frozen=True)
class BlameOptions:
    """As :class:`TextOptions`: ``top`` pairs of ``by``, and stacks of the ``stacks`` largest."""

    by: str = "thread"
    top: int = 20
    stacks: int = 0
    width: Optional[int] = None
    colour: Optional[bool] = None


def render_text(report: Report, options: TextOptions, stream: TextIO) -> None:
    """Write ``report`` to ``stream``, and its blame, if it has any.

    Raises:
        ValueError: ``options.by`` or ``options.sort`` names no such field.
    """
    write_lines(text_lines(report, options), options.colour, stream)


def render_blame(report: Report, options: BlameOptions, stream: TextIO) -> None:
    """Write the blame of ``report``, which has one, to ``stream``.

    Raises:
        ValueError: ``options.by`` is no such grouping.
    """
    from corelock.render.blame import blame_lines

    width = width_of(options)
    by, top, stacks = options.by, options.top, options.stacks
    lines = chain(
        [cut(_title(report), "", width)],
        blame_lines(report, by=by, top=top, stacks=stacks, width=width),
        [""],
        accounting_lines(report.accounting, width=width),
    )
    write_lines(lines, options.colour, stream)


def width_of(options: Union[TextOptions, BlameOptions]) -> int:
    """How wide a report is, in columns."""
    return max(options.width or shutil.get_terminal_size().columns, MIN_WIDTH)


def write_lines(lines: Iterable[str], colour: Optional[bool], stream: TextIO) -> None:
    """Write finished lines, coloured if asked for or (None) on a terminal."""
    if stream.isatty() if colour is None else colour:
        _write_coloured(lines, stream)
    else:
        stream.writelines(f"{line}\n" for line in lines)


def text_lines(report: Report, options: TextOptions, notes: Sequence[str] = ()) -> Iterator[str]:
    """The lines of :func:`render_text`, ``notes`` under the title; no colour or line ends."""
    width = width_of(options)
    by, sort, top = options.by, options.sort, options.top
    yield cut(_title(report), "", width)
    yield from notes
    yield from hold_times_table(report, by=by, sort=sort, top=top, width=width)
    if options.hist:
        groups = sorted_groups(report.rows, by, sort)
        yield from histograms(groups[:top] if top > 0 else groups, width)
    if report.blame is not None:
        from corelock.render.blame import blame_lines

        yield ""
        yield from blame_lines(report, by="thread", top=top, stacks=0, width=width)
    slow = list(slow_events(report, top=options.stacks, width=width))
    yield from slow
    if options.hist or slow or report.blame is not None:
        yield ""
    yield from accounting_lines(report.accounting, width=width)


def _title(report: Report) -> str:
    of = ""
    if report.target:
        of = " of " + "".join(process_label(Name(report.target.comm, report.target.pid)))
    elif report.cgroup:
        of = " of " + cgroup_label(report.cgroup)
    return f"mmap_lock{of}, {duration(report.duration_ns)} on Linux {report.host.kernel}"


def _write_coloured(lines: Iterable[str], stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, force_terminal=True, highlight=False)
    for line in lines:
        text = Text(line)
        for pattern, style in _STYLES:
            text.highlight_regex(pattern, style)
        console.print(text, soft_wrap=True)
