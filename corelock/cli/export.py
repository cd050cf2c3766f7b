"""``corelock export``."""

from __future__ import annotations

import ipaddress
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import click

from corelock.cli import say
from corelock.cli.options import above_zero, options_without_output, target_options
from corelock.cli.traced import TracedOptions, TracedRun
from corelock.errors import NoSuchTarget
from corelock.model import Accounting
from corelock.tracer import Tracer

if TYPE_CHECKING:
    from corelock.exporters.collector import Collector
    from corelock.exporters.metrics import Collected
    from corelock.exporters.otlp import OtlpPusher
    from corelock.exporters.prometheus import PrometheusServer

#: Reading takes at most one part in so many of the time, emptying tables one in so many.
_LEAST_REST = 5
_LEAST_TRACED = 50


class _Listen(NamedTuple):
    address: str
    port: int


def _listen(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[_Listen]:
    """``ADDR:PORT``, ``[ADDR]:PORT`` or ``PORT``."""
    if value is None:
        return None
    address, _, port = value.rpartition(":")
    address = address or "127.0.0.1"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise click.BadParameter(f"{value!r}: an IPv6 address goes in brackets, as [::1]:9464")
    address = {"localhost": "127.0.0.1"}.get(address, address)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise click.BadParameter(
            f"{address!r} is no address of this host, as 127.0.0.1, [::1] or 0.0.0.0"
        ) from None
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise click.BadParameter(f"{port!r} is no port (0 to 65535; 0: any that is free)")
    return _Listen(address, int(port))


@dataclass(frozen=True)
class _Options(TracedOptions):
    """The command line, as given; see ``command``."""

    prometheus: Optional[_Listen]
    otlp: Optional[str]
    max_processes: int


@click.command("export")
@target_options(tid=True)
@click.option(
    "--prometheus",
    callback=_listen,
    metavar="[ADDR:]PORT",
    help="Answer scrapes there (ADDR: 127.0.0.1 unless given; port 0: any that is free).",
)
@click.option(
    "--otlp",
    metavar="ENDPOINT",
    help="Push there by OTLP over HTTP, as http://localhost:4318.",
)
@click.option(
    "-i",
    "--interval",
    type=float,
    callback=above_zero,
    default=10,
    show_default=True,
    metavar="SEC",
    help="Read and push so often; what a scrape gets is at most so old.",
)
@click.option(
    "--max-processes",
    type=click.IntRange(min=0, max=10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Series for so many process names; the rest together is (other).",
)
@options_without_output
def command(**given: object) -> None:
    """Waits and holds of mmap_lock for Prometheus and OpenTelemetry, while it traces.

    Histograms by process name, mode and operation, what was lost, and whether the
    numbers are complete. Ends with --duration, Ctrl-C, or the target's exit.
    """
    options = _Options(output=None, **given)  # type: ignore[arg-type]
    # No interval is too long for a run: what comes at its end is collected, too.
    replace(options, interval=None).check(tid=True)
    if options.prometheus is None and options.otlp is None:
        raise click.UsageError("Say where to: --prometheus [ADDR:]PORT or --otlp ENDPOINT.")
    with ExitStack() as stack:
        _Run(options, stack).go()


def _tracer(options: TracedOptions) -> Tracer:
    # Stacks go nowhere, and the kernel need not keep what an interval had.
    return replace(options, interval=None).tracer(slow_ns=None, blame=False)


class _Run(TracedRun):
    """One run of the command."""

    def __init__(self, options: _Options, stack: ExitStack) -> None:
        super().__init__(options, _tracer(options))
        self._options = options
        self._stack = stack
        self._collector: Optional[Collector] = None
        self._rest_until = self._renew_from = 0.0
        # Before anything is traced: what cannot be had is refused then.
        self._server = self._make_server()
        if self._server is not None:
            stack.callback(self._server.close)
        self._pusher = self._make_pusher()
        if self._pusher is not None:
            stack.callback(self._pusher.close)

    def _make_server(self) -> Optional[PrometheusServer]:
        if self._options.prometheus is None:
            return None
        from corelock.exporters.prometheus import PrometheusServer

        return PrometheusServer(*self._options.prometheus, self._latest)

    def _make_pusher(self) -> Optional[OtlpPusher]:
        if self._options.otlp is None:
            return None
        from corelock.exporters.otlp import OtlpPusher

        return OtlpPusher(self._options.otlp, self._latest, self.host, say)

    def _latest(self) -> Optional[Collected]:
        return None if self._collector is None else self._collector.latest

    def begin(self) -> None:
        """Make the first numbers, and say where they are."""
        super().begin()
        from corelock.exporters.collector import Collector

        self._collector = Collector(self.tracer, self.host, self._options.max_processes)
        self._collect()
        if self._server is not None and self._options.prometheus is not None:
            self._server.start()
            # Whoever asked for any port must be told which, -q or not.
            told = self.say if self._options.prometheus.port else say
            told(f"Metrics for Prometheus at {self._server.url}")
        if self._pusher is not None:
            self._pusher.start()
            self._pusher.push()
            self.say(f"Pushing metrics to {self._pusher.url}")

    def wake_fd(self) -> int:
        """Never readable: no stacks are taken, and the tracer may become another one."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._stack.callback(os.close, reader)
        self._stack.callback(os.close, writer)
        return reader

    def take(self) -> None:
        """Nothing is taken between intervals."""

    def accounting(self) -> Accounting:
        """Where every event of the run went, whichever tracer had it."""
        assert self._collector is not None
        return self._collector.accounting()

    def end_interval(self, number: int) -> None:
        """Read and push. A host with many rows gets a rest."""
        if time.monotonic() < self._rest_until:
            return
        self._collect()
        assert self._collector is not None
        if self._collector.is_nearly_full and time.monotonic() >= self._renew_from:
            self._renew()
        if self._pusher is not None:
            self._pusher.push()

    def _renew(self) -> None:
        """Go on with a tracer whose tables are empty."""
        # Which children it follows nobody else knows.
        if self._options.follow or self.watch.ended:
            return
        begun = time.monotonic()
        old, pid = self.tracer, self.tracer.pid
        old.stop()
        self._collect()
        fresh = _tracer(replace(self._options, pid=pid, command=()))
        try:
            fresh.start()
        except NoSuchTarget:
            return  # Its end is the run's.
        self._stack.callback(fresh.close)
        assert self._collector is not None
        self._collector.go_on_with(fresh)
        self.tracer = fresh
        old.close()
        self._renew_from = begun + _LEAST_TRACED * (time.monotonic() - begun)

    def _collect(self) -> None:
        assert self._collector is not None
        begun = time.monotonic()
        self._collector.collect()
        took = time.monotonic() - begun
        self._rest_until = begun + _LEAST_REST * took

    def finish(self, accounting: Accounting) -> None:
        """Say all that was counted; tracing has stopped."""
        self._collect()
        if self._pusher is not None:
            self._pusher.finish()
            if self._pusher.losses():
                say(self._pusher.losses())
