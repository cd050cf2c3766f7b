"""Takes pictures of a tracer, in whichever thread; knows nothing of the screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Optional

from corelock.activity import WaitBlame
from corelock.errors import CorelockError
from corelock.locks import HoldersSnapshot, LockState
from corelock.model import SlowEvent
from corelock.sampler import HolderSampler, HoldWatch
from corelock.symbolize import Symbolizer
from corelock.top.picture import Locks, Picture, WorstWait
from corelock.top.worst import LongestLately
from corelock.tracer import MAX_SLOW_NS, Tracer

#: CPU time for asking at once what each new worst wait was due to, a picture.
_PROMPT_NS = 3_000_000


class LockLooks:
    """Looks at the locks of what is traced, from the first time that somebody wants to see them.

    Args:
        sampler: of all, or of the cgroup's processes.
        pid: look at this process's alone.
        wanted: which locks to show, by their processes.
    """

    def __init__(
        self, sampler: HolderSampler, pid: Optional[int], wanted: Callable[[LockState], bool]
    ) -> None:
        self._sampler = sampler
        self._pid = pid
        self._wanted = wanted
        self._watch = HoldWatch()
        self._open = False

    def look(self) -> Locks:
        """The locks that are held now.

        Raises:
            CorelockError: this host does not let us look.
        """
        if not self._open:
            self._sampler.__enter__()
            self._open = True
        snapshot: HoldersSnapshot = self._sampler.snapshot(self._pid, waiters=False)
        held = self._watch.add(snapshot)
        return Locks(tuple(seen for seen in held if self._wanted(seen.lock)), snapshot.mms)

    def close(self) -> None:
        """Free what looking needed."""
        self._sampler.close()


class Feed:
    """Gathers what pictures are made of. For one thread."""

    def __init__(self, tracer: Tracer, symbols: Symbolizer, locks: LockLooks) -> None:
        self._tracer = tracer
        self._symbols = symbols
        self._locks = locks
        self._longest = LongestLately()
        self._worst: Optional[WorstWait] = None
        self._blamed: Optional[tuple[SlowEvent, WaitBlame]] = None
        self._spent_ns = 0  # on asking for blame since the last picture

    def take(self) -> None:
        """Take what has come out of the ring, and see where a new worst wait's code is mapped."""
        # No holds: those in somebody's way are sent as examples all the same.
        events = self._tracer.slow_events(self._longest.least_ns, MAX_SLOW_NS)
        longer = self._longest.add(events)
        if longer is None:
            return
        self._symbols.observe(longer)
        # What it was due to is known until its thread waits for the same holders again.
        if self._spent_ns < _PROMPT_NS:
            before_ns = time.thread_time_ns()
            self._blamed = longer, self._tracer.blame_of(longer)
            self._spent_ns += time.thread_time_ns() - before_ns

    def picture(self, *, look: bool, ended: str = "") -> Picture:
        """What came since the last one; ``look``: at the locks, too."""
        self.take()
        self._spent_ns = 0
        tracer = self._tracer
        activity = tracer.activity()
        now_ns = activity.start_ns + activity.duration_ns
        locks, problem = None, ""
        if look:
            try:
                locks = self._locks.look()
            except CorelockError as error:
                problem = str(error).splitlines()[0]
        return Picture(
            time.strftime("%H:%M:%S"), now_ns, tracer.duration_ns, activity, tracer.losses(),
            self._worst_at(now_ns), locks, problem, ended,
        )  # fmt: skip

    def _worst_at(self, now_ns: int) -> Optional[WorstWait]:
        wait = self._longest.at(now_ns)
        if wait is None:
            self._worst = None
        elif self._worst is None or self._worst.wait.event is not wait:
            self._worst = self._resolved(wait)
        # Tells the kernel, too, which waits are wanted now.
        self.take()
        return self._worst

    def _resolved(self, wait: SlowEvent) -> WorstWait:
        of, blame = self._blamed if self._blamed is not None else (None, None)
        if of is not wait or blame is None:
            blame = self._tracer.blame_of(wait)
        example = blame.holder_example
        hold = None if example is None else self._symbols.resolve(example)
        return WorstWait(self._symbols.resolve(wait), blame, hold)
