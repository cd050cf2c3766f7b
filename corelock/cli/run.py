"""Driving a tracer from a terminal: signals, deadlines, the target's end, slow events."""

from __future__ import annotations

import heapq
import io
import itertools
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Optional, TextIO

import click

from corelock.cli import discard, say
from corelock.cli.lifetime import Lifetime
from corelock.errors import CorelockError
from corelock.model import SlowEvent
from corelock.outfile import OutFile, open_outfile
from corelock.tracer import Tracer

#: What can end a run before its deadline.
EndedBy = Literal["signal", "target_exit", "full"]

_LONGEST_POLL_S = 3600.0
#: How often a thread is looked after where its end makes no descriptor readable.
_LOOK_S = 1.0


@contextmanager
def showing_log(verbose: bool) -> Iterator[None]:
    """With ``-v``, the log of what fails within is shown."""
    try:
        yield
    except CorelockError as error:
        if verbose and error.log:
            say(error.log)
        raise


_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What comes within this time of the first was sent with it.
_ONE_SIGNAL_S = 0.1


@contextmanager
def interruptible() -> Iterator[int]:
    """A descriptor that turns readable at the first Ctrl-C, SIGTERM, or end of the terminal.

    A second one aborts, unless it is the same that was sent twice: `timeout` sends one to its
    child and to its group.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # nohup has the end of the terminal ignored.
    numbers = [n for n in _STOPS if n != signal.SIGHUP or signal.getsignal(n) == signal.SIG_DFL]

    first_s: Optional[float] = None

    def stop(number: int, frame: object) -> None:
        nonlocal first_s
        if first_s is None:
            first_s = time.monotonic()
        elif time.monotonic() - first_s > _ONE_SIGNAL_S:
            raise KeyboardInterrupt

    # Python's own handler writes there, in whichever thread the signal comes: `stop`
    # runs in the main thread only, which a signal to another does not wake.
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(reader)
        os.close(writer)


def is_stop(stop_fd: int) -> bool:
    """Whether what made the descriptor readable was one of these: all that have handlers do."""
    numbers = os.read(stop_fd, 4096)
    return any(number in numbers for number in _STOPS)


_Entry = tuple[int, int, SlowEvent]


class Slowest:
    """Keeps the ``size`` longest waits and holds, of the interval and of the whole run."""

    def __init__(self, size: int, seen: Callable[[SlowEvent], None]) -> None:
        self._size = size
        self._seen = seen
        self._order = itertools.count()
        self._interval: dict[str, list[_Entry]] = {"wait": [], "hold": []}
        self._whole: dict[str, list[_Entry]] = {"wait": [], "hold": []}

    def take(self, tracer: Tracer) -> None:
        """Take what has come; those too short are dropped before Python sees them."""
        for event in tracer.slow_events(self._least("wait"), self._least("hold")):
            self._seen(event)
            _keep(self._interval, self._size, (event.duration_ns, next(self._order), event))

    def _least(self, kind: str) -> int:
        kept = self._interval[kind]
        return kept[0][0] + 1 if kept and len(kept) == self._size else 0

    def end_interval(self, tracer: Tracer) -> list[SlowEvent]:
        """The longest since the last call: waits, then holds, the longest first."""
        self.take(tracer)
        ended = self._add_to_whole()
        # Tells the kernel, too, that shorter ones are wanted again.
        self.take(tracer)
        return _longest_first(ended)

    def whole(self, tracer: Tracer) -> list[SlowEvent]:
        """The longest of the run, in the same order."""
        self.take(tracer)
        self._add_to_whole()
        return _longest_first(self._whole)

    def _add_to_whole(self) -> dict[str, list[_Entry]]:
        """Close the interval; what it had."""
        ended, self._interval = self._interval, {"wait": [], "hold": []}
        for entries in ended.values():
            for entry in entries:
                _keep(self._whole, self._size, entry)
        return ended


def _keep(kept: dict[str, list[_Entry]], size: int, entry: _Entry) -> None:
    entries = kept[entry[2].kind]
    if len(entries) < size:
        heapq.heappush(entries, entry)
    else:
        heapq.heappushpop(entries, entry)


def _longest_first(kept: dict[str, list[_Entry]]) -> list[SlowEvent]:
    return [
        event
        for kind in ("wait", "hold")
        for _, _, event in sorted(kept[kind], key=lambda entry: (-entry[0], entry[1]))
    ]


class Watch:
    """Waits for whatever ends a run, or an interval of it."""

    def __init__(
        self, wake_fd: Optional[int], take: Callable[[], None], target: Lifetime, stop_fd: int
    ) -> None:
        self._take = take
        self._target = target
        self._wake_fd = wake_fd
        self._stop_fd = stop_fd
        #: What the run was ended by, None: by nothing yet, or its deadline.
        self.ended_by: Optional[EndedBy] = None
        self._poll = select.poll()
        self._poll.register(stop_fd, select.POLLIN)
        if wake_fd is not None:
            self._poll.register(wake_fd, select.POLLIN)
        self._longest_s = _LONGEST_POLL_S
        if target.fd is not None:
            self._poll.register(target.fd, select.POLLIN)
        elif target.id is not None:
            self._longest_s = _LOOK_S

    def end_on(self, fd: int) -> None:
        """The run also ends when this descriptor is readable, as by a signal."""
        self._poll.register(fd, select.POLLIN)

    def end_on_hangup(self, fd: int) -> None:
        """And when this terminal has gone: who has none to control it gets no signal."""
        self._poll.register(fd, 0)

    def forget_target(self) -> None:
        """Wait on for all else that ends a run, when the target has gone."""
        for fd in (self._wake_fd, self._target.fd):
            if fd is not None:
                self._poll.unregister(fd)
        self._target = Lifetime(None)
        self.ended_by = None

    @property
    def ended(self) -> bool:
        """Whether the run is over, other than by its deadline."""
        return self.ended_by is not None

    def intervals(self, step_s: float, longest_s: float, end: Callable[[int], None]) -> int:
        """Go on until the run ends, in so long at most; at each step call ``end(number)``.

        The number of the interval that the run ended in, for which it was not called.
        """
        tick = time.monotonic()
        deadline = tick + longest_s
        for number in itertools.count(1):
            # Ticks that went by while the last interval was printed are skipped.
            tick = max(tick + step_s, time.monotonic())
            self.until(min(tick, deadline))
            if self.ended or tick >= deadline:
                break
            end(number)
        return number

    def until(self, deadline: float) -> None:
        """Take what comes until ``deadline`` (monotonic seconds, or inf) or the run's end."""
        while not self.ended:
            left = max(0.0, deadline - time.monotonic())
            for fd, _ in self._poll.poll(min(left, self._longest_s) * 1000):
                if fd == self._wake_fd:
                    self._take()
                elif fd == self._target.fd:
                    self.ended_by = "target_exit"
                elif fd != self._stop_fd or is_stop(fd):
                    self.ended_by = "signal"
            if self._target.is_gone():
                self.ended_by = self.ended_by or "target_exit"
            if not left:
                return


def reap(pid: int) -> Optional[str]:
    """How a command that has ended failed, in words; None if it went well or still runs."""
    try:
        got, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if not got:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}" if code else None
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name of its own
        return f"was killed by signal {-code}"


class Output:
    """Where results go: stdout (``-o -``), or ``-o FILE``.

    A file is opened before anything is traced, and emptied only when there is
    something to say. A reader that has seen enough (SIGPIPE elsewhere) ends the
    command quietly.

    Raises:
        CorelockError: it cannot be written.
    """

    def __init__(self, path: Optional[str]) -> None:
        # As everywhere: the name of a stream, not of a file.
        self._path = path = None if path == "-" else path
        self._begun = False
        self._file: Optional[OutFile] = None
        self.stream = self._stdout() if path is None else self._open(path)

    def _stdout(self) -> TextIO:
        if sys.stdout is None:
            raise CorelockError("stdout is closed", "Name a file with -o.")
        # A name may be printable and still not be in the terminal's encoding.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return sys.stdout

    def _open(self, path: str) -> TextIO:
        self._file = open_outfile(path)
        return os.fdopen(self._file.fd, "w", encoding="utf-8")

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        """The stream to write a whole result to."""
        first, self._begun = not self._begun, True
        whole, regular = False, self._is_regular()
        try:
            if first and regular:
                self.stream.truncate(0)
            yield self.stream
            self.stream.flush()
            whole = True
        except OSError as error:
            discard(self.stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise click.exceptions.Exit(0) from None
            name = self._path or "stdout"
            raise CorelockError(
                f"cannot write {name}: {error.strerror}",
                "Make room there, or name another file (-o).",
            ) from error
        finally:
            # A part of a file looks like a file.
            if first and not whole and regular and self._file is not None:
                self._file.remove()

    def _is_regular(self) -> bool:
        return self._file is not None and stat.S_ISREG(os.fstat(self._file.fd).st_mode)

    def close(self) -> None:
        """Close the file, if it is one; leave no empty one behind."""
        if self._file is None:
            return
        self.stream.close()
        if self._file.is_new and not self._begun:
            self._file.remove()
        self._file.close()
