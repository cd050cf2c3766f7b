"""``corelock hold-times``."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, TextIO

import click

from corelock.cli.options import (
    above_zero,
    by_option,
    common_options,
    hist_option,
    json_option,
    slow_option,
    sort_option,
    stacks_option,
    target_options,
    top_option,
)
from corelock.cli.run import Output, Slowest
from corelock.cli.traced import TracedOptions, TracedRun
from corelock.model import Accounting, Report, SlowEvent, Snapshot
from corelock.tracer import Tracer

if TYPE_CHECKING:
    from corelock.blame import ResolvedBlame


@dataclass(frozen=True)
class HoldTimesOptions(TracedOptions):
    """The command line, as given; see ``command``."""

    top: int
    sort: str
    by: tuple[str, ...]
    slow_ns: Optional[int]
    stacks: int
    hist: bool
    blame: bool
    json: bool
    csv: bool


@click.command("hold-times")
@target_options(tid=True)
@click.option(
    "-i",
    "--interval",
    type=float,
    callback=above_zero,
    metavar="SEC",
    help="Print each interval, and then the whole.",
)
@top_option
@sort_option
@by_option
@slow_option
@stacks_option
@hist_option
@click.option("--blame", is_flag=True, help="Also whose holds the waits were due to.")
@json_option("; with -i one a line")
@click.option("--csv", is_flag=True, help="The rows as CSV.")
@common_options
def command(**given: object) -> None:
    """How long mmap_lock is waited for and held, by thread, operation and mode.

    Tracing ends with --duration, Ctrl-C, or the target's exit, and then prints.
    A command after -- is traced from its first instruction to its exit; its
    status is reported, and does not become corelock's.
    """
    options = HoldTimesOptions(**given)  # type: ignore[arg-type]
    options.check(tid=True)
    if options.json and options.csv:
        raise click.UsageError("Choose one of --json and --csv.")
    if options.blame and options.tid is not None:
        raise click.UsageError("--blame needs the holds of all threads, not of one (--tid).")
    if options.blame and options.csv:
        raise click.UsageError("--blame does not fit into --csv.")
    hold_times(options)


def hold_times(options: HoldTimesOptions) -> None:
    """Run the command, whose options have been checked."""
    with closing(Output(options.output)) as output:
        tracer = options.tracer(
            slow_ns=options.slow_ns if options.stacks else None, blame=options.blame
        )
        _Run(options, tracer, output).go()


class _Run(TracedRun):
    """One run of the command."""

    ring_remedy = " Raise --slow-us."

    def __init__(self, options: HoldTimesOptions, tracer: Tracer, output: Output) -> None:
        super().__init__(options, tracer)
        self.output = output
        self._options = options
        self._slowest = Slowest(options.stacks, self.symbols.observe)
        self._previous: Optional[Snapshot] = None

    def take(self) -> None:
        """Keep the slowest, and see where their code is mapped while their process lives."""
        self._slowest.take(self.tracer)
        if self._options.blame:
            for example in self.tracer.examples():
                self.symbols.observe(example)

    def end_interval(self, number: int) -> None:
        """Print what came since the last one."""
        snapshot, previous = self.tracer.snapshot(), self._previous
        self._previous = snapshot
        part = snapshot if previous is None else snapshot.since(previous)
        slow = self._slowest.end_interval(self.tracer)
        self._print(f"interval {number}", part, slow, self.tracer.accounting())

    def finish(self, accounting: Accounting) -> None:
        """Print the whole."""
        slow = self._slowest.whole(self.tracer)
        blame = self._blame()
        self._print("whole run", self.tracer.snapshot(), slow, accounting, blame)

    def _blame(self) -> Optional[ResolvedBlame]:
        if not self._options.blame:
            return None
        from corelock.blame import resolved

        blame = self.tracer.blame()
        # The text has the stacks of the slowest.
        charges = blame.largest(self._options.top) if self._options.json else ()
        return resolved(blame, self.symbols.resolve, charges)

    def _print(
        self,
        part: str,
        snapshot: Snapshot,
        slow: list[SlowEvent],
        accounting: Accounting,
        blame: Optional[ResolvedBlame] = None,
    ) -> None:
        report = Report(
            self.host,
            self.target,
            snapshot.start_ns,
            snapshot.duration_ns,
            snapshot.rows,
            tuple(map(self.symbols.resolve, slow)),
            accounting,
            blame,
            self.tracer.cgroup,
        )
        with self.output.writing() as stream:
            self._render(report, part, stream)

    def _render(self, report: Report, part: str, stream: TextIO) -> None:
        options = self._options
        if options.json:
            from corelock.export.jsonout import write_json

            write_json(stream, report)
        elif options.csv:
            from corelock.export.csvout import write_csv

            write_csv(stream, report)
        else:
            from corelock.render.report import TextOptions, render_text

            if options.interval:
                stream.write(f"--- {part}, {time.strftime('%H:%M:%S')} ---\n")
            render_text(
                report,
                TextOptions(options.by, options.sort, options.top, options.stacks, options.hist),
                stream,
            )
            if options.interval:
                stream.write("\n")
