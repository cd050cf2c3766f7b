"""What the records of the iterators are taken to say of a lock."""

from __future__ import annotations

import pytest

from corelock._ffi import library
from corelock._locks import convert
from corelock.locks import Holder, LockState

ffi, lib = library()


def lock_state(*, last_reader: int, queued: int) -> LockState:
    """A lock held for reading, with one task in its queue."""
    lock = ffi.new("struct corelock_lock *", {"mm": 1, "readers": 1, "last_reader": last_reader})
    lock.waiter_count = 1
    lock.waiters[0].task = queued
    lock.waiters[0].mode = lib.CORELOCK_MODE_WRITE
    tasks = ffi.new("struct corelock_lock_task[]", 2)
    for task, address in zip(tasks, (last_reader, queued)):
        task.task, task.tid, task.flags = address, address, lib.CORELOCK_TASK_NAMED
    held = ffi.new("struct corelock_held *")
    held.locks, held.lock_count = lock, 1
    held.tasks_named, held.task_count = tasks, 2
    (state,) = convert(held, True, lib, lambda raw: "", "x86_64").locks
    return state


def test_the_last_reader_is_a_hint() -> None:
    holder = lock_state(last_reader=7, queued=8).holder
    assert holder.certainty == "hint"
    assert holder.thread is not None and holder.thread.tid == 7


@pytest.mark.parametrize("task", [7, 8])
def test_who_is_queued_is_not_inside(task: int) -> None:
    """It read before: as before Linux 6.4, where every fault takes the lock."""
    assert lock_state(last_reader=task, queued=task).holder == Holder(None, "unknown")
