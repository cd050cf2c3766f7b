"""``corelock top``."""

from __future__ import annotations

import locale
import math
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Optional

import click

from corelock.cli import say, unheard
from corelock.cli.options import above_zero, screen_options, target_options
from corelock.cli.run import Watch
from corelock.cli.traced import TracedOptions, TracedRun
from corelock.extras import needs
from corelock.model import Accounting
from corelock.symbolize import Symbolizer
from corelock.top.allowance import Allowance
from corelock.tracer import DEFAULT_SLOW_NS, Tracer

if TYPE_CHECKING:
    from corelock.locks import LockState
    from corelock.top.app import TopApp
    from corelock.top.feed import Feed, LockLooks

_EVERY_S = 1.0
#: Of a core, what asking may take whether mappings can be read without waiting for a lock.
_PROBING_SHARE = 0.002
_MOST_PROBE_NS = 5_000_000


@click.command("top")
@target_options(tid=False)
@click.option(
    "-i",
    "--interval",
    type=float,
    callback=above_zero,
    metavar="SEC",
    help=f"Refresh so often (default: {_EVERY_S:g}).",
)
@screen_options
def command(**given: object) -> None:
    """Waits for and holds of mmap_lock as they happen: threads, operations, holders.

    Keys are at the bottom of the screen; docs/top.md says more. Ends with q, Ctrl-C or
    --duration; when the target exits, the last picture stays until then. Where stdout,
    stdin or stderr is no terminal, prints intervals as hold-times -i does.
    """
    options = TracedOptions(tid=None, output=None, command=(), **given)  # type: ignore[arg-type]
    if options.interval is None:
        every_s = min(_EVERY_S, options.duration or _EVERY_S)
        options = replace(options, interval=every_s)
    options.check(tid=False, command=False)
    obstacle = _no_screen()
    if obstacle is not None:
        _print_intervals(options, obstacle)
        return
    with needs("top", "textual"):
        import textual  # noqa: F401
    tracer = options.tracer(slow_ns=DEFAULT_SLOW_NS, blame=True, examples=False)
    _Run(options, tracer).go()


def _no_screen() -> Optional[str]:
    """Why there can be none, or None."""
    for name in "stdout", "stdin", "stderr":
        stream = getattr(sys, name)
        if stream is None or not stream.isatty():
            return f"{name} is no terminal"
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        return "the terminal (TERM) has no screen"
    return None


def _print_intervals(options: TracedOptions, obstacle: str) -> None:
    from corelock.cli.hold_times import HoldTimesOptions, hold_times
    from corelock.render.grouping import BY_FIELDS

    if not options.quiet:
        say(f"corelock: plain intervals, as {obstacle}")
    hold_times(
        HoldTimesOptions(
            **vars(options), top=20, sort="hold", by=BY_FIELDS, slow_ns=DEFAULT_SLOW_NS,
            stacks=3, hist=False, blame=False, json=False, csv=False,
        )
    )  # fmt: skip


class _Run(TracedRun):
    """One run with a screen: it is traced in a thread, and the screen has the main one."""

    def __init__(self, options: TracedOptions, tracer: Tracer) -> None:
        super().__init__(options, tracer)
        self.symbols = Symbolizer(lock_is_held=self._may_be_waited_for)
        self._options = options
        self._probing = Allowance(_PROBING_SHARE)
        self._app: Optional[TopApp] = None
        self._feed: Optional[Feed] = None
        self._failure: Optional[BaseException] = None
        self._pids: set[int] = set()

    def _may_be_waited_for(self, pid: int) -> bool:
        """As always; of a lock that was hardly ever free, so often only as costs little."""
        if not self._probing.is_left():
            return True
        began_ns = time.thread_time_ns()
        held = self._probe.may_be_waited_for(pid)
        if held:
            # The first time it also loads a program, which tells nothing of the next.
            self._probing.spend(min(time.thread_time_ns() - began_ns, _MOST_PROBE_NS))
        return held

    def take(self) -> None:
        """Keep the longest wait."""
        if self._feed is not None:
            self._feed.take()
            self._feed.rest()

    def end_interval(self, number: int) -> None:
        """Show what came since the last one; nothing, when the screen has gone."""
        self._show(ended="")

    def finish(self, accounting: Accounting) -> None:
        """Everything has been shown."""

    def _watch(self, watch: Watch) -> int:
        """Until somebody leaves the screen, or the run is over, but not by the target's end.

        Raises:
            CorelockError: the tracing could not go on.
        """
        from corelock.top.app import TopApp
        from corelock.top.board import Board
        from corelock.top.feed import Feed

        with closing(self._locks()) as locks:
            self._feed = Feed(self.tracer, self.symbols, locks)
            every_s = self._options.interval or _EVERY_S
            board = Board(self.what, every_s, ascii_only=not _is_utf8())
            tracing = Thread(target=self._trace, args=(watch,), name="corelock-top")
            app = self._app = TopApp(board, tracing.start)
            left, leave = os.pipe()
            watch.end_on(left)
            watch.end_on_hangup(sys.stdin.fileno())
            try:
                app.run()
            finally:
                self._app = None
                # Where the screen is drawn: the terminal may have gone.
                with unheard():
                    sys.stderr.flush()
                os.close(leave)
                if tracing.ident is not None:  # else the screen could not be had
                    tracing.join()
                os.close(left)
        if self._failure is not None:
            raise self._failure
        if app.return_code:
            raise click.exceptions.Exit(app.return_code)
        return 0

    def _trace(self, watch: Watch) -> None:
        """What the other commands do in the main thread."""
        from corelock.top.app import Leave

        end = time.monotonic() + (self._options.duration or math.inf)
        try:
            super()._watch(watch)
            if watch.ended_by == "target_exit":
                self.tracer.stop()
                self._show(ended=f"{self.what} has exited")
                watch.forget_target()
                watch.until(end)
        except BaseException as error:
            self._failure = error
        app = self._app
        if app is not None:
            app.tell(Leave())

    def _show(self, ended: str) -> None:
        from corelock.top.app import NewPicture

        app, feed = self._app, self._feed
        if app is None or feed is None:
            return
        picture = feed.picture(look=app.board.view == "holders" and not ended, ended=ended)
        self._pids.update(each.mm_pid for each in picture.activity.threads)
        app.tell(NewPicture(picture))

    def _locks(self) -> LockLooks:
        from corelock.sampler import HolderSampler
        from corelock.top.feed import LockLooks

        options = self._options
        sampler = HolderSampler(btf=options.btf, cgroup=options.cgroup, container=options.container)
        return LockLooks(sampler, None if options.follow else options.pid, self._is_traced)

    def _is_traced(self, lock: LockState) -> bool:
        options = self._options
        if options.comm is not None:
            return any(process.comm == options.comm for process in lock.processes)
        if options.follow:
            pids = {options.pid, *self._pids}
            return any(process.pid in pids for process in lock.processes)
        return True


def _is_utf8() -> bool:
    return locale.getpreferredencoding(False).upper().replace("-", "") == "UTF8"
