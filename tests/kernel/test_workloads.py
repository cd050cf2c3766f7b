"""The witness against programs whose locking is known: if it is wrong, nothing it checks is right.

Write acquisitions are exact. Read acquisitions are not: how many page faults
take the lock depends on what the kernel merges.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.witness import Account, Event, Ftrace, Totals, mms_of, on_process, recompute
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


def record(name: str, *arguments: int) -> tuple[Workload, tuple[int, ...], list[Event]]:
    """Run a workload; its threads before the load, and its process's events."""
    with Workload(name, *map(str, arguments)) as workload, Ftrace() as ftrace:
        tids = workload.tids
        before_ns = time.monotonic_ns()
        workload.run()
        after_ns = time.monotonic_ns()
        events = ftrace.stop()
        assert ftrace.lost == 0
        workload.finish()
    assert all(a.ts_ns <= b.ts_ns for a, b in zip(events, events[1:]))
    events = on_process(events, {workload.pid, *tids}, ended=name == "killed_waiter")
    assert before_ns <= events[0].ts_ns <= events[-1].ts_ns <= after_ns
    return workload, tids, events


def account_of(events: list[Event]) -> Account:
    """Recompute, and see that all events found their partners."""
    account = recompute(events)
    assert not account.unmatched
    assert (account.held_at_start, account.open_waits, account.open_holds) == (0, 0, 0)
    return account


def assert_cycles(totals: Totals, cycles: int) -> None:
    """``cycles`` of mmap and munmap."""
    assert (totals.acquisitions, totals.holds) == (2 * cycles, 2 * cycles)
    assert totals.downgrades == cycles


def assert_no_overlapping_write_holds(events: list[Event]) -> None:
    """A write hold excludes all others of its mm, in event time too (5.15 and later)."""
    holder = None
    for event in events:
        if event.kind == "acquire" and event.success:
            assert holder in (None, event.tid)
            holder = event.tid if event.write else None
        elif event.kind == "release" and event.write:
            assert holder == event.tid
            holder = None


def test_storm() -> None:
    threads, iterations = 4, 2000
    workload, tids, events = record("storm", threads, iterations)
    account = account_of(events)
    for tid in set(tids) - {workload.pid}:
        totals = account.totals[tid, "write"]
        assert totals.acquisitions == totals.holds == 3 * iterations
        assert totals.downgrades == iterations
        assert totals.failures == 0
        assert 0 < totals.hold_max_ns <= totals.hold_total_ns
    # Nobody else wrote; every read hold ended that a downgrade or an acquisition began.
    assert account.sum("write").acquisitions == 3 * threads * iterations
    read = account.sum("read")
    assert read.holds == read.acquisitions + threads * iterations
    assert_no_overlapping_write_holds(events)


def test_mprotect_large() -> None:
    toggles = 40
    _, _, events = record("mprotect_large", 64, toggles)
    account = account_of(events)
    by_tid = {tid: t for (tid, mode), t in account.totals.items() if mode == "write"}
    toggler = max(by_tid, key=lambda tid: by_tid[tid].hold_total_ns)
    assert by_tid[toggler].acquisitions == by_tid[toggler].holds == toggles
    assert by_tid[toggler].downgrades == 0
    # 16384 page table entries cannot be changed in less.
    assert by_tid[toggler].hold_total_ns > toggles * 10_000
    (other,) = set(by_tid) - {toggler}
    assert by_tid[other].acquisitions == 2 * by_tid[other].downgrades > 0
    # It had to wait for a whole toggle at least once.
    assert by_tid[other].wait_max_ns > by_tid[toggler].hold_total_ns // toggles // 4
    assert_no_overlapping_write_holds(events)


def test_fork_large() -> None:
    forks = 20
    workload, _, events = record("fork_large", 32, forks)
    account = account_of(events)
    assert account.totals[workload.pid, "write"].acquisitions == forks
    assert len(mms_of(events, {workload.pid})) == 1


def test_smaps_reader() -> None:
    reads = 20
    workload, _, events = record("smaps_reader", 64, reads, 2)
    account = account_of(events)
    (reader,) = workload.extra
    assert account.totals[reader, "read"].acquisitions >= reads
    assert account.totals[reader, "read"].holds == account.totals[reader, "read"].acquisitions
    assert (reader, "write") not in account.totals
    assert len({tid for tid, _ in account.totals}) == 1 + 2
    assert_no_overlapping_write_holds(events)


@pytest.mark.parametrize("from_thread", [0, 1])
def test_exec_midway(from_thread: int) -> None:
    cycles = 500
    workload, tids, events = record("exec_midway", cycles, from_thread)
    old, new = mms_of(events, {workload.pid, *tids})
    before = recompute(e for e in events if e.mm == old).sum("write", {workload.pid})
    after = recompute(e for e in events if e.mm == new).sum("write", {workload.pid})
    assert before.downgrades == cycles
    assert after.downgrades >= cycles
    assert len(tids) == 1 + from_thread
    account_of(events)


def test_thread_exit() -> None:
    rounds, threads, cycles = 10, 4, 20
    workload, tids, events = record("thread_exit", rounds, threads, cycles)
    assert tids == (workload.pid,)
    account = account_of(events)
    ended = {tid for tid, _ in account.totals} - {workload.pid}
    assert len(ended) == rounds * threads
    for tid in ended:
        assert_cycles(account.totals[tid, "write"], cycles)


def test_vfork_shared() -> None:
    children, cycles = 10, 20
    workload, _, events = record("vfork_shared", children, cycles)
    account = account_of(events)
    tids = {tid for tid, mode in account.totals if mode == "write"}
    assert workload.pid not in tids
    assert len(tids) == children
    for tid in tids:
        assert_cycles(account.totals[tid, "write"], cycles)


def test_many_threads() -> None:
    threads, cycles = 2000, 5
    workload, tids, events = record("many_threads", threads, cycles)
    assert len(tids) == 1 + threads
    account = account_of(events)
    for tid in set(tids) - {workload.pid}:
        assert_cycles(account.totals[tid, "write"], cycles)
    assert_cycles(account.sum("write"), threads * cycles)


def test_killed_waiter() -> None:
    _, _, events = record("killed_waiter", 128, 4)
    account = account_of(events)
    assert account.sum("write").failures >= 1
    assert account.sum("write").acquisitions == account.sum("write").holds


def test_overflow_is_reported() -> None:
    with Workload("storm", "1", "20000") as workload, Ftrace(buffer_kib_per_cpu=64) as ftrace:
        workload.run()
        ftrace.stop()
        assert ftrace.lost > 0


def test_leaves_nothing_behind() -> None:
    with Ftrace() as ftrace:
        instance = ftrace.instance
        assert instance.is_dir()
    assert not instance.exists()
    with pytest.raises(ZeroDivisionError), Ftrace() as ftrace:
        instance = ftrace.instance
        raise ZeroDivisionError
    assert not instance.exists()


def test_mounts_tracefs_where_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.witness.TRACEFS", tmp_path)
    mounts = Path("/proc/self/mounts").read_text()
    with Workload("storm", "1", "10") as workload, Ftrace() as ftrace:
        tids = workload.tids
        workload.run()
        assert recompute(on_process(ftrace.stop(), tids)).sum("write").acquisitions == 30
    assert Path("/proc/self/mounts").read_text() == mounts
