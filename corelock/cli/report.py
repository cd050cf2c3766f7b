"""``corelock report``."""

from __future__ import annotations

import datetime
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Optional

import click

from corelock.analysis.census import Census, take_census
from corelock.analysis.clocks import drift, wall_ns
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source, open_sources
from corelock.analysis.summary import summarize
from corelock.cli import say
from corelock.cli.options import (
    by_option,
    hist_option,
    output_option,
    sort_option,
    stacks_option,
    top_option,
)
from corelock.cli.progress import ProgressBar
from corelock.cli.run import Output
from corelock.cli.selecting import (
    check,
    in_words,
    refuse_to_overwrite,
    selection_of,
    selection_options,
)
from corelock.export.recordings import FORMATS, format_named
from corelock.render.recorded import Recorded, loss_words, render_recorded
from corelock.render.report import TextOptions
from corelock.render.units import duration


@dataclass(frozen=True)
class _Options:
    """The command line, as given; see ``command``."""

    files: tuple[str, ...]
    by: tuple[str, ...]
    sort: str
    top: int
    stacks: int
    hist: bool
    blame: Optional[bool]
    format: Optional[str]
    what: Optional[str]
    html: Optional[str]
    output: Optional[str]

    def check(self) -> None:
        """Raise ``click.UsageError`` if options do not go together."""
        if self.html is not None and (self.format or self.output):
            raise click.UsageError("--html is a format and a file: leave out --format and -o.")
        if self.what is not None and self.format != "folded":
            raise click.UsageError("--what goes with --format folded.")
        refuse_to_overwrite(self.files, self.html or self.output)

    @property
    def with_blame(self) -> bool:
        """Of one recording unless it is not wanted, of several if it is."""
        return len(self.files) == 1 if self.blame is None else self.blame


@click.command("report")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@selection_options
@by_option
@sort_option
@top_option
@stacks_option
@hist_option
@click.option(
    "--blame/--no-blame",
    default=None,
    help="Whose holds the waits were due to (default: of one recording, not of several).",
)
@click.option(
    "--format",
    type=click.Choice(tuple(FORMATS)),
    metavar="FORMAT",
    help=f"Write all chosen cycles as one of {', '.join(FORMATS)}.",
)
@click.option(
    "--what",
    type=click.Choice(("hold", "wait")),
    help="With --format folded: add up hold times (default) or wait times.",
)
@click.option(
    "--html", metavar="OUT", help="Write a page for browsers there, all in one file (docs/html.md)."
)
@output_option
def command(**given: Any) -> None:
    """What recordings of `corelock record` say; several are merged, hosts told apart.

    As text, with the same table as `corelock hold-times`.
    """
    selection = selection_of(given)
    options = _Options(**given)
    options.check()
    with ExitStack() as stack:
        sources = [stack.enter_context(source) for source in open_sources(options.files)]
        check(sources, selection)
        output = stack.enter_context(closing(Output(options.html or options.output)))
        report = _Report(options, selection, sources, output)
        if options.html is not None:
            report.write_page()
        elif options.format is not None:
            report.write_format(options.format)
        else:
            report.write_text()


class _Report:
    """One run of the command."""

    def __init__(
        self, options: _Options, selection: Selection, sources: list[Source], output: Output
    ) -> None:
        self._options = options
        self._selection = selection
        self._sources = sources
        self._output = output

    def write_text(self) -> None:
        """For people on a terminal."""
        options = self._options
        with ProgressBar("reading") as progress:
            recordings = list(self._recordings(progress))
        text = TextOptions(options.by, options.sort, options.top, options.stacks, options.hist)
        with self._output.writing() as stream:
            render_recorded(recordings, text, list(in_words(self._selection)), stream)
        self._say_losses([recorded.census for recorded in recordings])

    def _recordings(self, progress: ProgressBar) -> Iterator[Recorded]:
        options, selection = self._options, self._selection
        reports = summarize(self._sources, selection, progress, slowest=options.stacks)
        for source, report in reports:
            census = take_census(source)
            if options.with_blame:
                from corelock.analysis.blame import with_blame

                report = with_blame(source, report, selection, census, progress)
            yield Recorded(source.label, period(source), report, census, _clock_notes(source))

    def write_format(self, name: str) -> None:
        """For other programs."""
        options, chosen = self._options, format_named(name)
        if chosen.BINARY and options.output is None and sys.stdout and sys.stdout.isatty():
            raise click.UsageError(f"{name} is nothing to read: name -o FILE.")
        more = {} if options.what is None else {"what": options.what}
        with ProgressBar("reading") as progress, self._output.writing() as stream:
            to: Any = stream.buffer if chosen.BINARY else stream
            remarks = chosen.write(to, self._sources, self._selection, progress, **more)
        for remark in remarks or ():
            say(f"corelock: {remark}.")
        self._say_losses([take_census(source) for source in self._sources])

    def write_page(self) -> None:
        """For browsers."""
        from corelock.render.html import write_html

        page = io.StringIO()
        with ProgressBar("reading") as progress:
            chosen = ", ".join(in_words(self._selection))
            write_html(page, self._sources, self._selection, progress, chosen=chosen)
        with self._output.writing() as stream:
            # It says that it is UTF-8, whatever the terminal's encoding.
            stream.buffer.write(page.getvalue().encode("utf-8", "backslashreplace"))
        self._say_losses([take_census(source) for source in self._sources])

    def _say_losses(self, censuses: list[Census]) -> None:
        """The last lines on stderr: what the numbers lack."""
        for source, census in zip(self._sources, censuses):
            words = ", ".join(loss_words(census))
            if words:
                where = f"{source.label}: " if len(self._sources) > 1 else ""
                say(f"corelock: incomplete: {where}{words}.")


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
