"""Who holds a lock now: on workloads whose holder is known, and against the witness."""

from __future__ import annotations

import mmap
import os
import re
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from corelock import HolderSampler, HoldersSnapshot, LockState, NoSuchTarget, holders
from corelock.symbolize.kernel import KernelSymbols, resolve_kernel_stack
from tests.cli.command import eventually
from tests.witness import Event, Ftrace
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

_ENOUGH = 30


@pytest.fixture()
def sampler() -> Iterator[HolderSampler]:
    with HolderSampler() as open_sampler:
        yield open_sampler


def lock_of(pid: int, snapshot: HoldersSnapshot) -> LockState:
    """The one lock that belongs to a process."""
    [lock] = [each for each in snapshot.locks if pid in {p.pid for p in each.processes}]
    return lock


def queue(sampler: HolderSampler, chain: Workload, length: int) -> LockState:
    """Let the next thread of a ``lock_chain`` ask; the lock when it is in the queue."""
    chain.go()
    eventually(lambda: lock_of(chain.pid, sampler.snapshot()).waiter_count == length)
    return lock_of(chain.pid, sampler.snapshot())


def function_names(stack: tuple[int, ...]) -> list[str]:
    return [frame.name or "" for frame in resolve_kernel_stack(stack, KernelSymbols())]


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_chain_of_waiters_is_listed_in_its_order(sampler: HolderSampler, mode: str) -> None:
    order = "wrwrrw"
    with Workload("lock_chain", mode, order) as chain:
        [holder] = chain.extra
        chain.run()
        for length in range(1, len(order) + 1):
            lock = queue(sampler, chain, length)
            assert lock.mode == mode
            assert lock.consistent
            assert [p.pid for p in lock.processes] == [chain.pid]
            assert [waiter.mode[0] for waiter in lock.waiters] == list(order[:length])
            names = [waiter.thread.comm for waiter in lock.waiters if waiter.thread]
            assert names == [f"chain-{n}" for n in range(1, length + 1)]
            assert lock.holder.thread is not None
            assert lock.holder.thread.tid == holder
        assert lock.holder.certainty == ("owner" if mode == "write" else "hint")
        assert lock.readers == (0 if mode == "write" else 1)
        assert lock.holder.thread.operation == ("mmap" if mode == "write" else "pread64")
        # Both sleep, and yet their stacks are there.
        function = "fuse_file_mmap" if mode == "write" else "mem_rw"
        assert function in function_names(lock.holder.thread.kernel_stack)
        for waiter in lock.waiters:
            assert waiter.thread is not None
            syscall = "mprotect" if waiter.mode == "write" else "mincore"
            assert waiter.thread.operation == syscall
            assert any(syscall in name for name in function_names(waiter.thread.kernel_stack))
        chain.finish()


def test_without_waiters_they_are_counted_and_not_named(sampler: HolderSampler) -> None:
    with Workload("lock_chain", "write", "ww") as chain:
        chain.run()
        queue(sampler, chain, 1)
        queue(sampler, chain, 2)
        lock = lock_of(chain.pid, sampler.snapshot(waiters=False))
        assert lock.waiter_count == 2
        assert lock.waiters == ()
        assert lock.holder.thread is not None


def test_one_process_alone(sampler: HolderSampler) -> None:
    with Workload("lock_chain", "write", "r") as chain, Workload("lock_chain", "read") as other:
        for each in (chain, other):
            assert not sampler.lock_is_held(each.pid)
            each.run()
        assert sampler.lock_is_held(chain.pid)
        # Who asks to read gets it at once.
        assert not sampler.lock_is_held(other.pid)
        queue(sampler, chain, 1)
        snapshot = sampler.snapshot(chain.pid)
        assert snapshot.mms == 1
        assert [lock.processes[0].pid for lock in snapshot.locks] == [chain.pid]
        everything = sampler.snapshot()
        assert lock_of(other.pid, everything).mode == "read"
        assert lock_of(chain.pid, everything).mode == "write"
        chain.finish()
        assert sampler.snapshot(chain.pid).mms == 0
        assert not sampler.lock_is_held(chain.pid)


def test_a_leader_that_has_exited(sampler: HolderSampler) -> None:
    with Workload("leader_exit", "5000000") as workload:
        workload.go()
        eventually(lambda: sampler.snapshot(workload.pid).locks)
        assert sampler.snapshot(workload.pid).mms == 1
        eventually(lambda: sampler.lock_is_held(workload.pid))


def test_the_callers_own_is_left_out_unless_asked_for(sampler: HolderSampler) -> None:
    assert sampler.snapshot().self_mms == 1
    assert holders(os.getpid()).mms == 1
    assert holders(os.getpid()).self_mms == 0


def test_every_address_space_is_looked_at_once(sampler: HolderSampler) -> None:
    before = sampler.snapshot().mms
    with Workload("many_processes", "100", "1"), Workload("many_threads", "100", "1"):
        # Others of the host may come and go meanwhile.
        assert abs(sampler.snapshot().mms - before - 102) <= 5


def test_no_such_process() -> None:
    with pytest.raises(NoSuchTarget):
        holders(2**22 + 1)


# --- against the witness ----------------------------------------------------------------------


def sample_while(
    workload: Workload, sampler: HolderSampler, pid: int, wanted: Callable[[LockState], bool]
) -> list[LockState]:
    """The lock of ``pid`` as often as it was found so while the load ran."""
    found: list[LockState] = []
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            found.extend(lock for lock in sampler.snapshot(pid).locks if wanted(lock))
            # Leaves the CPU to the load, which is what is to be seen.
            done.wait(0.001)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        workload.run()
    finally:
        done.set()
        thread.join()
    return found


class Writers:
    """Who was inside one lock for writing when, as the witness has it."""

    def __init__(self, events: list[Event], mm: int) -> None:
        self._taken_ns: list[int] = []
        self._taken: list[tuple[int, int]] = []  # (tid, when it had asked)
        asked_ns: dict[int, int] = {}
        for event in events:
            if event.mm != mm or not event.write:
                continue
            if event.kind == "start":
                asked_ns[event.tid] = event.ts_ns
            elif event.kind == "acquire" and event.success:
                self._taken_ns.append(event.ts_ns)
                self._taken.append((event.tid, asked_ns[event.tid]))

    def possible(self, at_ns: int) -> set[int]:
        """The tid that took the lock last, and the next one if it had asked by then.

        The lock's word is written after it is got and before the event says so.
        """
        at = bisect_right(self._taken_ns, at_ns)
        last, following = self._taken[max(0, at - 1) : at], self._taken[at : at + 1]
        return {tid for tid, _ in last} | {tid for tid, since in following if since <= at_ns}


@pytest.mark.parametrize(
    ("name", "arguments", "operation"),
    [("fork_large", ("256", "120"), "clone"), ("mprotect_large", ("256", "150"), "mprotect")],
)
def test_the_writer_that_is_named_is_the_one_inside(
    sampler: HolderSampler, name: str, arguments: tuple[str, ...], operation: str
) -> None:
    with Workload(name, *arguments) as workload, Ftrace() as ftrace:
        found = sample_while(
            workload, sampler, workload.pid, lambda lock: lock.mode == "write" and lock.consistent
        )
        events = ftrace.stop()
        assert ftrace.lost == 0
    writers = Writers(events, found[0].mm_key)
    operations: Counter[str] = Counter()
    for lock in found:
        assert lock.holder.certainty == "owner" or lock.holder.thread is None
        if lock.holder.thread is not None:
            assert lock.holder.thread.tid in writers.possible(lock.taken_ns)
            operations[lock.holder.thread.operation] += 1
    assert operations[operation] >= _ENOUGH
    # Not named: found in the instant before the lock's word is written.
    assert len(found) - sum(operations.values()) <= len(found) // 10


def test_a_foreign_holder_is_listed_under_the_mm_it_holds(sampler: HolderSampler) -> None:
    with Workload("smaps_reader", "256", "100", "0") as workload:
        [reader] = workload.extra
        found = sample_while(workload, sampler, workload.pid, lambda lock: lock.readers == 1)
    named = [lock.holder for lock in found if lock.holder.thread is not None]
    assert len(named) >= _ENOUGH
    assert {holder.certainty for holder in named} == {"hint"}
    assert {holder.thread.tid for holder in named if holder.thread} == {reader}
    assert {p.pid for lock in found for p in lock.processes} == {workload.pid}
    assert all(lock.foreign for lock in found if lock.holder.thread is not None)


def test_a_shared_address_space_is_one_entry(sampler: HolderSampler) -> None:
    with Workload("vfork_shared", "1", "100000") as workload:
        workload.go()
        found: list[LockState] = []
        while len(found) < _ENOUGH:
            locks = [
                lock
                for lock in sampler.snapshot().locks
                if workload.pid in {process.pid for process in lock.processes}
            ]
            assert len(locks) <= 1
            found += locks
        children = {p.pid for lock in found for p in lock.processes} - {workload.pid}
        assert len(children) == 1
        assert {len(lock.processes) for lock in found} == {2}
        holder_pids = {lock.holder.thread.pid for lock in found if lock.holder.thread}
        assert holder_pids == children


# --- what a look costs others -----------------------------------------------------------------


def test_a_look_takes_no_lock_of_others(sampler: HolderSampler) -> None:
    with Workload("lock_chain", "write", "wr") as chain, Ftrace() as ftrace:
        chain.run()
        queue(sampler, chain, 1)
        queue(sampler, chain, 2)
        for _ in range(20):
            mmap.mmap(-1, 1 << 20).close()  # so that our own mm is among the events
            assert sampler.snapshot().locks
            assert sampler.lock_is_held(chain.pid)
        own = [event for event in ftrace.stop() if event.tid == threading.get_native_id()]
        assert ftrace.lost == 0
    assert len({event.mm for event in own}) == 1
    assert chain.pid != os.getpid()


def test_a_look_is_two_passes(sampler: HolderSampler) -> None:
    """By the kernel's count of runs: one for each task, and one at the end of the pass."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    with ExitStack() as stack, Workload("lock_chain", "write") as chain:
        chain.run()
        stack.callback(switch.write_text, before)
        switch.write_text("1")
        tasks = sampler.snapshot().tasks
        runs = []
        for fd in Path("/proc/self/fdinfo").iterdir():
            try:
                counted = re.search(r"^run_cnt:\s*(\d+)$", fd.read_text(), re.M)
            except FileNotFoundError:
                continue
            if counted and int(counted[1]):
                runs.append(int(counted[1]))
        assert len(runs) == 2
        for count in runs:
            assert abs(count - tasks - 1) <= 20
