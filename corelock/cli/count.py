"""``corelock count``."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Optional, TextIO

import click

from corelock.attaching import check_matched
from corelock.cli import say
from corelock.cli.options import duration_option, json_option
from corelock.cli.probing import (
    TRACE_ANEW,
    ProbeOptions,
    ProbeRun,
    clock,
    cpu_option,
    interval_option,
    last_options,
    max_probes_option,
    pid_option,
    refusals,
    regex_option,
)  # fmt: skip
from corelock.cli.run import Output
from corelock.counter import HitCounter, Hits
from corelock.model import Host
from corelock.probes.finding import labels_of
from corelock.render.text import printable


@click.command("count")
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@pid_option
@cpu_option
@interval_option
@duration_option
@click.option("-T", "--timestamp", is_flag=True, help="The time of day above what is printed.")
@regex_option
@click.option("-S", "--sort", "largest_first", is_flag=True, help="Most hits first, not last.")
@json_option("; with -i one for each, and one of the whole")
@click.option("--dry-run", is_flag=True, help="Print what would be counted, and count nothing.")
@max_probes_option
@last_options
def command(
    patterns: tuple[str, ...],
    regex: bool,
    timestamp: bool,
    largest_first: bool,
    json: bool,
    dry_run: bool,
    max_probes: int,
    **given: Any,
) -> None:
    """Count hits of functions, tracepoints and static probes.

    \b
    PATTERN  func             a function of the kernel (also p::func)
             lib:func         one of a library or program (also p:lib:func)
             /path:func       one of that file
             t:category:event a tracepoint
             u:lib:probe      a static probe (USDT)

    Names may have * ? [a-z] and a|b. Hits of corelock itself are left out.
    """
    options = ProbeOptions(**given)
    options.check()
    if dry_run and json:
        raise click.UsageError("--dry-run prints names alone; corelock list --json says more.")
    if timestamp and json:
        raise click.UsageError("-T goes without --json, which has times of its own.")
    counter = HitCounter(
        *patterns, pid=options.pid, cpu=options.cpu, regex=regex, max_probes=max_probes
    )
    with closing(Output(options.output)) as output:
        if dry_run:
            _list(counter, output)
        else:
            _Run(options, counter, output, timestamp, largest_first, json).go()


def _list(counter: HitCounter, output: Output) -> None:
    matched = counter.match()
    check_matched(matched)
    with output.writing() as stream:
        for label in labels_of(matched):
            stream.write(f"{printable(label)}\n")
    for one in matched:
        for line in refusals(one.refused):
            say(line)


class _Run(ProbeRun):
    """One run of the command."""

    def __init__(
        self,
        options: ProbeOptions,
        counter: HitCounter,
        output: Output,
        timestamp: bool,
        largest_first: bool,
        json: bool,
    ) -> None:
        super().__init__(options, counter)
        self._counter = counter
        self._output = output
        self._timestamp = timestamp
        self._largest_first = largest_first
        self._json = json
        self._previous: Optional[Hits] = None
        self._host = Host.this()

    def announce(self) -> None:
        count = len(self.coverage.labels)
        self.say(f"Tracing {count:,} probe{'s' * (count != 1)}{self.where}.{self.ending}")
        self.say_misses()

    def end_interval(self, number: int) -> None:
        self._print_interval(self._counter.read())

    def finish(self, number: int) -> None:
        hits = self._counter.stop()
        if not self.probe_options.interval:
            self._print(hits)
            return
        self._print_interval(hits)
        if self._json:
            self._print(hits)

    def _print_interval(self, hits: Hits) -> None:
        previous, self._previous = self._previous, hits
        self._print(hits.since(previous) if previous else hits)

    def _print(self, hits: Hits) -> None:
        with self._output.writing() as stream:
            if self._json:
                from corelock.export.counts import write_counts_json

                write_counts_json(stream, self._host, self.target, hits, self.coverage)
            else:
                self._write_table(stream, hits)

    def _write_table(self, stream: TextIO, hits: Hits) -> None:
        from corelock.render.counts import counts_table

        if self._timestamp:
            stream.write(f"{clock()}\n")
        for line in counts_table(hits.counts, largest_first=self._largest_first):
            stream.write(f"{line}\n")
        if self.probe_options.interval:
            stream.write("\n")

    def losses(self) -> tuple[dict[str, int], str]:
        hits = self._counter.read()
        if self.probe_options.verbose and hits.self_hits:
            self.say(f"corelock: hits of corelock itself, left out: {hits.self_hits:,}")
        partly = len(self.coverage.incomplete)
        losses = {
            "missed": hits.missed,
            "probes_in_part": partly,
            "main_thread_ended": int(hits.main_thread_ended),
        }
        return losses, TRACE_ANEW if hits.main_thread_ended else ""
