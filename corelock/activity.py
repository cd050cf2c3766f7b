"""What is being counted, as frozen values: what :meth:`corelock.Tracer.activity` returns.

Beside :mod:`corelock.model`, not in it, so that plain tracing does not pay for it.
Times are as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.blame import Charge
from corelock.model import Mode, SlowEvent


class Active(NamedTuple):
    """What some rows counted between two looks: those of a thread, or of an operation and mode.

    ``key`` is the same for the same thread and address space, or operation and mode, at
    every look. ``wait_p99_ns`` and ``hold_p99_ns`` are of this time alone, None if nothing
    ended in it. The names are as in :class:`~corelock.model.Row`; what the rows do not have
    in common is that of one of them.
    """

    key: tuple[object, ...]
    waits: int
    wait_ns: int
    wait_p99_ns: Optional[int]
    holds: int
    hold_ns: int
    hold_p99_ns: Optional[int]
    mm_pid: int
    mm_host_pid: int
    mm_comm: str
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    comm: str
    mode: Mode
    operation: str

    @property
    def foreign(self) -> bool:
        """Whether the thread belongs to another process than the address space."""
        return self.mm_host_pid not in (0, self.host_pid)


@dataclass(frozen=True)
class Activity:
    """What was counted since the look before this one, or since the start.

    ``whole`` is all of it, None if there was nothing.
    """

    start_ns: int
    duration_ns: int
    whole: Optional[Active]
    threads: tuple[Active, ...]
    operations: tuple[Active, ...]


@dataclass(frozen=True)
class WaitBlame:
    """Whose holds a wait was due to, the largest part first.

    ``exact`` says that the charges are of this wait alone, and at least half of it. Else they are
    of all waits so far of its thread, operation and mode. ``wait_ns`` is how long it was, or all
    those together; what the charges leave of that is others' and unknown.
    ``holder_example`` is a hold of the first of them with its stacks, if one was sent.
    """

    charges: tuple[Charge, ...]
    exact: bool
    wait_ns: int
    holder_example: Optional[SlowEvent]
