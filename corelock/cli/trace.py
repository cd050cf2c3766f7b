"""``corelock trace``."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Optional, TextIO

import click

from corelock.cli import say
from corelock.cli.options import duration_option
from corelock.cli.probing import (
    TRACE_ANEW,
    ProbeOptions,
    ProbeRun,
    cpu_option,
    last_options,
    max_probes_option,
    pid_option,
    regex_option,
)  # fmt: skip
from corelock.cli.run import Output
from corelock.event_trace import LEAST_RING_BYTES, LOOK_S, MOST_RING_BYTES, EventTrace
from corelock.events import Event
from corelock.lock_probe import LockProbe
from corelock.model import Frame, Host
from corelock.symbolize import Symbolizer

#: A terminal narrower than that shows nothing of a stack.
_LEAST_WIDTH = 40

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "bytes"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> int:
        text = str(value).upper()
        unit = text[-1:] if text[-1:] in ("K", "M", "G") else ""
        digits = text[: len(text) - len(unit)]
        if (
            not digits.isdecimal()
            or not LEAST_RING_BYTES <= int(digits) * _UNITS[unit] <= MOST_RING_BYTES
        ):
            self.fail(f"{value!r} is not 4K to 1G", param, ctx)
        return int(digits) * _UNITS[unit]


def _fields(
    ctx: click.Context, param: click.Parameter, value: Optional[str]
) -> Optional[tuple[str, ...]]:
    if value is None:
        return None
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


@click.command("trace")
@click.argument("patterns", nargs=-1, required=True, metavar="PROBE...")
@pid_option
@cpu_option
@click.option(
    "--fields", callback=_fields, metavar="LIST",
    help="What to show of each event: FIELD, str(FIELD), hex(FIELD), s32(FIELD), with commas "
    "between. Default: all there are; of functions of a program, none.",
)  # fmt: skip
@click.option(
    "--filter", "filter_", metavar="EXPR",
    help="Only events of which it is true: 'len > 4096 && comm == \"qemu\"'.",
)  # fmt: skip
@click.option("-K", "--kernel-stack", "kernel_stacks", is_flag=True, help="Stacks in the kernel.")
@click.option("-U", "--user-stack", "user_stacks", is_flag=True, help="Stacks in the program.")
@duration_option
@click.option(
    "-n", "--max-events", type=click.IntRange(min=1), metavar="MAX", help="Stop after so many."
)
@regex_option
@click.option("--json", is_flag=True, help="One JSON object a line (see docs/json.md).")
@max_probes_option
@click.option(
    "--ring-size", "ring_bytes", type=_Bytes(), metavar="BYTES",
    help="Room for events that wait to be printed (default: 8M, with -U 64M).",
)  # fmt: skip
@last_options
def command(
    patterns: tuple[str, ...],
    regex: bool,
    fields: Optional[tuple[str, ...]],
    filter_: Optional[str],
    kernel_stacks: bool,
    user_stacks: bool,
    max_events: Optional[int],
    json: bool,
    max_probes: int,
    ring_bytes: Optional[int],
    **given: Any,
) -> None:
    """Print events as they happen: time, thread, fields or arguments.

    \b
    PROBE    t:category:event a tracepoint, with the fields of its record
             u:lib:probe      a static probe (USDT), with arg1, arg2 and so on
             func             one of the kernel's functions (p::func), with its arguments
             lib:func         one of a library or program, with arg1 to arg6

    Names may have * ? [a-z] and a|b. Hits of corelock itself are left out.
    """
    options = ProbeOptions(interval=None, **given)
    options.check()
    trace = EventTrace(
        *patterns,
        pid=options.pid,
        cpu=options.cpu,
        regex=regex,
        max_probes=max_probes,
        fields=fields,
        filter=filter_,
        kernel_stacks=kernel_stacks,
        user_stacks=user_stacks,
        ring_bytes=ring_bytes or (64 << 20 if user_stacks else None),
    )
    with closing(Output(options.output)) as output:
        _Run(options, trace, output, kernel_stacks, user_stacks, max_events, json).go()


class _Run(ProbeRun):
    """One run of the command."""

    def __init__(
        self,
        options: ProbeOptions,
        trace: EventTrace,
        output: Output,
        kernel_stacks: bool,
        user_stacks: bool,
        max_events: Optional[int],
        json: bool,
    ) -> None:
        # The ring is looked at so often, whether it has woken us or not.
        super().__init__(dataclasses.replace(options, interval=LOOK_S), trace)
        self._trace = trace
        self._output = output
        self._kernel_stacks = kernel_stacks
        self._user_stacks = user_stacks
        self._max_events = max_events
        self._json = json
        self._printed = 0
        # Values that could not be read: of the lines, and of events after the last one.
        self._unread = self._unread_after = 0
        self._probe = LockProbe()
        self._symbols = Symbolizer(lock_is_held=self._probe.may_be_waited_for)
        self._width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns)

    def announce(self) -> None:
        from corelock.render.events import EventLines

        labels = self.coverage.labels
        what = labels[0] if len(labels) == 1 else f"{len(labels):,} probes"
        self.say(f"Tracing {what}{self.where}.{self.ending}")
        self.say_misses()
        clock_ns = time.time_ns() - time.monotonic_ns()
        self._lines = EventLines(labels, self._trace.shows_hex, clock_ns)
        if not self._json:
            with self._output.writing() as stream:
                stream.write(f"{self._lines.heading()}\n")

    def wake_fd(self) -> int:
        return self._trace.fileno()

    def take(self) -> None:
        events = self._trace.take()
        first = next(events, None)
        if first is not None:
            with self._output.writing() as stream:
                for event in itertools.chain((first,), events):
                    self._print(stream, event)
                    # Those after the last are counted when all is over.
                    if self._is_full:
                        break
        if self._is_full:
            self.watch.ended_by = "full"

    def end_interval(self, number: int) -> None:
        self.take()

    def finish(self, number: int) -> None:
        self._trace.stop()
        with self._output.writing() as stream:
            for event in self._trace.take():
                if self._is_full:
                    self._unread_after += len(event.unread)
                else:
                    self._print(stream, event)
            if self._json:
                self._end(stream)
        accounting = self._trace.accounting()
        if self.probe_options.verbose:
            from corelock.render.events import event_accounting_lines

            for line in event_accounting_lines(accounting, self._printed):
                self.say(line)
        for note in self._symbols.notes:
            self.say(f"corelock: {note}")
        self._probe.close()

    def losses(self) -> tuple[dict[str, int], str]:
        losses = dict(self._trace.accounting().losses)
        losses["probes_in_part"] = len(self.coverage.incomplete)
        if self._is_full:
            self._say_unplaced(losses)
        return losses, _remedy(losses)

    def _say_unplaced(self, losses: dict[str, int]) -> None:
        """Leave in ``losses`` what the lines of ``-n`` lack; say what else there was.

        That may have come after the last of them: nobody knows when it would have.
        """
        causes = ("ring_full", "missed", "main_thread_ended")
        unplaced = {cause: losses.pop(cause, 0) for cause in causes}
        remedy = _remedy(unplaced)
        # What is left is the filter's.
        unplaced["unread"] = losses.get("unread", 0) - self._unread - self._unread_after
        losses["unread"] = self._unread
        words = ", ".join(f"{cause} {count:,}" for cause, count in unplaced.items() if count)
        if words:
            lost = "lost, before the last line or after it"
            say(f"corelock: {lost}: {words}. {remedy}".rstrip())

    @property
    def _is_full(self) -> bool:
        """Whether all lines of ``-n`` are printed."""
        return self._printed == self._max_events

    # --- printing ---------------------------------------------------------------------

    def _print(self, stream: TextIO, event: Event) -> None:
        self._printed += 1
        self._unread += len(event.unread)
        kernel, user, note = self._stacks(event)
        if self._json:
            from corelock.export.events import write_event_json

            write_event_json(stream, event, kernel, user, note)
            return
        stream.write(f"{self._lines.line(event)}\n")
        if kernel is not None or user is not None:
            from corelock.render.events import event_stacks

            for line in event_stacks(kernel or (), user or (), note, self._width):
                stream.write(f"{line}\n")

    def _stacks(
        self, event: Event
    ) -> tuple[Optional[Sequence[Frame]], Optional[Sequence[Frame]], Optional[str]]:
        kernel = user = note = None
        if self._kernel_stacks:
            kernel = self._symbols.resolve_kernel(event.kernel_stack)
        if self._user_stacks:
            user, note = self._symbols.resolve_user(event)
        return kernel, user, note

    def _end(self, stream: TextIO) -> None:
        from corelock.export.events import write_end_json

        write_end_json(
            stream, Host.this(), self.target, self._trace.start_ns, self._trace.end_ns,
            self.coverage, self._trace.accounting(), self._printed,
        )  # fmt: skip


def _remedy(losses: Mapping[str, int]) -> str:
    """What helps against the worst of these."""
    if losses.get("ring_full"):
        return "Raise --ring-size, or let less through by --filter."
    if losses.get("main_thread_ended"):
        return TRACE_ANEW
    return "What was not in memory is shown as ?." if losses.get("unread") else ""
