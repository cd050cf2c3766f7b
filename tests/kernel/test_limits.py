"""The embedding API at its limits: many cycles, many tracers, many threads, little room."""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corelock import CorelockError, InvalidArgument, Row, Tracer
from tests.cli.bpf_objects import Objects, existing, held_by
from tests.cli.command import Corelock, eventually
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]

MIB = 1 << 20


def acquisitions(rows: Iterable[Row], mode: str = "write") -> Counter[int]:
    """Acquisitions in a mode by tid."""
    counts: Counter[int] = Counter()
    for row in rows:
        if row.mode == mode:
            counts[row.tid] += row.acquisitions
    return counts


def descriptors() -> set[str]:
    """What this process has open."""
    return set(os.listdir("/proc/self/fd"))


def children_of(pid: int) -> set[int]:
    """The processes whose parent is the leader of this one."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def assert_cycles(rows: Iterable[Row], tids: Iterable[int], cycles: int) -> None:
    """Each of the threads made ``cycles`` of mmap and munmap, and nothing is missing."""
    counts: dict[tuple[int, str, str], Row] = {(r.tid, r.mode, r.operation): r for r in rows}
    for tid in tids:
        assert counts[tid, "write", "mmap"].acquisitions == cycles
        assert counts[tid, "write", "munmap"].acquisitions == cycles
        assert counts[tid, "write", "munmap"].downgrades == cycles
        assert counts[tid, "read", "munmap"].holds == cycles


# --- cycles -----------------------------------------------------------------------------------

CYCLES = 60


def test_cycles_leak_nothing() -> None:
    pid = os.getpid()
    with Tracer(pid=pid):  # what is opened once and kept is open now
        pass
    before, objects_before = descriptors(), held_by(pid)
    seen: Objects = set()
    for _ in range(CYCLES):
        with Tracer(pid=pid) as tracer:
            seen |= held_by(pid)
            tracer.snapshot()
    assert len(seen) >= CYCLES * 3 * 2  # three programs and three links at least, new each time
    assert descriptors() == before
    assert held_by(pid) == objects_before
    eventually(lambda: not (seen - objects_before) & existing())


def test_cycles_of_failed_starts_leak_nothing() -> None:
    pid = os.getpid()
    before, objects_before = descriptors(), held_by(pid)
    for _ in range(CYCLES):
        with pytest.raises(CorelockError):
            Tracer(pid=pid, max_rows=1 << 30).start()
    assert descriptors() == before
    assert held_by(pid) == objects_before


# --- several tracers --------------------------------------------------------------------------


def unread(pid: int) -> Tracer:
    """A tracer whose slow events nobody reads, so that it must not fill its ring with them."""
    return Tracer(pid=pid, slow_ns=None)


def test_two_tracers_on_two_workloads() -> None:
    with Workload("storm", "2", "100") as one, Workload("storm", "2", "200") as two:
        tids = {workload.pid: set(workload.tids) - {workload.pid} for workload in (one, two)}
        first, second = unread(one.pid), unread(two.pid)
        with first, second:
            two.go()
            one.run()
            two.wait_done()
            first.stop()
            second.stop()
            for tracer, workload, cycles in (first, one, 100), (second, two, 200):
                rows = tracer.snapshot().rows
                assert {row.mm_pid for row in rows} == {workload.pid}
                writes = acquisitions(rows)
                assert {tid: writes[tid] for tid in tids[workload.pid]} == dict.fromkeys(
                    tids[workload.pid], 3 * cycles
                )
                assert tracer.accounting().complete


def test_two_tracers_on_one_workload_agree() -> None:
    with Workload("storm", "3", "300") as storm:
        first, second = unread(storm.pid), unread(storm.pid)
        with first, second:
            storm.run()
            first.stop()
            second.stop()
            counts = [
                {
                    (r.tid, r.mode, r.operation): (
                        r.acquisitions, r.holds, r.downgrades, r.trylock_failures, r.aborted_waits,
                    )
                    for r in tracer.snapshot().rows
                }
                for tracer in (first, second)
            ]  # fmt: skip
            assert counts[0] == counts[1]
            assert sum(each[0] for each in counts[0].values()) >= 3 * 3 * 300
            for tracer in first, second:
                assert tracer.accounting().complete


def test_one_tracer_closed_leaves_the_other_alone() -> None:
    with Workload("storm", "1", "100") as storm:
        with unread(storm.pid) as kept:
            with Tracer(pid=storm.pid):
                pass
            storm.run()
            kept.stop()
            assert sum(acquisitions(kept.snapshot().rows).values()) == 300
            assert kept.accounting().complete


# --- threads of the tracing program -----------------------------------------------------------


def use_until_closed(tracer: Tracer, use: str, going: threading.Event) -> None:
    """Call one method again and again; return when it says that the tracer is closed."""
    try:
        while True:
            result = getattr(tracer, use)()
            if use != "slow_events" or any(result):
                going.set()
    except InvalidArgument as error:
        assert "not running" in str(error)


@pytest.mark.parametrize("use", ["slow_events", "snapshot", "accounting"])
def test_close_from_another_thread(use: str) -> None:
    """The user of a closed tracer gets an error, never a crash or a hang."""
    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            with Workload("storm", "1", "20000") as storm:
                with Tracer(pid=storm.pid, slow_ns=0) as tracer:
                    going = threading.Event()
                    user = pool.submit(use_until_closed, tracer, use, going)
                    storm.go()
                    assert going.wait(30)
                    tracer.close()
                    user.result(30)


def test_close_while_slow_events_are_half_read() -> None:
    """An iterator that outlives its tracer ends; it does not read freed memory."""
    with Workload("storm", "2", "50") as storm:
        with Tracer(pid=storm.pid, slow_ns=0) as tracer:
            storm.run()
            events = tracer.slow_events()
            next(events)
            tracer.close()
            # What it had taken from the ring before, at most: 700 are recorded.
            assert sum(1 for _ in events) < 500


def test_close_by_another_thread_while_slow_events_are_half_read() -> None:
    """An iterator that waits to be read on keeps nobody from closing."""
    with Workload("storm", "2", "50") as storm, Tracer(pid=storm.pid, slow_ns=0) as tracer:
        storm.run()
        events = tracer.slow_events()
        next(events)
        closer = threading.Thread(target=tracer.close)
        closer.start()
        closer.join(10)
        hung = closer.is_alive()
        events.close()  # type: ignore[attr-defined]
        closer.join(10)
        assert not hung


def test_many_threads_read_at_once() -> None:
    with Workload("storm", "2", "5000") as storm, Tracer(pid=storm.pid, slow_ns=0) as tracer:
        errors: list[BaseException] = []
        taken: Counter[str] = Counter()

        def read() -> None:
            try:
                for _ in range(20):
                    tracer.snapshot()
                    taken["slow"] += sum(1 for _ in tracer.slow_events())
                    tracer.accounting()
            except BaseException as error:
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(4)]
        storm.go()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        storm.wait_done()
        tracer.stop()
        assert not errors
        assert taken["slow"]
        assert sum(acquisitions(tracer.snapshot().rows).values()) == 2 * 3 * 5000
        assert tracer.accounting().unaccounted == 0


def test_after_close() -> None:
    tracer = Tracer(pid=os.getpid())
    tracer.start()
    tracer.close()
    tracer.close()
    for use in (tracer.snapshot, tracer.accounting, tracer.fileno, tracer.stop, tracer.start):
        with pytest.raises(InvalidArgument):
            use()
    with pytest.raises(InvalidArgument):
        next(iter(tracer.slow_events()))


def test_before_start() -> None:
    tracer = Tracer(pid=os.getpid())
    for use in (tracer.snapshot, tracer.accounting, tracer.fileno, tracer.stop):
        with pytest.raises(InvalidArgument):
            use()
    tracer.close()


# --- too little room --------------------------------------------------------------------------


def test_too_few_rows_are_counted() -> None:
    with Workload("storm", "4", "50") as storm, Tracer(pid=storm.pid, max_rows=3) as tracer:
        storm.run()
        tracer.stop()
        rows, accounting = tracer.snapshot().rows, tracer.accounting()
    assert 0 < len(rows) <= 3
    assert accounting.lost["map_full"] > 0
    assert accounting.unaccounted == 0, accounting
    assert not accounting.complete
    # What has a row is complete: three times 50, and not what came after.
    kept = sum(row.acquisitions for row in rows)
    assert 0 < kept < 4 * 3 * 50


def test_one_row() -> None:
    with Workload("storm", "1", "50") as storm, Tracer(pid=storm.pid, max_rows=1) as tracer:
        storm.run()
        tracer.stop()
        (row,) = tracer.snapshot().rows
        assert (row.operation, row.mode, row.acquisitions) == ("mmap", "write", 50)
        assert tracer.accounting().lost["map_full"] > 0
        assert tracer.accounting().unaccounted == 0


def test_too_small_a_ring_is_counted() -> None:
    with Workload("storm", "2", "500") as storm:
        with Tracer(pid=storm.pid, slow_ns=0, ring_bytes=4096) as tracer:
            storm.run()
            tracer.stop()
            taken = sum(1 for _ in tracer.slow_events())
            rows, accounting = tracer.snapshot().rows, tracer.accounting()
    assert accounting.slow_lost["ring_full"] > 0
    assert 0 < taken < 10
    every = sum(row.acquisitions + row.holds for row in rows)
    assert taken == accounting.slow_recorded
    assert taken + accounting.slow_lost["ring_full"] == every
    # Lost records lose no event.
    assert accounting.unaccounted == 0, accounting
    assert not any(accounting.lost.values())
    assert sum(acquisitions(rows).values()) == 2 * 3 * 500


def test_fileno_tells_of_slow_events() -> None:
    with Workload("storm", "1", "20") as storm, Tracer(pid=storm.pid, slow_ns=0) as tracer:
        poll = select.poll()
        poll.register(tracer.fileno(), select.POLLIN)
        assert not poll.poll(0)
        storm.run()
        assert poll.poll(10_000)
        list(tracer.slow_events())
        assert not poll.poll(0)


# --- many threads, many processes -------------------------------------------------------------

#: Runs a command, and says last on stderr how much memory it had at most, in KiB.
_MEASURED = [
    sys.executable,
    "-c",
    "import resource, subprocess, sys\n"
    "code = subprocess.call(sys.argv[1:])\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
    "sys.exit(code)",
]


def test_ten_thousand_threads(corelock_background: Background) -> None:
    threads, cycles = 10_000, 3
    with Workload("many_threads", str(threads), str(cycles)) as workload:
        corelock = corelock_background(
            "hold-times", "--json", "--pid", workload.pid, prefix=_MEASURED
        )
        tids = set(workload.tids) - {workload.pid}
        assert len(tids) == threads
        workload.run()
        # Its exit, with the exits of all its threads, ends the run.
        workload.finish()
        result = corelock.finish()
    assert result.code == 0, result.err
    assert int(result.err.splitlines()[-1]) < 100 * MIB // 1024

    object_ = result.json
    accounting = object_["accounting"]
    assert accounting["unaccounted"] == 0, accounting
    assert not any(accounting["lost"].values())
    assert not any(accounting["unmatched"].values())
    found = Counter[tuple[int, str]]()
    for row in object_["rows"]:
        if row["mode"] == "write" and row["operation"] in ("mmap", "munmap"):
            found[row["tid"], row["operation"]] += row["acquisitions"]
    for tid in tids:
        assert (found[tid, "mmap"], found[tid, "munmap"]) == (cycles, cycles)


def test_thousand_processes(corelock_background: Background) -> None:
    processes, cycles = 1000, 5
    with Workload("many_processes", str(processes), str(cycles)) as workload:
        corelock = corelock_background("hold-times", "--json", "--all", prefix=_MEASURED)
        pids = children_of(workload.pid)
        assert len(pids) == processes
        workload.run()
        (tool,) = children_of(corelock.pid)
        os.kill(tool, signal.SIGINT)
        result = corelock.finish()
    assert result.code == 0, result.err
    assert int(result.err.splitlines()[-1]) < 100 * MIB // 1024
    object_ = result.json
    accounting = object_["accounting"]
    assert accounting["unaccounted"] == 0, accounting
    assert not any(accounting["lost"].values())
    found = Counter[int]()
    for row in object_["rows"]:
        if row["mm_pid"] in pids and row["mode"] == "write":
            assert row["operation"] in ("mmap", "munmap")
            found[row["mm_pid"]] += row["acquisitions"]
    assert found == dict.fromkeys(pids, 2 * cycles)


def test_thousand_processes_that_come_and_go() -> None:
    """Address spaces end while it runs, and their memory is used again."""
    with Workload("fork_large", "1", "1000") as parent:
        with Tracer(everything=True, max_rows=1 << 16) as tracer:
            parent.run()
            tracer.stop()
            rows, accounting = tracer.snapshot().rows, tracer.accounting()
    assert accounting.unaccounted == 0, accounting
    assert not any(accounting.lost.values())
    # fork locks the child's, too.
    children = {row.mm_pid for row in rows if row.pid == parent.pid} - {parent.pid}
    assert len(children - {0}) == 1000


# --- targets that change ----------------------------------------------------------------------


@pytest.mark.parametrize("from_thread", [0, 1], ids=["leader", "thread"])
def test_exec_midway(from_thread: int) -> None:
    cycles = 500
    with Workload("exec_midway", str(cycles), str(from_thread)) as workload:
        with Tracer(pid=workload.pid) as tracer:
            workload.run()
            tracer.stop()
            rows, accounting = tracer.snapshot().rows, tracer.accounting()
        workload.finish()
    assert {row.mm_pid for row in rows} == {workload.pid}
    maps = [row for row in rows if (row.operation, row.mode) == ("mmap", "write")]
    # Before and after; the new image's loader comes on top.
    assert sum(row.acquisitions for row in maps) >= 2 * cycles
    downgrades = sum(row.downgrades for row in rows if row.operation == "munmap")
    assert downgrades >= 2 * cycles
    assert accounting.unaccounted == 0, accounting
    assert not any(accounting.lost.values())
    assert not any(accounting.unmatched.values())


def test_threads_that_exit() -> None:
    rounds, threads, cycles = 10, 4, 20
    with Workload("thread_exit", str(rounds), str(threads), str(cycles)) as workload:
        with unread(workload.pid) as tracer:
            workload.run()
            tracer.stop()
            rows, accounting = tracer.snapshot().rows, tracer.accounting()
    assert accounting.complete, accounting
    # A tid may be used again: then it is another thread with a key of its own.
    per_thread = Counter[int]()
    for row in rows:
        if row.tid != workload.pid and row.operation == "mmap" and row.mode == "write":
            per_thread[row.thread_key] += row.acquisitions
    assert len(per_thread) == rounds * threads
    assert min(per_thread.values()) >= cycles


def test_tracing_itself() -> None:
    with Tracer(pid=os.getpid(), slow_ns=0) as tracer:
        for _ in range(100):
            mmap.mmap(-1, 4096).close()
        events = list(tracer.slow_events())
        tracer.stop()
        rows, accounting = tracer.snapshot().rows, tracer.accounting()
    own = [row for row in rows if row.tid == threading.get_native_id()]
    for operation in ("mmap", "munmap"):
        found = sum(r.acquisitions for r in own if (r.operation, r.mode) == (operation, "write"))
        assert found >= 100
    assert not any(row.foreign for row in own)
    assert any(event.operation == "munmap" for event in events)
    assert accounting.self_events == 0
    assert accounting.unaccounted == 0, accounting


def test_own_locking_is_left_out() -> None:
    with Tracer(everything=True) as tracer:
        for _ in range(100):
            mmap.mmap(-1, 4096).close()
        tracer.stop()
        rows, accounting = tracer.snapshot().rows, tracer.accounting()
    assert not any(row.pid == os.getpid() for row in rows)
    assert accounting.self_events >= 100 * 2 * 3
    assert accounting.unaccounted == 0, accounting


def test_many_threads_in_process() -> None:
    threads, cycles = 500, 10
    with Workload("many_threads", str(threads), str(cycles)) as workload:
        tids = set(workload.tids) - {workload.pid}
        with unread(workload.pid) as tracer:
            workload.run()
            tracer.stop()
            assert_cycles(tracer.snapshot().rows, tids, cycles)
            assert tracer.accounting().complete


def test_snapshots_only_grow() -> None:
    with Workload("storm", "2", "5000") as storm, Tracer(pid=storm.pid, intervals=True) as tracer:
        storm.go()
        earlier = tracer.snapshot()
        for _ in range(20):
            later = tracer.snapshot()
            since = later.since(earlier)
            for row in since.rows:
                assert row.acquisitions >= 0
                assert row.holds >= 0
                assert row.hold.total_ns >= 0
            earlier = later
        storm.wait_done()
        tracer.stop()
        assert sum(acquisitions(tracer.snapshot().rows).values()) == 2 * 3 * 5000


def test_what_is_open_at_the_stop_stays_counted() -> None:
    """Threads that were waiting or holding at the stop may be gone when it is asked about them."""
    held_at_end = 0
    for _ in range(20):
        with Workload("storm", "16", "100000") as storm:
            tracer = Tracer(pid=storm.pid, slow_ns=None)
            tracer.start()
            storm.go()
            eventually(lambda tracer=tracer: sum(acquisitions(tracer.snapshot().rows).values()))
            tracer.stop()
        # Leaving its context has killed it.
        accounting = tracer.accounting()
        tracer.close()
        assert accounting.unaccounted == 0, accounting
        held_at_end += accounting.held_at_end
    assert held_at_end > 0


def test_what_is_open_at_the_stop_is_counted_while_processes_come_and_go() -> None:
    """Threads that wait or hold at the stop, and are gone a moment later, are in the sum."""
    forking = ["sh", "-c", "while :; do /bin/true; done"]
    shells = [subprocess.Popen(forking) for _ in range(3)]
    try:
        for _ in range(20):
            with Tracer(everything=True, slow_ns=None, max_rows=4096) as tracer:
                os.sched_yield()
                tracer.stop()
                assert tracer.accounting().unaccounted == 0
    finally:
        for shell in shells:
            shell.kill()
            shell.wait()
