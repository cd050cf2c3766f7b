"""What the commands that trace have in common: a target, a run that something ends, last words."""

from __future__ import annotations

import itertools
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Optional

import click

from corelock import target
from corelock.cli.run import Lifetime, Output, Watch, interruptible, reap
from corelock.errors import CorelockError
from corelock.model import Accounting, Host, Target
from corelock.probe import LockProbe
from corelock.symbolize import Symbolizer
from corelock.tracer import ATTACH, MAX_ROWS, Attach, Tracer


def above_zero(
    ctx: click.Context, param: click.Parameter, value: Optional[float]
) -> Optional[float]:
    """A time span that can be waited for."""
    if value is not None and not 0 < value <= 1e9:  # nan is neither
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0")
    return value


_Function = Callable[..., None]
_Decorator = Callable[[_Function], _Function]

_TARGET: dict[str, _Decorator] = {
    "pid": click.option(
        "-p", "--pid", type=int, metavar="PID",
        help="The address space of this process, whoever locks it.",
    ),
    "tid": click.option(
        "-t", "--tid", type=int, metavar="TID", help="This thread, whatever it locks."
    ),
    "comm": click.option(
        "--comm", metavar="NAME", help="The address spaces of all processes of this name."
    ),
    "everything": click.option(
        "-a", "--all", "everything", is_flag=True, help="Every address space of the host."
    ),
    "follow": click.option(
        "--follow", is_flag=True, help="Its future children, too (--pid or a command)."
    ),
    "duration": click.option(
        "-d", "--duration", type=float, callback=above_zero, metavar="SEC",
        help="Stop after so long.",
    ),
}  # fmt: skip


btf_option: _Decorator = click.option(
    "--btf", metavar="FILE", help="The kernel's BTF, where /sys/kernel/btf does not have it."
)

_REST: dict[str, _Decorator] = {
    "output": click.option(
        "-o", "--output", metavar="FILE", help="Write there instead of to stdout."
    ),
    "max_rows": click.option(
        "--max-rows", type=click.IntRange(min=1, max=MAX_ROWS), metavar="N",
        help="Room for so many thread x operation x mode (default: by the threads now).",
    ),
    "attach": click.option(
        "--attach", type=click.Choice(ATTACH), metavar="WAY",
        help="How to get at the events: tp_btf, or tp (by tracefs). Default: what works.",
    ),
    "btf": btf_option,
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Say nothing but data and losses."),
    "verbose": click.option(
        "-v", "--verbose", is_flag=True, help="Say more, and show logs of failures."
    ),
    "command": click.argument(
        "command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD ARGS...]"
    ),
}  # fmt: skip


top_option: _Decorator = click.option(
    "-n", "--top", type=click.IntRange(min=0), default=20, metavar="N", show_default=True,
    help="Lines of the table; 0: all.",
)  # fmt: skip


def target_options(*, tid: bool) -> _Decorator:
    """What is traced, and for how long. ``tid``: one thread makes sense, too."""
    return _all(option for name, option in _TARGET.items() if tid or name != "tid")


def common_options(function: _Function) -> _Function:
    """The options that help shows last, and the command to run."""
    return _all(_REST.values())(function)


def _all(decorators: Iterable[_Decorator]) -> _Decorator:
    in_order = list(decorators)

    def decorate(function: _Function) -> _Function:
        for decorator in reversed(in_order):
            function = decorator(function)
        return function

    return decorate


@dataclass(frozen=True)
class TracedOptions:
    """Of a command line, what :func:`target_options` and :func:`common_options` make of it."""

    pid: Optional[int]
    tid: Optional[int]
    comm: Optional[str]
    everything: bool
    follow: bool
    duration: Optional[float]
    interval: Optional[float]
    output: Optional[str]
    max_rows: Optional[int]
    attach: Optional[Attach]
    btf: Optional[str]
    quiet: bool
    verbose: bool
    command: tuple[str, ...]

    def check(self, *, tid: bool) -> None:
        """Raise ``click.UsageError`` unless one target is named and the options fit it.

        ``tid`` as of :func:`target_options`.
        """
        named = [self.pid is not None, self.tid is not None, self.comm is not None]
        if sum([*named, self.everything, bool(self.command)]) != 1:
            thread = "--tid N, " if tid else ""
            raise click.UsageError(
                f"Name one target: --pid N, {thread}--comm NAME, --all, or -- CMD ARGS."
            )
        if self.interval and self.duration and self.interval > self.duration:
            raise click.UsageError("The interval (-i) is longer than the whole run (-d).")
        if self.follow and self.pid is None and not self.command:
            raise click.UsageError("--follow goes with --pid or a command.")

    def tracer(self, *, slow_ns: Optional[int], blame: bool) -> Tracer:
        """The tracer of this target."""
        return Tracer(
            pid=self.pid,
            tid=self.tid,
            comm=self.comm,
            everything=self.everything,
            command=self.command or None,
            follow=self.follow,
            slow_ns=slow_ns,
            max_rows=self.max_rows,
            intervals=self.interval is not None,
            blame=blame,
            attach=self.attach,
            btf=self.btf,
        )


class TracedRun(ABC):
    """One run: trace until something ends it, then print. A command says what it gathers."""

    def __init__(self, options: TracedOptions, tracer: Tracer, output: Output) -> None:
        self._traced = options
        self.tracer = tracer
        self.output = output
        self.symbols = Symbolizer(lock_is_held=self._lock_is_held)
        self._probe = LockProbe(options.btf)
        self.host = Host(os.uname().release, os.uname().machine, os.uname().nodename)
        #: The one process that is traced, if it is one.
        self.target: Optional[Target] = None

    @abstractmethod
    def take(self) -> None:
        """Take what has come out of the ring."""

    @abstractmethod
    def end_interval(self, number: int) -> None:
        """Print interval ``number``, counted from 1; tracing may have stopped."""

    @abstractmethod
    def finish(self, accounting: Accounting) -> None:
        """Print the whole run. Tracing has stopped."""

    def go(self) -> None:
        """Trace, then print.

        Raises:
            CorelockError: it could not be done; its log is shown with ``-v``.
        """
        try:
            with ExitStack() as stack:
                self._go(stack)
        except CorelockError as error:
            if self._traced.verbose and error.log:
                click.echo(error.log, err=True)
            raise

    def _go(self, stack: ExitStack) -> None:
        options, tracer = self._traced, self.tracer
        stop_fd = stack.enter_context(interruptible())
        stack.callback(self._probe.close)
        lifetime = self._lifetime()
        stack.enter_context(tracer)
        if options.command:
            lifetime = Lifetime(tracer.pid)
        stack.enter_context(closing(lifetime))
        lifetime.check()
        if tracer.pid is not None and self.target is None:
            self.target = Target(tracer.pid, target.comm_of(tracer.pid))
        if self.target is not None:
            self.target = replace(self.target, host_pid=tracer.host_pid)
        self._announce()
        self._say_attached(tracer.attached_by)
        number = self._watch(Watch(tracer.fileno(), self.take, lifetime, stop_fd))
        tracer.stop()
        accounting = tracer.accounting()
        if options.interval:
            self.end_interval(number)
        self.finish(accounting)
        self._say_losses(accounting)
        self._say_symbols()
        failure = reap(tracer.pid) if options.command and tracer.pid else None
        if failure:
            self.say(f"{options.command[0]} {failure}")

    def _lock_is_held(self, pid: int) -> bool:
        """Whether reading of a process would mean to wait for its lock."""
        try:
            return self._probe.stays_held(pid)
        except CorelockError:
            # Then only patience helps: reading is given up after a while.
            return False

    def _lifetime(self) -> Lifetime:
        """Of the target, from before it is traced: nobody can take its id in between."""
        options = self._traced
        if options.pid is not None:
            target.check_process(options.pid)
            self.target = Target(options.pid, target.comm_of(options.pid))
            return Lifetime(options.pid)
        if options.tid is not None:
            target.check_thread(options.tid)
            return Lifetime(options.tid, thread=True)
        return Lifetime(None)

    def _announce(self) -> None:
        options = self._traced
        what = "all processes"
        if self.target is not None:
            what = f"{self.target.comm}[{self.target.pid}]"
        elif options.tid is not None:
            what = f"thread {options.tid}"
        elif options.comm is not None:
            what = f"processes named {options.comm}"
        end = "" if options.duration else " Ctrl-C to end."
        self.say(f"Tracing mmap_lock of {what}.{end}")

    def _say_attached(self, by: str) -> None:
        if by == "tp":
            self.say(
                "corelock: attached by tp: events that the kernel drops while another tracing "
                "program\n  runs on the same CPU may go uncounted."
            )
        elif self._traced.verbose:
            self.say(f"corelock: attached by {by}")

    def _watch(self, watch: Watch) -> int:
        """Until the run ends; the number of the interval then."""
        start = time.monotonic()
        end = start + (self._traced.duration or math.inf)
        step = self._traced.interval or math.inf
        tick = start
        for number in itertools.count(1):
            # Ticks that went by while the last interval was printed are skipped.
            tick = max(tick + step, time.monotonic())
            watch.until(min(tick, end))
            if watch.ended or tick >= end:
                break
            self.end_interval(number)
        return number

    def _say_losses(self, accounting: Accounting) -> None:
        """The last line on stderr, even with -q: what the numbers lack."""
        losses = {**accounting.unmatched, **accounting.lost, **accounting.slow_lost}
        losses["children_not_followed"] = accounting.children_not_followed
        losses["hooks_missed"] = accounting.hooks_missed
        losses["charges_full"] = accounting.charges_full
        losses["unaccounted"] = accounting.unaccounted
        words = ", ".join(f"{name} {count}" for name, count in losses.items() if count)
        if not words:
            return
        remedy = ""
        if accounting.lost["map_full"] or accounting.charges_full:
            remedy = " Raise --max-rows."
        elif accounting.slow_lost["ring_full"]:
            remedy = self.ring_remedy
        click.echo(f"corelock: incomplete: {words}.{remedy}", err=True)

    #: What helps against slow records that were lost.
    ring_remedy = ""

    def _say_symbols(self) -> None:
        if self.symbols.note:
            self.say(f"corelock: {self.symbols.note}")
        if self._traced.verbose:
            from corelock.render.symbolization import symbolization

            for line in symbolization(self.symbols.summary):
                self.say(line)

    def say(self, text: str) -> None:
        """To stderr, unless -q."""
        if not self._traced.quiet:
            click.echo(text, err=True)
