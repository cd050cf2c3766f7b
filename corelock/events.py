"""Events of probes, and where they went: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from corelock._native.convert import UserStack
from corelock.model import Program, UserContext


class Event(NamedTuple):
    """One event: a hit of a probe.

    ``probe`` is its label, ``time_ns`` on CLOCK_MONOTONIC. ``values`` are numbers and texts by
    name, in the order in which they were asked for; None is one that could not be read
    (``unread`` names it) or a text whose address is 0. ``cut`` names texts that are as long as
    there is room for, and may go on. Pids, tids and stacks are as of
    :class:`~corelock.model.SlowEvent`; a stack that was not asked for is empty. ``operation``,
    the system call it was in, is known with user stacks alone.
    """

    probe: str
    time_ns: int
    cpu: int
    comm: str
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    values: Mapping[str, Union[int, str, None]]
    unread: tuple[str, ...]
    cut: tuple[str, ...]
    kernel_stack: tuple[int, ...]
    operation: str
    user: UserStack
    stack_failed: bool

    # What corelock.symbolize needs besides; an event takes no time.

    @property
    def start_ns(self) -> int:
        """When it was."""
        return self.time_ns

    @property
    def duration_ns(self) -> int:
        """None."""
        return 0

    @property
    def user_stack(self) -> tuple[int, ...]:
        """Addresses, as frame pointers have them."""
        return self.user.addresses

    @property
    def user_stack_full(self) -> bool:
        """Whether that was cut at the depth limit."""
        return self.user.full

    @property
    def user_context(self) -> Optional[UserContext]:
        """What callers without frame pointers are found by."""
        return self.user.context

    @property
    def program(self) -> Optional[Program]:
        """What the thread ran; None if no user stack was taken."""
        return self.user.program


@dataclass(frozen=True)
class EventAccounting:
    """Where every hit went.

    ``hits`` counts those of the process and CPU that are traced. Each was ``taken`` by the
    reader, ``filtered`` (the filter did not accept it), or ``ring_full``: lost, by probe. While
    tracing goes on, some wait in the ring. ``self_hits`` are the own process's and in no other
    number; ``missed`` were kept from the programs by the kernel, as one was running already.
    ``unread`` counts memory that a value or filter needed and that was not there.
    ``main_thread_ended``: as of :class:`~corelock.counter.Hits`.
    """

    hits: int
    taken: int
    filtered: int
    ring_full: Mapping[str, int]
    missed: int
    unread: int
    self_hits: int
    main_thread_ended: bool

    @property
    def unaccounted(self) -> int:
        """0 once all has been taken, or the numbers cannot be trusted."""
        return self.hits - self.taken - self.filtered - sum(self.ring_full.values())

    @property
    def losses(self) -> dict[str, int]:
        """What is missing, by cause; causes of nothing are left out."""
        losses = {
            "ring_full": sum(self.ring_full.values()),
            "missed": self.missed,
            "unread": self.unread,
            "unaccounted": self.unaccounted,
            "main_thread_ended": int(self.main_thread_ended),
        }
        return {cause: count for cause, count in losses.items() if count}
