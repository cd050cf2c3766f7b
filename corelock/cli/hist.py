"""``corelock hist``."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Optional

import click

from corelock.cli.options import duration_option, json_option
from corelock.cli.probing import (
    ProbeOptions,
    ProbeRun,
    clock,
    cpu_option,
    interval_option,
    last_options,
    pid_option,
)  # fmt: skip
from corelock.cli.run import Output
from corelock.histograms import MAX_KEYS, MOST_KEYS, Histograms
from corelock.measured import HistogramsSnapshot
from corelock.model import Host


def _names(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> tuple[str, ...]:
    """A list with commas, each name once."""
    names = tuple(dict.fromkeys(value.split(","))) if value else ()
    if value is not None and not all(names):
        raise click.BadParameter(f"{value!r} has an empty name")
    return names


def _linear(
    ctx: click.Context, param: click.Parameter, value: Optional[str]
) -> Optional[tuple[int, int, int]]:
    if value is None:
        return None
    try:
        low, high, step = (int(number, 0) for number in value.split(":"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not LO:HI:STEP, as 0:1000:50") from None
    return low, high, step


class _Command(click.Command):
    """Says of an option that needs two words what they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            if error.option_name != "--latency":
                raise
            raise _no_pair(ctx, "") from None


def _pairs(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Starts and ends; what looks like an option is there as one of them was left out."""
    for word in itertools.chain.from_iterable(value):
        if word.startswith("-"):
            raise _no_pair(ctx, f", not {word!r}")
    return value


def _no_pair(ctx: click.Context, instead: str) -> click.UsageError:
    return click.UsageError(
        f"--latency takes two tracepoints, START and END{instead}:\n"
        "  --latency t:syscalls:sys_enter_munmap t:syscalls:sys_exit_munmap",
        ctx,
    )


@dataclass(frozen=True)
class HistOptions(ProbeOptions):
    """The command line, as given; see ``command``."""

    fields: tuple[str, ...]
    latency: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    by: tuple[str, ...]
    filter: Optional[str]
    linear: Optional[tuple[int, int, int]]
    max_keys: int
    top: int
    timestamp: bool
    json: bool


@click.command("hist", cls=_Command)
@click.argument("fields", nargs=-1, metavar="[t:CATEGORY:EVENT:FIELD[,FIELD...]]...")
@click.option(
    "--latency",
    nargs=2,
    multiple=True,
    callback=_pairs,
    metavar="START END",
    help="Times from one tracepoint to another (t:category:event).",
)
@click.option(
    "--key",
    callback=_names,
    metavar="FIELD[,...]",
    help="What tells which END belongs to which START: of both, or FIELD=FIELD of END (default: "
    "the thread).",
)
@click.option(
    "--by",
    callback=_names,
    metavar="NAME[,...]",
    help="A histogram for each comm, pid, tid, cpu, FIELD, or text at an address, str(FIELD).",
)
@click.option(
    "--filter", metavar="EXPR", help="Only events of which it is true: 'len > 4K && cpu != 0'."
)
@click.option(
    "--linear", callback=_linear, metavar="LO:HI:STEP", help="Buckets of one width, not of octaves."
)
@pid_option
@cpu_option
@interval_option
@duration_option
@click.option(
    "-n",
    "--top",
    type=click.IntRange(min=0),
    default=10,
    metavar="N",
    show_default=True,
    help="Keys shown, those with the most events; 0: all.",
)
@click.option(
    "--max-keys",
    type=click.IntRange(min=1, max=MOST_KEYS),
    default=MAX_KEYS,
    metavar="N",
    show_default=True,
    help="Room for so many keys.",
)
@click.option("-T", "--timestamp", is_flag=True, help="The time of day above what is printed.")
@json_option("; with -i one for each, and one of the whole")
@last_options
def command(**given: Any) -> None:
    """Histograms of tracepoints' fields, or of times between two tracepoints.

    \b
    corelock hist t:kmem:kmalloc:bytes_req,bytes_alloc --by comm
    corelock hist --latency t:syscalls:sys_{enter,exit}_munmap --by comm
    corelock hist --latency t:block:block_rq_{issue,complete} --key dev,sector
    corelock hist --latency t:sched:sched_{waking,switch} --key pid=next_pid

    With --latency, --by and --filter are of END; -p and -c of START alone, if
    there is a --key. corelock list 't:cat:*' has the events and their fields.
    """
    options = HistOptions(**given)
    options.check()
    if not options.fields and not options.latency:
        raise click.UsageError("Name fields (t:category:event:FIELD), or --latency START END.")
    if options.key and not options.latency:
        raise click.UsageError("--key goes with --latency; to tell events apart, use --by.")
    if options.timestamp and options.json:
        raise click.UsageError("-T goes without --json, which has times of its own.")
    histograms = Histograms(
        *options.fields,
        latency=options.latency,
        key=options.key,
        by=options.by,
        filter=options.filter,
        linear=options.linear,
        pid=options.pid,
        cpu=options.cpu,
        max_keys=options.max_keys,
    )
    with closing(Output(options.output)) as output:
        _Run(options, histograms, output).go()


class _Run(ProbeRun):
    """One run of the command."""

    def __init__(self, options: HistOptions, histograms: Histograms, output: Output) -> None:
        super().__init__(options, histograms)
        self._options = options
        self._histograms = histograms
        self._output = output
        self._host = Host.this()
        self._whole: Optional[HistogramsSnapshot] = None

    def announce(self) -> None:
        count = len(self.coverage.labels)
        self.say(f"Tracing {count:,} event{'s' * (count != 1)}{self.where}.{self.ending}")
        self.say_misses()

    def end_interval(self, number: int) -> None:
        self._print(f"interval {number}", self._histograms.read_interval())

    def finish(self, number: int) -> None:
        self._whole = self._histograms.stop()
        if self._options.interval:
            self.end_interval(number)
        self._print("whole run", self._whole)

    def _print(self, part: str, snapshot: HistogramsSnapshot) -> None:
        options = self._options
        with self._output.writing() as stream:
            if options.json:
                from corelock.export.hist import write_hist_json

                write_hist_json(stream, self._host, self.target, snapshot)
                return
            from corelock.render.distributions import distributions

            if options.interval:
                time_of_day = f", {clock()}" if options.timestamp else ""
                stream.write(f"--- {part}{time_of_day} ---\n")
            elif options.timestamp:
                stream.write(f"{clock()}\n")
            for line in distributions(snapshot, options.top, options.linear is not None):
                stream.write(f"{line}\n")
            if options.interval:
                stream.write("\n")

    def losses(self) -> tuple[dict[str, int], str]:
        assert self._whole is not None
        losses = {"missed": self._whole.missed, "faults": self._whole.faults}
        for measured in self._whole.measures:
            one = measured.accounting
            for cause, count in (*one.lost.items(), ("starts_full", one.starts_lost)):
                losses[cause] = losses.get(cause, 0) + count
        if self._options.verbose and self._whole.self_hits:
            self.say(f"corelock: {self._whole.self_hits:,} hits of corelock itself were left out")
        full = losses["keys_full"] or losses["chunks_full"]
        return losses, "Raise --max-keys." if full else ""
