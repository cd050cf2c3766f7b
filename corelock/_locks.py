"""Turning what the library found of locks into :mod:`corelock.locks`; belongs to ``_native``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from corelock.locks import (
    Certainty,
    Holder,
    HoldersSnapshot,
    LockState,
    LockThread,
    Process,
    Waiter,
)
from corelock.model import Mode
from corelock.symbolize.syscalls import operation_name

_MODES: tuple[Mode, Mode] = ("read", "write")


def convert(
    held: Any, waiters: bool, flags: Any, name: Callable[[bytes], str], machine: str
) -> HoldersSnapshot:
    """A ``struct corelock_held`` as a snapshot.

    ``waiters`` says whether they were asked for; ``flags`` has the constants of
    the header; ``name`` makes text of a comm.
    """
    return _Converter(held, waiters, flags, name, machine).snapshot()


class _Converter:
    def __init__(
        self, held: Any, waiters: bool, flags: Any, name: Callable[[bytes], str], machine: str
    ) -> None:
        self._held = held
        self._most_waiters = flags.CORELOCK_NAMED_WAITERS if waiters else 0
        self._flags = flags
        self._name = name
        self._machine = machine
        self._tasks: dict[int, Any] = {}
        self._processes: dict[int, list[Process]] = {}
        for i in range(held.task_count):
            task = held.tasks_named[i]
            self._tasks[task.task] = task
            if task.mm:
                process = Process(task.pid, name(bytes(task.process_comm)), task.host_pid)
                self._processes.setdefault(task.mm, []).append(process)

    def snapshot(self) -> HoldersSnapshot:
        held = self._held
        locks = tuple(self._lock_state(held.locks[i]) for i in range(held.lock_count))
        return HoldersSnapshot(
            held.taken_ns,
            locks,
            held.mms,
            held.tasks,
            held.self_mms,
            held.not_kept,
            bool(held.whole_host),
            held.host_pid,
        )

    def _lock_state(self, lock: Any) -> LockState:
        flags = self._flags
        processes = self._processes.get(lock.mm, [])
        named = lock.waiters[0 : min(lock.waiter_count, self._most_waiters)]
        return LockState(
            mm_key=lock.mm,
            taken_ns=lock.taken_ns,
            processes=tuple(sorted(processes, key=lambda process: process.pid)),
            mode="write" if lock.write_held else "read" if lock.readers else None,
            holder=self._holder(lock),
            readers=lock.readers,
            waiters=tuple(self._waiter(waiter) for waiter in named),
            waiter_count=lock.waiter_count,
            waiters_counted=not lock.flags & flags.CORELOCK_LOCK_MORE_WAITERS,
            consistent=not lock.flags & flags.CORELOCK_LOCK_CHANGING,
            sequence=lock.sequence if lock.flags & flags.CORELOCK_LOCK_HAS_SEQUENCE else None,
        )

    def _waiter(self, waiter: Any) -> Waiter:
        return Waiter(
            self._thread(waiter.task, self._flags.CORELOCK_TASK_WAITS), _MODES[waiter.mode]
        )

    def _holder(self, lock: Any) -> Holder:
        flags = self._flags
        certainty: Certainty = "owner" if lock.writer else "hint"
        # A last reader may be doing something else by now: its stack tells that, too.
        still = flags.CORELOCK_TASK_HOLDS if lock.writer else flags.CORELOCK_TASK_NAMED
        address = lock.writer or lock.last_reader
        queue = lock.waiters[0 : min(lock.waiter_count, self._flags.CORELOCK_NAMED_WAITERS)]
        # Who queues for the lock does not have it: as a reader it came before, and left.
        if not address or address in (waiter.task for waiter in queue):
            return Holder(None, "unknown")
        thread = self._thread(address, still)
        if thread is None:
            certainty = "gone" if self._held.whole_host else "not-visible"
        return Holder(thread, certainty)

    def _thread(self, address: int, still: int) -> Optional[LockThread]:
        """A named task; its stack only if it was ``still`` doing what it was named for."""
        task = self._tasks.get(address)
        if task is None or not task.flags & self._flags.CORELOCK_TASK_NAMED:
            return None
        comm = self._name(bytes(task.comm))
        stack = task.kernel_stack[0 : max(0, task.kernel_stack_bytes) // 8]
        return LockThread(
            pid=task.pid,
            tid=task.tid,
            host_pid=task.host_pid,
            host_tid=task.host_tid,
            comm=comm,
            start_ns=task.start_ns,
            operation=operation_name(task.operation, comm, self._machine),
            running=bool(task.flags & self._flags.CORELOCK_TASK_RUNNING),
            kernel_stack=tuple(stack) if task.flags & still else (),
        )
