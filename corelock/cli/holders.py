"""``corelock holders``."""

from __future__ import annotations

import select
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Optional

import click

from corelock import target
from corelock.cli import say
from corelock.cli.lifetime import CgroupLifetime, Lifetime
from corelock.cli.options import (
    above_zero,
    btf_option,
    json_option,
    output_option,
    quiet_option,
    verbose_option,
)
from corelock.cli.run import Output, interruptible, showing_log
from corelock.errors import NoSuchTarget
from corelock.locks import HoldersReport, HoldersSnapshot, LockState, SeenLock
from corelock.model import Cgroup, Frame, Host, Target
from corelock.render.columns import cgroup_label
from corelock.sampler import HolderSampler, HoldWatch
from corelock.symbolize.kernel import KernelSymbols, resolve_kernel_stack

_TRIES = 20
_RETRY_S = 0.1


@dataclass(frozen=True)
class _Options:
    """The command line, as given; see ``command``."""

    pid: Optional[int]
    cgroup: Optional[str]
    container: Optional[str]
    longer_than_ms: Optional[float]
    watch: Optional[float]
    waiters: bool
    json: bool
    output: Optional[str]
    btf: Optional[str]
    quiet: bool
    verbose: bool

    @property
    def longer_than_ns(self) -> Optional[int]:
        """How long a lock must have been seen held; None: one look is enough."""
        if self.longer_than_ms is None:
            return None if self.watch is None else 0
        return round(self.longer_than_ms * 1_000_000)


@click.command("holders")
@click.option(
    "-p",
    "--pid",
    type=int,
    metavar="PID",
    help="Only the address space of this process, whoever holds it.",
)
@click.option(
    "--cgroup", metavar="PATH", help="Only those of processes in this cgroup (version 2)."
)
@click.option("--container", metavar="ID", help="Only those of the container whose id begins so.")
@click.option(
    "--longer-than",
    "longer_than_ms",
    type=float,
    callback=above_zero,
    metavar="MS",
    help="Only locks seen held for so many milliseconds, by two looks or more.",
)
@click.option(
    "--watch",
    type=float,
    callback=above_zero,
    metavar="SEC",
    help="Look every so often, and print locks held at two looks on end.",
)
@click.option("--waiters", is_flag=True, help="Name those that wait, too, in their order.")
@json_option("; with --watch one a look")
@output_option
@btf_option
@quiet_option
@verbose_option
def command(**given: object) -> None:
    """Who holds mmap_lock now, and who waits for it.

    Nothing is traced: it works for locks taken before it started. It takes no
    mmap_lock itself. --watch goes on until Ctrl-C, the process's exit, or the
    cgroup's removal.
    """
    options = _Options(**given)  # type: ignore[arg-type]
    if sum(name is not None for name in (options.pid, options.cgroup, options.container)) > 1:
        raise click.UsageError("Choose one of --pid, --cgroup and --container.")
    with closing(Output(options.output)) as output, showing_log(options.verbose):
        _Run(options, output).go()


class _Run:
    """One run of the command."""

    def __init__(self, options: _Options, output: Output) -> None:
        self._options = options
        self._output = output
        self._kernel = KernelSymbols()
        self._host = Host.this()
        self._target: Optional[Target] = None
        self._cgroup: Optional[Cgroup] = None
        self._watch = HoldWatch()

    def go(self) -> None:
        """Look, once or repeatedly, and print."""
        options = self._options
        if options.pid is not None:
            target.check_process(options.pid)
            self._target = Target(options.pid, target.comm_of(options.pid))
        sampler = HolderSampler(btf=options.btf, cgroup=options.cgroup, container=options.container)
        with interruptible() as stop_fd, sampler:
            self._cgroup = sampler.cgroup
            if options.longer_than_ns is None:
                self._look_once(sampler)
            elif options.watch is None:
                self._look_twice(sampler, stop_fd, options.longer_than_ns)
            else:
                self._look_on(sampler, stop_fd, options.watch)
        if self._kernel.note:
            self._say(f"corelock: {self._kernel.note}")

    def _look_once(self, sampler: HolderSampler) -> None:
        snapshot = self._snapshot(sampler)
        if snapshot is not None:
            self._print(snapshot, [SeenLock(lock, 0, 1, None) for lock in snapshot.locks])

    def _look_twice(self, sampler: HolderSampler, stop_fd: int, apart_ns: int) -> None:
        first = self._snapshot(sampler)
        if first is None:
            return
        self._watch.add(first)
        # From the end of the first look on, so that no lock is seen for a shorter time.
        if _stopped(stop_fd, time.monotonic() + apart_ns / 1e9):
            return
        second = self._snapshot(sampler)
        if second is not None:
            self._print(second, self._long_held(second))

    def _look_on(self, sampler: HolderSampler, stop_fd: int, every_s: float) -> None:
        lifetime = CgroupLifetime(self._cgroup) if self._cgroup else Lifetime(None)
        with closing(lifetime):
            self._look_while(lifetime, sampler, stop_fd, every_s)

    def _look_while(
        self, lifetime: Lifetime, sampler: HolderSampler, stop_fd: int, every_s: float
    ) -> None:
        what = "all processes"
        if self._target is not None:
            what = f"{self._target.comm}[{self._target.pid}]"
        elif self._cgroup is not None:
            what = cgroup_label(self._cgroup)
        self._say(f"Watching mmap_lock of {what}. Ctrl-C to end.")
        while True:
            began = time.monotonic()
            snapshot = self._snapshot(sampler)
            if snapshot is None:
                return
            held = self._long_held(snapshot)
            if held or self._options.json:
                self._print(snapshot, held)
            if _stopped(stop_fd, began + every_s):
                return
            if lifetime.is_gone():
                self._say(f"{what} has been removed.")
                return

    def _snapshot(self, sampler: HolderSampler) -> Optional[HoldersSnapshot]:
        """None, and said, when the process has gone."""
        options, wanted = self._options, self._target
        for _ in range(_TRIES):
            snapshot = sampler.snapshot(options.pid, waiters=options.waiters)
            if wanted is not None and snapshot.host_pid:
                self._target = replace(wanted, host_pid=snapshot.host_pid)
            if wanted is None or snapshot.mms:
                return snapshot
            # In the middle of an exec or of its exit it has no address space for a moment.
            try:
                target.check_process(wanted.pid)
            except NoSuchTarget:
                self._say(f"{wanted.comm}[{wanted.pid}] has exited.")
                return None
            time.sleep(_RETRY_S)
        raise NoSuchTarget(
            f"{options.pid} lives, but this kernel does not show it to BPF iterators",
            "A policy hides it: nothing can be said of its lock.",
        )

    def _long_held(self, snapshot: HoldersSnapshot) -> list[SeenLock]:
        least_ns = self._options.longer_than_ns or 0
        return [
            seen
            for seen in self._watch.add(snapshot)
            if seen.same_hold is not None and seen.held_ns >= least_ns
        ]

    def _print(self, snapshot: HoldersSnapshot, locks: list[SeenLock]) -> None:
        options = self._options
        report = HoldersReport(
            self._host,
            self._target,
            snapshot,
            tuple(locks),
            options.longer_than_ns,
            self._symbols([seen.lock for seen in locks]),
            self._cgroup,
        )
        with self._output.writing() as stream:
            if options.json:
                from corelock.export.holders import write_holders_json

                write_holders_json(stream, report)
                return
            from corelock.render.holders import render_holders

            if options.watch:
                stream.write(f"--- {time.strftime('%H:%M:%S')} ---\n")
            render_holders(report, stream)
            if options.watch:
                stream.write("\n")

    def _symbols(self, locks: list[LockState]) -> dict[tuple[int, ...], tuple[Frame, ...]]:
        threads = [lock.holder.thread for lock in locks]
        threads += [waiter.thread for lock in locks for waiter in lock.waiters]
        stacks = {thread.kernel_stack for thread in threads if thread is not None}
        return {stack: resolve_kernel_stack(stack, self._kernel) for stack in stacks}

    def _say(self, text: str) -> None:
        if not self._options.quiet:
            say(text)


def _stopped(stop_fd: int, until: float) -> bool:
    """Wait; whether Ctrl-C or SIGTERM came before the moment ``until``."""
    poll = select.poll()
    poll.register(stop_fd, select.POLLIN)
    while True:
        left = until - time.monotonic()
        if poll.poll(max(0.0, min(left, 3600.0)) * 1000):
            return True
        if left <= 0:
            return False
