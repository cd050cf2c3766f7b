"""``corelock hold-times``."""

from __future__ import annotations

import itertools
import math
import os
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Optional, TextIO

import click

from corelock import target
from corelock.cli.run import Lifetime, Output, Slowest, Watch, interruptible, reap
from corelock.errors import CorelockError
from corelock.model import (
    Accounting,
    Host,
    Report,
    SlowEvent,
    Snapshot,
    Target,
)
from corelock.render.grouping import BY_FIELDS
from corelock.render.table import SORT_FIELDS
from corelock.symbolize import Symbolizer
from corelock.tracer import MAX_ROWS, Tracer


def _slow_ns(ctx: click.Context, param: click.Parameter, value: str) -> Optional[int]:
    """``--slow-us`` in nanoseconds, None for off."""
    if value == "off":
        return None
    try:
        ns = round(float(value) * 1000)
    except (ValueError, OverflowError):
        ns = -1
    if not 0 <= ns < 1 << 63:
        raise click.BadParameter(f"{value!r} is not a number of microseconds, 0 (all) or off")
    return ns


def _by(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """``--by`` as fields, each one known and named once."""
    fields = tuple(dict.fromkeys(value.split(",")))
    for field in fields:
        if field not in BY_FIELDS:
            raise click.BadParameter(f"cannot group by {field!r}, only by {', '.join(BY_FIELDS)}")
    return fields


def _seconds(ctx: click.Context, param: click.Parameter, value: Optional[float]) -> Optional[float]:
    """A time span that can be waited for."""
    if value is not None and not 0 < value <= 1e9:  # nan is neither
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0")
    return value


@dataclass(frozen=True)
class _Options:
    """The command line, as given; see ``command``."""

    pid: Optional[int]
    tid: Optional[int]
    comm: Optional[str]
    everything: bool
    follow: bool
    duration: Optional[float]
    interval: Optional[float]
    top: int
    sort: str
    by: tuple[str, ...]
    slow_ns: Optional[int]
    stacks: int
    hist: bool
    json: bool
    csv: bool
    output: Optional[str]
    max_rows: Optional[int]
    quiet: bool
    verbose: bool
    command: tuple[str, ...]


@click.command("hold-times")
@click.option(
    "-p",
    "--pid",
    type=int,
    metavar="PID",
    help="The address space of this process, whoever locks it.",
)
@click.option("-t", "--tid", type=int, metavar="TID", help="This thread, whatever it locks.")
@click.option("--comm", metavar="NAME", help="The address spaces of all processes of this name.")
@click.option("-a", "--all", "everything", is_flag=True, help="Every address space of the host.")
@click.option("--follow", is_flag=True, help="Its future children, too (--pid or a command).")
@click.option(
    "-d", "--duration", type=float, callback=_seconds, metavar="SEC", help="Stop after so long."
)
@click.option(
    "-i",
    "--interval",
    type=float,
    callback=_seconds,
    metavar="SEC",
    help="Print each interval, and then the whole.",
)
@click.option(
    "-n",
    "--top",
    type=click.IntRange(min=0),
    default=20,
    metavar="N",
    show_default=True,
    help="Lines of the table; 0: all.",
)
@click.option(
    "-S",
    "--sort",
    type=click.Choice(SORT_FIELDS),
    default="hold",
    show_default=True,
    metavar="FIELD",
    help="One of " + ", ".join(SORT_FIELDS) + ".",
)
@click.option(
    "--by",
    callback=_by,
    default=",".join(BY_FIELDS),
    metavar="FIELDS",
    help="Group by some of thread,operation,mode (default: all).",
)
@click.option(
    "--slow-us",
    "slow_ns",
    callback=_slow_ns,
    default="100",
    metavar="N",
    help="Take stacks of waits and holds from so many microseconds on; "
    "0: of all; off: of none (default: 100).",
)
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
    "--json", is_flag=True, help="One JSON object (see docs/json.md); with -i one a line."
)
@click.option("--csv", is_flag=True, help="The rows as CSV.")
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=1, max=MAX_ROWS),
    metavar="N",
    help="Room for so many thread x operation x mode (default: by the threads now).",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but data and losses.")
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show logs of failures.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD ARGS...]")
def command(**given: object) -> None:
    """How long mmap_lock is waited for and held, by thread, operation and mode.

    Tracing ends with --duration, Ctrl-C, or the target's exit, and then prints.
    A command after -- is traced from its first instruction to its exit; its
    status is reported, and does not become corelock's.
    """
    options = _Options(**given)  # type: ignore[arg-type]
    _check(options)
    with closing(Output(options.output)) as output:
        tracer = Tracer(
            pid=options.pid,
            tid=options.tid,
            comm=options.comm,
            everything=options.everything,
            command=options.command or None,
            follow=options.follow,
            slow_ns=options.slow_ns if options.stacks else None,
            max_rows=options.max_rows,
            intervals=options.interval is not None,
        )
        try:
            _Run(options, tracer, output).go()
        except CorelockError as error:
            if options.verbose and error.log:
                click.echo(error.log, err=True)
            raise


def _check(options: _Options) -> None:
    targets = [options.pid is not None, options.tid is not None, options.comm is not None]
    if sum([*targets, options.everything, bool(options.command)]) != 1:
        raise click.UsageError(
            "Name one target: --pid N, --tid N, --comm NAME, --all, or -- CMD ARGS."
        )
    if options.json and options.csv:
        raise click.UsageError("Choose one of --json and --csv.")
    if options.interval and options.duration and options.interval > options.duration:
        raise click.UsageError("The interval (-i) is longer than the whole run (-d).")
    if options.follow and options.pid is None and not options.command:
        raise click.UsageError("--follow goes with --pid or a command.")


class _Run:
    """One run of the command."""

    def __init__(self, options: _Options, tracer: Tracer, output: Output) -> None:
        self._options = options
        self._tracer = tracer
        self._output = output
        self._symbols = Symbolizer()
        self._slowest = Slowest(options.stacks, self._symbols.observe)
        self._host = Host(os.uname().release, os.uname().machine, os.uname().nodename)
        self._target: Optional[Target] = None

    def go(self) -> None:
        """Trace, then print."""
        options, tracer = self._options, self._tracer
        with ExitStack() as stack:
            stop_fd = stack.enter_context(interruptible())
            lifetime = self._lifetime()
            stack.enter_context(tracer)
            if options.command:
                lifetime = Lifetime(tracer.pid)
            stack.enter_context(closing(lifetime))
            lifetime.check()
            if tracer.pid is not None and self._target is None:
                self._target = Target(tracer.pid, target.comm_of(tracer.pid))
            self._announce()
            number, previous = self._watch(Watch(tracer, self._slowest, lifetime, stop_fd))
            tracer.stop()
            snapshot, accounting = tracer.snapshot(), tracer.accounting()
            if options.interval:
                self._print_interval(number, snapshot, previous, accounting)
            self._print("whole run", snapshot, self._slowest.whole(tracer), accounting)
            self._say_losses(accounting)
            self._say_symbols()
            failure = reap(tracer.pid) if options.command and tracer.pid else None
            if failure:
                self._say(f"{options.command[0]} {failure}")

    def _lifetime(self) -> Lifetime:
        """Of the target, from before it is traced: nobody can take its id in between."""
        options = self._options
        if options.pid is not None:
            target.check_process(options.pid)
            self._target = Target(options.pid, target.comm_of(options.pid))
            return Lifetime(options.pid)
        if options.tid is not None:
            target.check_thread(options.tid)
            return Lifetime(options.tid, thread=True)
        return Lifetime(None)

    def _announce(self) -> None:
        options = self._options
        what = "all processes"
        if self._target is not None:
            what = f"{self._target.comm}[{self._target.pid}]"
        elif options.tid is not None:
            what = f"thread {options.tid}"
        elif options.comm is not None:
            what = f"processes named {options.comm}"
        end = "" if options.duration else " Ctrl-C to end."
        self._say(f"Tracing mmap_lock of {what}.{end}")

    def _watch(self, watch: Watch) -> tuple[int, Optional[Snapshot]]:
        """Until the run ends; the number of the interval then, and the snapshot it began with."""
        start = time.monotonic()
        end = start + (self._options.duration or math.inf)
        step = self._options.interval or math.inf
        previous: Optional[Snapshot] = None
        tick = start
        for number in itertools.count(1):
            # Ticks that went by while the last interval was printed are skipped.
            tick = max(tick + step, time.monotonic())
            watch.until(min(tick, end))
            if watch.ended or tick >= end:
                break
            snapshot = self._tracer.snapshot()
            self._print_interval(number, snapshot, previous, self._tracer.accounting())
            previous = snapshot
        return number, previous

    def _print_interval(
        self, number: int, now: Snapshot, previous: Optional[Snapshot], accounting: Accounting
    ) -> None:
        part = now if previous is None else now.since(previous)
        slow = self._slowest.end_interval(self._tracer)
        self._print(f"interval {number}", part, slow, accounting)

    def _print(
        self, part: str, snapshot: Snapshot, slow: list[SlowEvent], accounting: Accounting
    ) -> None:
        report = Report(
            self._host,
            self._target,
            snapshot.start_ns,
            snapshot.duration_ns,
            snapshot.rows,
            tuple(map(self._symbols.resolve, slow)),
            accounting,
        )
        with self._output.writing() as stream:
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

    def _say_losses(self, accounting: Accounting) -> None:
        """The last line on stderr, even with -q: what the numbers lack."""
        losses = {**accounting.unmatched, **accounting.lost, **accounting.slow_lost}
        losses["children_not_followed"] = accounting.children_not_followed
        losses["hooks_missed"] = accounting.hooks_missed
        losses["unaccounted"] = accounting.unaccounted
        words = ", ".join(f"{name} {count}" for name, count in losses.items() if count)
        if not words:
            return
        remedy = ""
        if accounting.lost["map_full"]:
            remedy = " Raise --max-rows."
        elif accounting.slow_lost["ring_full"]:
            remedy = " Raise --slow-us."
        click.echo(f"corelock: incomplete: {words}.{remedy}", err=True)

    def _say_symbols(self) -> None:
        if self._symbols.note:
            self._say(f"corelock: {self._symbols.note}")
        if self._options.verbose:
            from corelock.render.symbolization import symbolization

            for line in symbolization(self._symbols.summary):
                self._say(line)

    def _say(self, text: str) -> None:
        if not self._options.quiet:
            click.echo(text, err=True)
