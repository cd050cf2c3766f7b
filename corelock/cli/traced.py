"""What the commands that trace have in common: a target, a run that something ends, last words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any, Optional

import click

from corelock import target
from corelock.cli import say
from corelock.cli.lifetime import CgroupLifetime, Lifetime
from corelock.cli.options import check_interval
from corelock.cli.run import Watch, interruptible, reap, showing_log
from corelock.lock_probe import LockProbe
from corelock.model import Accounting, Host, Target
from corelock.render.columns import cgroup_label
from corelock.symbolize import Symbolizer
from corelock.tracer import Attach, Tracer


@dataclass(frozen=True)
class TracedOptions:
    """Of a command line, what ``target_options`` and ``common_options`` make of it."""

    pid: Optional[int]
    tid: Optional[int]
    comm: Optional[str]
    cgroup: Optional[str]
    container: Optional[str]
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

    def check(self, *, tid: bool, command: bool = True) -> None:
        """Raise ``click.UsageError`` unless one target is named and the options fit it.

        ``tid`` as of ``target_options``; ``command``: it may be one to start.
        """
        targets = (self.pid, self.tid, self.comm, self.cgroup, self.container)
        named = [target is not None for target in targets]
        if sum([*named, self.everything, bool(self.command)]) != 1:
            thread = "--tid N, " if tid else ""
            raise click.UsageError(
                f"Name one target: --pid N, {thread}--comm NAME, --cgroup PATH, --container ID, "
                + ("--all, or -- CMD ARGS." if command else "or --all.")
            )
        check_interval(self.interval, self.duration)
        if self.follow and self.pid is None and not self.command:
            raise click.UsageError("--follow goes with --pid or a command.")

    def tracer(self, *, slow_ns: Optional[int], blame: bool, examples: bool = True) -> Tracer:
        """The tracer of this target."""
        return Tracer(
            slow_ns=slow_ns,
            intervals=self.interval is not None,
            blame=blame,
            examples=examples,
            **self.tracer_arguments(),
        )

    def tracer_arguments(self) -> dict[str, Any]:
        """What says what is traced, and how."""
        return {
            "pid": self.pid,
            "tid": self.tid,
            "comm": self.comm,
            "cgroup": self.cgroup,
            "container": self.container,
            "everything": self.everything,
            "command": self.command or None,
            "follow": self.follow,
            "max_rows": self.max_rows,
            "attach": self.attach,
            "btf": self.btf,
        }


class TracedRun(ABC):
    """One run: trace until something ends it, then print. A command says what it gathers."""

    def __init__(self, options: TracedOptions, tracer: Tracer) -> None:
        self._traced = options
        self.tracer = tracer
        self._probe = LockProbe(options.btf)
        self.symbols = Symbolizer(lock_is_held=self._probe.may_be_waited_for)
        self.host = Host.this()
        #: The one process that is traced, if it is one.
        self.target: Optional[Target] = None

    def begin(self) -> None:
        """Say that counting has begun."""
        self._announce()
        self._say_attached(self.tracer.attached_by)

    def wake_fd(self) -> int:
        """What turns readable when there is something for :meth:`take`."""
        return self.tracer.fileno()

    @abstractmethod
    def take(self) -> None:
        """Take what has come out of the ring."""

    def stop(self) -> None:
        """End the tracing."""
        self.tracer.stop()

    def accounting(self) -> Accounting:
        """Where every event of the run went."""
        return self.tracer.accounting()

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
        with showing_log(self._traced.verbose), ExitStack() as stack:
            self._go(stack)

    def _go(self, stack: ExitStack) -> None:
        options, tracer = self._traced, self.tracer
        stop_fd = stack.enter_context(interruptible())
        stack.callback(self._probe.close)
        lifetime = self._lifetime()
        stack.enter_context(tracer)
        if options.command:
            lifetime = Lifetime(tracer.pid)
        elif tracer.cgroup is not None:
            lifetime = CgroupLifetime(tracer.cgroup)
        stack.enter_context(closing(lifetime))
        lifetime.check()
        if tracer.pid is not None and self.target is None:
            self.target = Target(tracer.pid, target.comm_of(tracer.pid))
        if self.target is not None:
            self.target = replace(self.target, host_pid=tracer.host_pid)
        self.begin()
        self.watch = Watch(self.wake_fd(), self.take, lifetime, stop_fd)
        number = self._watch(self.watch)
        self.stop()
        accounting = self.accounting()
        if options.interval:
            self.end_interval(number)
        self.finish(accounting)
        self._say_losses(accounting)
        self._say_symbols()
        failure = reap(tracer.pid) if options.command and tracer.pid else None
        if failure:
            self.say(f"{options.command[0]} {failure}")

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

    @property
    def what(self) -> str:
        """What is traced, in words."""
        options = self._traced
        if self.target is not None:
            return f"{self.target.comm}[{self.target.pid}]"
        if options.tid is not None:
            return f"thread {options.tid}"
        if options.comm is not None:
            return f"processes named {options.comm}"
        if self.tracer.cgroup is not None:
            return cgroup_label(self.tracer.cgroup)
        return "all processes"

    def _announce(self) -> None:
        end = "" if self._traced.duration else " Ctrl-C to end."
        self.say(f"{self.verb} mmap_lock of {self.what}{self.into}.{end}")

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
        step, longest = self._traced.interval, self._traced.duration
        return watch.intervals(step or math.inf, longest or math.inf, self.end_interval)

    def _say_losses(self, accounting: Accounting) -> None:
        """The last line on stderr, even with -q: what the numbers lack."""
        words = ", ".join(f"{cause} {count}" for cause, count in accounting.losses.items())
        if not words:
            return
        remedy = ""
        if accounting.lost["map_full"] or accounting.charges_full:
            remedy = " Raise --max-rows."
        elif accounting.cycles_lost:
            remedy = " Raise --ring-size."
        elif accounting.slow_lost["ring_full"]:
            remedy = self.ring_remedy
        elif accounting.attached_by == "tp_btf" and any(
            count for name, count in accounting.lost.items() if name.startswith("recursion_")
        ):
            # Since Linux 7.0 a tp_btf program may be preempted, and keeps its CPU's others out.
            remedy = " Try --attach tp."
        say(f"corelock: incomplete: {words}.{remedy}")

    #: What is done, and where it goes, in the first line on stderr.
    verb = "Tracing"
    into = ""
    #: What helps against slow records that were lost.
    ring_remedy = ""

    def _say_symbols(self) -> None:
        for note in self.symbols.notes:
            self.say(f"corelock: {note}")
        if self._traced.verbose:
            from corelock.render.symbolization import symbolization

            for line in symbolization(self.symbols.summary):
                self.say(line)

    def say(self, text: str) -> None:
        """To stderr, unless -q."""
        if not self._traced.quiet:
            say(text)
