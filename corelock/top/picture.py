"""What is known at one refresh, and who reads it off the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from corelock.activity import Activity, WaitBlame
from corelock.locks import SeenLock
from corelock.model import ResolvedSlowEvent


@dataclass(frozen=True)
class WorstWait:
    """A long wait with its stacks, whom it was due to, and a hold of the first of these.

    ``blame`` None: it was not asked for, as that costs too much just now.
    """

    wait: ResolvedSlowEvent
    blame: Optional[WaitBlame]
    hold: Optional[ResolvedSlowEvent]


@dataclass(frozen=True)
class Locks:
    """A look at the locks themselves: those held, of ``mms`` that were looked at."""

    held: tuple[SeenLock, ...]
    mms: int


@dataclass(frozen=True)
class Picture:
    """One refresh. ``locks`` is None while nobody looks at them; ``ended`` says why it is the last.

    ``taken_ns`` is when it was made, ``running_ns`` how long tracing went on till then,
    ``clock`` the time of day. ``losses`` are of the whole run. ``worst`` None: no wait
    was as long as ``least_wait_ns`` lately.
    """

    clock: str
    taken_ns: int
    running_ns: int
    activity: Activity
    losses: dict[str, int]
    worst: Optional[WorstWait]
    least_wait_ns: int
    locks: Optional[Locks] = None
    problem: str = ""
    ended: str = ""

    @cached_property
    def several(self) -> bool:
        """Whether more than one process's lock was taken."""
        return len({(each.mm_host_pid, each.mm_comm) for each in self.activity.threads}) > 1
