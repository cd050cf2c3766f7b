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
from corelock.top.allowance import Allowance
from corelock.top.picture import Locks, Picture, WorstWait
from corelock.top.worst import LongestLately
from corelock.tracer import DEFAULT_SLOW_NS, Tracer

#: Of the CPU time, what asking whom waits were due to may take: the more charges, the dearer.
_ASKING_SHARE = 0.003
_REST_S = 0.1
#: Pictures at which what is not yet known of the worst wait is tried again.
_TRIES = 10


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
        self._waits = LongestLately("wait")
        self._holds = LongestLately("hold")
        self._worst: Optional[WorstWait] = None
        self._blamed: Optional[tuple[SlowEvent, WaitBlame]] = None
        self._asking = Allowance(_ASKING_SHARE)
        self._tries = 0

    def take(self) -> None:
        """Take what has come out of the ring, and see where the longest wait's code is mapped."""
        waits, holds = self._waits, self._holds
        events = list(self._tracer.slow_events(waits.least_ns, holds.least_ns, longest_only=True))
        wait = waits.add(events)
        holds.add(events)
        if wait is not None:
            self._symbols.observe(wait)
            # What it was due to is known until its thread waits for the same holders again.
            self._ask(wait)

    def rest(self) -> None:
        """Let more come, so that a storm of slow waits is taken in few goes."""
        time.sleep(_REST_S)

    def _ask(self, wait: SlowEvent, *, last: bool = False) -> None:
        """Whom it was due to, unless the last time that was asked cost too much to ask again.

        ``last``: it costs nobody anything any more.
        """
        if last or self._asking.is_left():
            began_ns = time.thread_time_ns()
            self._blamed = wait, self._tracer.blame_of(wait)
            self._asking.spend(time.thread_time_ns() - began_ns)

    def picture(self, *, look: bool, ended: str = "") -> Picture:
        """What came since the last one; ``look``: at the locks, too."""
        self.take()
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
            self._worst_at(now_ns, last=bool(ended)),
            max(self._waits.least_ns, DEFAULT_SLOW_NS), locks, problem, ended,
        )  # fmt: skip

    def _worst_at(self, now_ns: int, *, last: bool) -> Optional[WorstWait]:
        wait = self._waits.at(now_ns)
        self._holds.at(now_ns)
        # Tells the kernel, too, which are wanted now.
        self.take()
        worst = self._worst
        if wait is None:
            self._worst = None
        elif worst is None or worst.wait.event is not wait:
            self._tries = 0
            self._worst = self._known_of(wait, last)
        elif (last or self._tries < _TRIES) and not _is_whole(worst):
            self._tries += 1
            self._worst = self._known_of(wait, last)
        return self._worst

    def _known_of(self, wait: SlowEvent, last: bool) -> WorstWait:
        if self._blamed is None or self._blamed[0] is not wait:
            self._ask(wait, last=last)
        blame = None
        if self._blamed is not None and self._blamed[0] is wait:
            blame = self._blamed[1]
        example = None if blame is None else blame.holder_example
        hold = None if example is None else self._symbols.resolve(example)
        return WorstWait(self._symbols.resolve(wait), blame, hold)


def _is_whole(worst: WorstWait) -> bool:
    """Whether there is nothing about it that could not be asked, or read for a held lock."""
    stacks = [each.user_stack for each in (worst.wait, worst.hold) if each is not None]
    unknown = any(frame.module is None for stack in stacks for frame in stack)
    return worst.blame is not None and not unknown
