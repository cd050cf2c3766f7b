"""What the commands on probes have in common: options, a run that something ends, last words."""

from __future__ import annotations

import math
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any, Optional

import click

from corelock import target
from corelock.attaching import Coverage
from corelock.cli import say
from corelock.cli.lifetime import Lifetime
from corelock.cli.options import (
    above_zero,
    all_of,
    check_interval,
    output_option,
    quiet_option,
    verbose_option,
)  # fmt: skip
from corelock.cli.run import Watch, interruptible, showing_log
from corelock.matching import MAX_PROBES
from corelock.model import Target
from corelock.probe_session import ProbeSession
from corelock.probes.places import WAY_NAMES
from corelock.render.text import flow
from corelock.render.units import duration

#: Of what could not be attached, how many names are said with -v for each reason.
_NAMED = 200
#: From so many places on, that are detached from one by one, it may take the kernel seconds.
_MANY = 20

#: What helps where the main thread of the process has ended, or another one has called exec.
TRACE_ANEW = "Since then, hits in the process's files may be missing: trace it anew."

pid_option = click.option(
    "-p", "--pid", type=int, metavar="PID", help="Only this process; files are as it sees them."
)
cpu_option = click.option("-c", "--cpu", type=int, metavar="CPU", help="Only this CPU.")
interval_option = click.option(
    "-i", "--interval", type=float, callback=above_zero, metavar="SEC", help="Print every so often."
)
regex_option = click.option(
    "-r", "--regex", is_flag=True, help="Names in patterns are regular expressions."
)
max_probes_option = click.option(
    "--max-probes", type=click.IntRange(min=1), default=MAX_PROBES, metavar="N", show_default=True,
    help="Attach to so many places at most.",
)  # fmt: skip


def last_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that help shows last."""
    return all_of([output_option, quiet_option, verbose_option])(function)


@dataclass(frozen=True)
class ProbeOptions:
    """Of a command line, what every command on probes has."""

    pid: Optional[int]
    cpu: Optional[int]
    duration: Optional[float]
    interval: Optional[float]
    output: Optional[str]
    quiet: bool
    verbose: bool

    def check(self) -> None:
        """Raise ``click.UsageError`` if they do not fit together."""
        check_interval(self.interval, self.duration)


class ProbeRun(ABC):
    """One run: attach, go on until something ends it, then print."""

    def __init__(self, options: ProbeOptions, session: ProbeSession[Any]) -> None:
        self.probe_options = options
        self._session = session
        #: The one process that is looked at, if it is one.
        self.target: Optional[Target] = None

    @property
    def coverage(self) -> Coverage:
        """What is attached to, once it is."""
        assert self._session.coverage is not None
        return self._session.coverage

    def wake_fd(self) -> Optional[int]:
        """What turns readable when there is something for :meth:`take`."""
        return None

    def take(self) -> None:
        """Take what has come; may end the run by setting ``self.watch.ended_by``."""
        return

    @abstractmethod
    def announce(self) -> None:
        """Say that it has begun."""

    @abstractmethod
    def end_interval(self, number: int) -> None:
        """Print interval ``number``, counted from 1."""

    @abstractmethod
    def finish(self, number: int) -> None:
        """Stop, and print the rest; ``number`` is that of the last interval."""

    @abstractmethod
    def losses(self) -> tuple[dict[str, int], str]:
        """What the numbers lack, by cause, and what helps."""

    def go(self) -> None:
        """Do it.

        Raises:
            CorelockError: it could not be done; its log is shown with ``-v``.
        """
        with showing_log(self.probe_options.verbose), ExitStack() as stack:
            self._go(stack)

    def _go(self, stack: ExitStack) -> None:
        options = self.probe_options
        raise_descriptor_limit()
        stop_fd = stack.enter_context(interruptible())
        lifetime = Lifetime(None)
        if options.pid is not None:
            target.check_process(options.pid, of_locks=False)
            self.target = Target(options.pid, target.comm_of(options.pid))
            lifetime = Lifetime(options.pid)
        stack.enter_context(closing(lifetime))
        lifetime.check()
        with self._session:
            self.announce()
            self._say_coverage(self.coverage)
            self.watch = Watch(self.wake_fd(), self.take, lifetime, stop_fd)
            number = self.watch.intervals(
                options.interval or math.inf, options.duration or math.inf, self.end_interval
            )
            self.finish(number)
            losses, remedy = self.losses()
            self._say_detaching()
            before_ns = time.monotonic_ns()
        if options.verbose:
            self.say(f"corelock: detached in {duration(time.monotonic_ns() - before_ns)}")
        words = ", ".join(f"{cause} {count:,}" for cause, count in losses.items() if count)
        # The last line on stderr, even with -q.
        if words:
            say(f"corelock: incomplete: {words}.{remedy and ' '}{remedy}")

    def _say_detaching(self) -> None:
        ways = self.coverage.ways
        one_by_one = sum(ways.get(way, 0) for way in ("KPROBE", "UPROBE", "TP"))
        if one_by_one > _MANY:
            self.say(f"corelock: detaching from {one_by_one:,} places, one after the other")

    def _say_coverage(self, coverage: Coverage) -> None:
        options = self.probe_options
        if options.verbose:
            words = ", ".join(f"{n:,} by {WAY_NAMES[way]}" for way, n in coverage.ways.items())
            self.say(f"corelock: attached to {words}, in {duration(coverage.attach_ns)}")
            for line in refusals(coverage.refused):
                self.say(line)
        elif coverage.refused_count:
            more = f"{coverage.refused_count:,} more match and cannot be probed"
            self.say(f"corelock: {more}: -v says which, and why")

    def say_misses(self) -> None:
        """Where the kernel drops hits and does not count all of them, that it does."""
        if not self._session.counts_missed and self.coverage.ways.keys() - {"FENTRY", "RAW_TP"}:
            self.say(
                "corelock: this kernel does not count the hits that it drops while another tracing"
                "\n  program runs on the same CPU."
            )

    @property
    def where(self) -> str:
        """Where hits count, in words: "" is everywhere."""
        words = ""
        if self.target is not None:
            words += f" in {self.target.comm}[{self.target.pid}]"
        if self.probe_options.cpu is not None:
            words += f" on CPU {self.probe_options.cpu}"
        return words

    @property
    def ending(self) -> str:
        """How it ends, in words."""
        return "" if self.probe_options.duration else " Ctrl-C to end."

    def say(self, text: str) -> None:
        """To stderr, unless -q."""
        if not self.probe_options.quiet:
            say(text)


def refusals(refused: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """What cannot be probed and why, in lines of 80 columns."""
    lines = []
    for reason, labels in sorted(refused.items(), key=lambda item: -len(item[1])):
        lines.append(f"corelock: {len(labels):,} cannot be probed ({reason}):")
        shown = [*labels[:_NAMED]]
        if len(labels) > _NAMED:
            shown.append(f"... and {len(labels) - _NAMED:,} more")
        lines += [f"  {line}" for line in flow(shown, 78, indent="")]
    return lines


def raise_descriptor_limit() -> None:
    """As many descriptors as are allowed: a probe may take two, and the default is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def clock() -> str:
    """The time of day, for the headings of intervals."""
    return time.strftime("%H:%M:%S")
