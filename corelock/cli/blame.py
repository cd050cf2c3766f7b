"""``corelock blame``."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import click

from corelock.blame import resolved
from corelock.cli.options import common_options, json_option, target_options, top_option
from corelock.cli.run import Output
from corelock.cli.traced import TracedOptions, TracedRun
from corelock.model import Accounting, Report
from corelock.render.blame_grouping import BLAME_BY
from corelock.tracer import Tracer


@dataclass(frozen=True)
class _Options(TracedOptions):
    """The command line, as given; see ``command``."""

    top: int
    by: str
    stacks: int
    json: bool


@click.command("blame")
@target_options(tid=False)
@top_option
@click.option(
    "--by",
    type=click.Choice(BLAME_BY),
    default="thread",
    show_default=True,
    metavar="WHAT",
    help="A line for each pair of: " + ", ".join(BLAME_BY) + ".",
)
@click.option(
    "-s",
    "--stacks",
    type=click.IntRange(min=0),
    default=1,
    metavar="N",
    show_default=True,
    help="For how many of the largest charges to show a stack of each side.",
)
@json_option()
@common_options
def command(**given: object) -> None:
    """Who is to blame: whose holds of mmap_lock each wait was due to.

    Tracing ends with --duration, Ctrl-C, or the target's exit, and then prints.
    Every wait is charged to the holds that overlapped it; what cannot be charged
    is shown as unknown. docs/blame.md says what is exact and what is a hint.
    """
    options = _Options(tid=None, interval=None, **given)  # type: ignore[arg-type]
    options.check(tid=False)
    with closing(Output(options.output)) as output:
        _Run(options, options.tracer(slow_ns=None, blame=True), output).go()


class _Run(TracedRun):
    """One run of the command."""

    def __init__(self, options: _Options, tracer: Tracer, output: Output) -> None:
        super().__init__(options, tracer)
        self.output = output
        self._options = options

    def take(self) -> None:
        """See where the code of new examples is mapped, while their process lives."""
        for example in self.tracer.examples():
            self.symbols.observe(example)

    def end_interval(self, number: int) -> None:
        """There are no intervals."""

    def finish(self, accounting: Accounting) -> None:
        """Print the matrix."""
        options = self._options
        self.take()
        blame = self.tracer.blame()
        stacks = options.top if options.json else options.stacks
        charges = blame.largest(stacks) if stacks or options.json else ()
        report = Report(
            self.host, self.target, blame.start_ns, blame.duration_ns, blame.rows, (), accounting,
            resolved(blame, self.symbols.resolve, charges), self.tracer.cgroup,
        )  # fmt: skip
        with self.output.writing() as stream:
            if options.json:
                from corelock.export.blame import write_blame_json

                write_blame_json(stream, report)
            else:
                from corelock.render.report import BlameOptions, render_blame

                render_blame(report, BlameOptions(options.by, options.top, options.stacks), stream)
