"""mmap_locks as they were found, as frozen values: what :func:`corelock.holders` returns.

Beside :mod:`corelock.model`, not in it, so that tracing does not pay for it.
Times are as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

from corelock.model import Cgroup, Frame, Host, Mode, Shown, Target

#: How far the name of a lock's holder can be trusted; see :class:`Holder`.
Certainty = Literal["owner", "hint", "gone", "not-visible", "unknown"]


@dataclass(frozen=True)
class Process:
    """A process, by pid and name. ``host_pid`` is its pid in the initial pid namespace."""

    __slots__ = ("pid", "comm", "host_pid")
    pid: int
    comm: str
    host_pid: int


@dataclass(frozen=True)
class LockThread:
    """A thread that holds a lock or waits for it, and what it is doing.

    ``start_ns`` tells apart what reuses a tid. ``kernel_stack`` are addresses,
    innermost first, taken while it held or waited; it is empty when the thread
    was ``running`` on a CPU (a stack can be taken of one that sleeps only), or
    had gone on before it could be taken. ``host_pid`` and ``host_tid`` are those of the
    initial pid namespace.
    """

    __slots__ = (
        "pid", "tid", "host_pid", "host_tid", "comm", "start_ns", "operation", "running",
        "kernel_stack",
    )  # fmt: skip
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    comm: str
    start_ns: int
    operation: str
    running: bool
    kernel_stack: tuple[int, ...]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as far as its words say. ``certainty`` is

    - ``owner``: the lock names the writer inside; exact.
    - ``hint``: the lock names the last reader that came. It, or others that came
      before it and are not named, are inside.
    - ``gone``: as ``owner`` or ``hint``, but no living thread has that address
      any more, so ``thread`` is None.
    - ``not-visible``: likewise, but it is not known whether it has gone: only the
      threads of the caller's pid namespace can be seen.
    - ``unknown``: the lock names nobody; ``thread`` is None.
    """

    __slots__ = ("thread", "certainty")
    thread: Optional[LockThread]
    certainty: Certainty


@dataclass(frozen=True)
class Waiter:
    """A place in a lock's queue.

    ``thread`` is None when it had gone before it was named, or is outside of the
    caller's pid namespace.
    """

    __slots__ = ("thread", "mode")
    thread: Optional[LockThread]
    mode: Mode


@dataclass(frozen=True)
class LockState:
    """One address space's mmap_lock at ``taken_ns``: held, or waited for.

    ``processes`` are all that live in the address space (more than one after
    vfork or clone(CLONE_VM)). ``mode`` is how it is held; None when it was just
    let go and the first waiter has not taken it. ``readers`` counts those
    inside for reading. ``waiters``, if they were asked for, are the first 64 in
    the order of the queue; ``waiter_count`` counts all, up to 1024
    (``waiters_counted`` False: there are more). ``consistent`` False: it
    changed whenever it was read, so that parts of it may be of different
    moments. ``sequence`` changes with every write hold (None: not in this
    kernel). ``mm_key`` is the same as long as the address space lives.
    """

    __slots__ = (
        "mm_key", "taken_ns", "processes", "mode", "holder", "readers", "waiters",
        "waiter_count", "waiters_counted", "consistent", "sequence",
    )  # fmt: skip
    mm_key: int
    taken_ns: int
    processes: tuple[Process, ...]
    mode: Optional[Mode]
    holder: Holder
    readers: int
    waiters: tuple[Waiter, ...]
    waiter_count: int
    waiters_counted: bool
    consistent: bool
    sequence: Optional[int]

    @property
    def foreign(self) -> bool:
        """Whether its holder is known and a thread of another process."""
        thread = self.holder.thread
        return thread is not None and thread.pid not in {process.pid for process in self.processes}


@dataclass(frozen=True)
class HoldersSnapshot(Shown):
    """The locks that were held or waited for, one for each address space.

    ``mms`` address spaces were looked at, by way of ``tasks`` threads;
    ``self_mms`` (the caller's own) were not. ``not_kept`` counts locks and
    threads that stay without names, as a table was full. ``whole_host`` False: only
    the threads of the caller's pid namespace could be met. ``host_pid`` is that of
    the process that was asked for; 0: none, or it was not there.
    """

    taken_ns: int
    locks: tuple[LockState, ...]
    mms: int
    tasks: int
    self_mms: int
    not_kept: int
    whole_host: bool
    host_pid: int


@dataclass(frozen=True)
class SeenLock:
    """A lock that was seen held, in one sample or in several on end.

    ``held_ns`` lies between the first and the last sample that saw it, so it
    was held for longer. ``same_hold`` says why these are thought to be one
    hold: ``exact`` (the kernel numbers write holds, and the number stayed),
    ``likely`` (the same holder's name each time; it may have let go and come
    back), None (seen once).
    """

    __slots__ = ("lock", "held_ns", "samples", "same_hold")
    lock: LockState
    held_ns: int
    samples: int
    same_hold: Optional[Literal["exact", "likely"]]


@dataclass(frozen=True)
class HoldersReport:
    """Everything one look has to say; what renderers and exporters take.

    ``symbols`` has the frames of each kernel stack in ``locks``. ``longer_than_ns``
    is how long locks must have been seen held to be here, None: not at all.
    """

    host: Host
    target: Optional[Target]
    snapshot: HoldersSnapshot
    locks: tuple[SeenLock, ...]
    longer_than_ns: Optional[int]
    symbols: dict[tuple[int, ...], tuple[Frame, ...]]
    cgroup: Optional[Cgroup] = None
