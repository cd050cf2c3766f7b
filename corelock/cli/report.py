"""``corelock report``."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Optional

import click

from corelock.analysis.census import Census, take_census
from corelock.analysis.clocks import drift, wall_ns
from corelock.analysis.selection import Selection, When
from corelock.analysis.source import Source, open_sources
from corelock.analysis.summary import summarize
from corelock.cli import say
from corelock.cli.options import by_option, output_option, sort_option, top_option
from corelock.cli.progress import ProgressBar
from corelock.cli.run import Output
from corelock.errors import InvalidArgument
from corelock.export.recordings import FORMATS, format_named
from corelock.render.recorded import Recorded, loss_words, render_recorded
from corelock.render.report import TextOptions
from corelock.render.units import duration


def _when(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[When]:
    """Seconds since the recording's start, a time of day, or a date with one."""
    if value is None:
        return None
    try:
        if ":" not in value:
            ns = round(float(value) * 1e9)
            if 0 <= ns < 1 << 62:
                return ns
        elif "-" in value:
            return datetime.datetime.fromisoformat(value)
        else:
            return datetime.time.fromisoformat(value)
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter(
        f"{value!r} is no number of seconds since the start, no time of day as 14:03:05, and no "
        "date with one as 2026-11-21T14:03:05"
    )


def _min_ns(ctx: click.Context, param: click.Parameter, value: float) -> int:
    if not 0 <= value <= 1e15:
        raise click.BadParameter(f"{value:g} is no number of microseconds")
    return round(value * 1000)


@dataclass(frozen=True)
class _Options:
    """The command line, as given; see ``command``."""

    files: tuple[str, ...]
    from_ns: Optional[When]
    to_ns: Optional[When]
    pid: Optional[int]
    tid: Optional[int]
    operation: Optional[str]
    min_ns: int
    by: tuple[str, ...]
    sort: str
    top: int
    stacks: int
    hist: bool
    blame: Optional[bool]
    format: Optional[str]
    what: Optional[str]
    output: Optional[str]

    @property
    def selection(self) -> Selection:
        return Selection(self.from_ns, self.to_ns, self.pid, self.tid, self.operation, self.min_ns)

    @property
    def with_blame(self) -> bool:
        """Of one recording unless it is not wanted, of several if it is."""
        return len(self.files) == 1 if self.blame is None else self.blame

    def chosen(self) -> Iterator[str]:
        """What was asked for, in words."""
        for word, when in (("from", self.from_ns), ("to", self.to_ns)):
            if when is not None:
                yield f"{word} {_moment(when)}"
        for name in ("pid", "tid", "operation"):
            value = getattr(self, name)
            if value is not None:
                yield f"{name} {value}"
        if self.min_ns:
            yield f"{duration(self.min_ns)} or longer"


def _moment(when: When) -> str:
    return f"+{when / 1e9:.3f}s" if isinstance(when, int) else str(when)


@click.command("report")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--from",
    "from_ns",
    callback=_when,
    metavar="WHEN",
    help="Only cycles that were not over by then: seconds since the recording's start, a local "
    "time of day as 14:03:05, or a date with one.",
)
@click.option(
    "--to", "to_ns", callback=_when, metavar="WHEN", help="Only cycles that had begun by then."
)
@click.option(
    "-p",
    "--pid",
    type=int,
    metavar="PID",
    help="Only this process's threads, and what others did to its address space.",
)
@click.option("-t", "--tid", type=int, metavar="TID", help="Only this thread.")
@click.option("--operation", metavar="NAME", help="Only this operation, as munmap or page-fault.")
@click.option(
    "--min-us",
    "min_ns",
    type=float,
    default=0,
    callback=_min_ns,
    metavar="N",
    help="Only cycles of which the wait or the hold took so many microseconds.",
)
@by_option
@sort_option
@top_option
@click.option(
    "-s",
    "--stacks",
    type=click.IntRange(min=0),
    default=3,
    metavar="N",
    show_default=True,
    help="How many of the slowest waits and holds to show.",
)
@click.option("--hist", is_flag=True, help="Histograms of waits and holds, by powers of two.")
@click.option(
    "--blame/--no-blame",
    default=None,
    help="Whose holds the waits were due to (default: of one recording, not of several).",
)
@click.option(
    "--format",
    type=click.Choice(tuple(FORMATS)),
    metavar="FORMAT",
    help=f"Write all chosen cycles as one of {', '.join(FORMATS)}." if FORMATS else "",
    hidden=not FORMATS,
)
@click.option(
    "--what",
    type=click.Choice(("hold", "wait")),
    help="With --format folded: add up hold times (default) or wait times.",
)
@output_option
def command(**given: object) -> None:  # fmt: skip
    """What recordings of `corelock record` say; several are merged, hosts told apart.

    As text, with the same table as `corelock hold-times`.
    """
    options = _Options(**given)  # type: ignore[arg-type]
    if isinstance(options.from_ns, int) and isinstance(options.to_ns, int):
        _check_order(options.from_ns, options.to_ns)
    if options.what is not None and options.format != "folded":
        raise click.UsageError("--what goes with --format folded.")
    remarks: Optional[Sequence[str]] = None
    with ExitStack() as stack:
        sources = [stack.enter_context(source) for source in open_sources(options.files)]
        _check(sources, options.selection)
        output = stack.enter_context(closing(Output(options.output)))
        with ProgressBar("reading") as progress:
            if options.format is not None:
                chosen = format_named(options.format)
                if chosen.BINARY and options.output is None and sys.stdout.isatty():
                    raise click.UsageError(f"{options.format} is nothing to read: name -o FILE.")
                more = {} if options.what is None else {"what": options.what}
                with output.writing() as stream:
                    to: Any = stream.buffer if chosen.BINARY else stream
                    remarks = chosen.write(to, sources, options.selection, progress, **more)
                censuses = [take_census(source) for source in sources]
            else:
                recordings = list(_recordings(sources, options, progress))
                censuses = [recorded.census for recorded in recordings]
        if options.format is None:
            with output.writing() as stream:
                render_recorded(
                    recordings,
                    TextOptions(
                        options.by, options.sort, options.top, options.stacks, options.hist
                    ),
                    list(options.chosen()),
                    stream,
                )
        for remark in remarks or ():
            say(f"corelock: {remark}.")
        _say_losses(sources, censuses)


def _check_order(first: int, last: int) -> None:
    if first > last:
        raise click.UsageError("--from is after --to.")


def _check(sources: list[Source], selection: Selection) -> None:
    """Make sure that what is asked for is there: an empty report would say that it was idle."""
    for source in sources:
        _check_order(*selection.bounds(source))
    tables = [source.row_table for source in sources]
    if selection.pid is not None and not any(
        (table.known & ((table.pid == selection.pid) | (table.mm_pid == selection.pid))).any()
        for table in tables
    ):
        raise InvalidArgument(
            f"no process {selection.pid} is recorded there", "See the report without --pid."
        )
    if selection.tid is not None and not any(
        (table.known & (table.tid == selection.tid)).any() for table in tables
    ):
        raise InvalidArgument(
            f"no thread {selection.tid} is recorded there", "See the report without --tid."
        )
    if selection.operation is not None:
        names = sorted(frozenset().union(*(source.operations for source in sources)))
        if selection.operation not in names:
            raise InvalidArgument(
                f"no operation {selection.operation!r} is recorded there",
                f"Name one of: {', '.join(names)}." if names else "See the report without it.",
            )


def _recordings(
    sources: list[Source], options: _Options, progress: ProgressBar
) -> Iterator[Recorded]:
    reports = summarize(sources, options.selection, progress, slowest=options.stacks)
    for source, report in reports:
        census = take_census(source)
        if options.with_blame:
            from corelock.analysis.blame import with_blame

            report = with_blame(source, report, options.selection, census, progress)
        yield Recorded(source.label, period(source), report, census, _clock_notes(source))


def period(source: Source) -> str:
    """When a recording was made, on local clocks."""
    first, last = (
        datetime.datetime.fromtimestamp(wall_ns(source, at) // 1_000_000_000)
        for at in (source.start_ns, source.end_ns)
    )
    end = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} to {end}"


def _clock_notes(source: Source) -> tuple[str, ...]:
    drifted = drift(source)
    notes = []
    if drifted.suspended_ns:
        notes.append(f"suspended for {duration(drifted.suspended_ns)} in all, in no time above")
    if drifted.set_ns:
        way = "forward" if drifted.set_ns > 0 else "back"
        notes.append(f"the wall clock was set {way} by {duration(abs(drifted.set_ns))} meanwhile")
    return tuple(notes)


def _say_losses(sources: list[Source], censuses: list[Census]) -> None:
    """The last lines on stderr: what the numbers lack."""
    for source, census in zip(sources, censuses):
        words = ", ".join(loss_words(census))
        if words:
            where = f"{source.label}: " if len(sources) > 1 else ""
            say(f"corelock: incomplete: {where}{words}.")
