"""Recordings of real loads: against ftrace, and against what the kernel added up itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

import pytest

import corelock
from corelock import recording as format_
from corelock.blockfile import BlockFile
from corelock.histogram import bucket_of
from corelock.model import Row
from corelock.recorder import Recorder
from corelock.tracer import Attach
from tests.kernel.test_against_ftrace import ATTEMPTS
from tests.locks import let_queue
from tests.recorded import Cycle, cycles_of, totals_of
from tests.witness import Event, Ftrace, Totals, on_process, recompute
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


class Recorded:
    """A workload that was recorded, and that ftrace saw, too."""

    def __init__(
        self, path: Path, name: str, *arguments: int, attach: Optional[Attach] = None, **more: Any
    ) -> None:
        with Workload(name, *map(str, arguments)) as workload:
            self.tids = {workload.pid, *workload.tids}
            recorder = corelock.record(path, pid=workload.pid, attach=attach, **more)
            with recorder, Ftrace() as ftrace:
                workload.run()
                self.events: list[Event] = on_process(ftrace.stop(), self.tids)
                recorder.stop()
                assert ftrace.lost == 0
                self.rows = recorder.snapshot().rows
                self.accounting = recorder.accounting()
            workload.finish()
        assert recorder.result is not None
        self.result = recorder.result
        self.cycles = cycles_of(path)


def assert_same_as_rows(cycles: list[Cycle], rows: tuple[Row, ...]) -> None:
    """To the nanosecond and the bucket what the kernel added up while it sent the cycles."""
    waits: dict[tuple[int, str, str], Counter[int]] = defaultdict(Counter)
    holds: dict[tuple[int, str, str], Counter[int]] = defaultdict(Counter)
    for cycle in cycles:
        key = cycle.tid, cycle.mode, cycle.operation
        if cycle.has_wait:
            waits[key][cycle.wait_ns] += 1
        if cycle.hold_ended:
            holds[key][cycle.hold_ns] += 1
    keys = {(row.tid, row.mode, row.operation) for row in rows}
    assert waits.keys() | holds.keys() <= keys
    for row in rows:
        key = row.tid, row.mode, row.operation
        for times, ours in (row.wait, waits[key]), (row.hold, holds[key]):
            assert times.count == ours.total()
            assert times.total_ns == sum(ns * count for ns, count in ours.items())
            assert times.max_ns == max(ours, default=0)
            buckets: Counter[int] = Counter()
            for ns, count in ours.items():
                buckets[bucket_of(ns)] += count
            assert dict(times.histogram) == buckets


@pytest.mark.parametrize("attach", ["tp_btf", "tp"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("storm", (4, 5000)),
        ("mprotect_large", ()),
        ("smaps_reader", ()),
        ("exec_midway", ()),
        ("fork_large", ()),
        ("thread_exit", ()),
    ],
)
def test_cycles(tmp_path: Path, name: str, arguments: tuple[int, ...], attach: Attach) -> None:
    """Every cycle is there, once, and as long as it was."""
    differing: list[str] = []
    for attempt in range(ATTEMPTS):
        # For names of stacks corelock reads mappings, which only ftrace does not leave out.
        path = tmp_path / f"{attempt}.corelock"
        run = Recorded(path, name, *arguments, attach=attach, slow_ns=None)
        assert run.accounting.complete, run.accounting
        assert run.result.complete
        assert run.result.cycles == len(run.cycles)
        assert_same_as_rows(run.cycles, run.rows)
        witness = recompute(run.events)
        assert not witness.unmatched
        theirs = {key: t for key, t in witness.totals.items() if t != Totals()}
        ours = totals_of(run.cycles)
        assert ours.keys() == theirs.keys()
        differing = []
        for key, want in theirs.items():
            for count in "acquisitions", "holds", "downgrades", "failures":
                assert getattr(ours[key], count) == getattr(want, count), (key, count)
            for kind, count in ("wait", want.acquisitions), ("hold", want.holds):
                got_ns, want_ns = (getattr(t, f"{kind}_total_ns") for t in (ours[key], want))
                if abs(got_ns - want_ns) > 0.02 * want_ns + 1000 * count:
                    differing.append(f"{kind} of {key}: {got_ns} ns, not {want_ns}")
        if len(differing) <= len(ours) // 100:
            return
    pytest.fail("in each of several runs: " + "; ".join(differing))


def test_when_cycles_were(tmp_path: Path) -> None:
    """Each begins to wait and ends when ftrace says so, but for an interrupt here and there."""
    # Without stacks: see above.
    run = Recorded(tmp_path / "a.corelock", "storm", 2, 2000, slow_ns=None)
    starts = defaultdict(list)
    for event in run.events:
        if event.kind == "start":
            starts[event.tid].append(event.ts_ns)
    asked = defaultdict(list)
    for cycle in run.cycles:
        if not cycle.kind & format_.NO_WAIT:
            asked[cycle.tid].append(cycle.end_ns - cycle.hold_ns - cycle.wait_ns)
    assert {tid: len(times) for tid, times in asked.items()} == {
        tid: len(times) for tid, times in starts.items()
    }
    apart = [
        abs(one - other)
        for tid in starts
        for one, other in zip(sorted(asked[tid]), sorted(starts[tid]))
    ]
    assert sum(ns > 5000 for ns in apart) <= len(apart) // 100


def test_contended_waits_are_marked(tmp_path: Path) -> None:
    """Nobody is in the way of one thread; four that do nothing else are in each other's."""
    alone = Recorded(tmp_path / "1.corelock", "storm", 1, 2000).cycles
    crowd = Recorded(tmp_path / "4.corelock", "storm", 4, 2000).cycles
    shares = [
        sum(bool(c.kind & format_.CONTENDED) for c in cycles) / len(cycles)
        for cycles in (alone, crowd)
    ]
    assert shares[0] < 0.01 < 0.1 < shares[1]


def test_what_is_under_way_at_the_end(tmp_path: Path) -> None:
    """A hold and two waits that have not ended are there, up to then."""
    path = tmp_path / "a.corelock"
    with Workload("lock_chain", "write", "wr") as chain, corelock.HolderSampler() as sampler:
        with corelock.record(path, pid=chain.pid, slow_ns=0) as recorder:
            chain.run()
            let_queue(chain, sampler, 2)
            recorder.stop()
            assert recorder.accounting().held_at_end == 3
            assert recorder.accounting().open_waits == 2
        chain.finish()
    assert recorder.result is not None
    end_ns = recorder.start_ns + recorder.result.duration_ns
    open_ = [c for c in cycles_of(path) if c.ending in (format_.HOLDING, format_.WAITING)]
    assert {c.end_ns for c in open_} == {end_ns}
    (holder,) = (c for c in open_ if c.ending == format_.HOLDING)
    waiting = [c for c in open_ if c.ending == format_.WAITING]
    assert holder.mode == "write"
    assert holder.hold_ns > 0
    assert Counter((c.comm, c.mode) for c in waiting) == {
        ("chain-1", "write"): 1, ("chain-2", "read"): 1,
    }  # fmt: skip
    assert all(c.hold_ns == 0 < c.wait_ns < holder.hold_ns for c in waiting)


def test_cycles_that_find_no_room_are_counted(tmp_path: Path) -> None:
    """With rings of a page, those written and those lost are all there were."""
    path = tmp_path / "a.corelock"
    run = Recorded(path, "storm", 4, 5000, cycle_ring_bytes=1, slow_ns=None)
    lost = run.result.cycles_lost["ring_full"]
    assert lost > 0
    assert not run.result.complete
    assert not run.accounting.complete
    assert run.accounting.unaccounted == 0
    with corelock.open_recording(path) as recording:
        footer = recording.footer
    assert footer is not None
    totals = footer["totals"]
    assert footer["cycles"] == {
        "written": len(run.cycles), "lost": {"ring_full": lost, "not_written": 0},
    }  # fmt: skip
    assert len(run.cycles) + lost == totals["holds"] + totals["failures"]


def test_a_full_speed_storm_loses_nothing(tmp_path: Path) -> None:
    """All of some hundred thousand cycles, at no more than 32 bytes each."""
    run = Recorded(tmp_path / "a.corelock", "storm", 4, 20000)
    assert run.result.complete
    assert len(run.cycles) > 300_000
    assert run.result.bytes <= 32 * len(run.cycles)
    assert run.result.bytes == (tmp_path / "a.corelock").stat().st_size


def test_stacks(tmp_path: Path) -> None:
    """Slow waits and holds name a stack, others none; each distinct one is there once."""
    path = tmp_path / "a.corelock"
    run = Recorded(path, "mprotect_large", slow_ns=100_000)
    for cycle in run.cycles:
        assert bool(cycle.wait_stack) == (cycle.has_wait and cycle.wait_ns >= 100_000)
        assert bool(cycle.hold_stack) == (cycle.hold_ended and cycle.hold_ns >= 100_000)
    with corelock.open_recording(path) as recording:
        stacks = dict(recording.stacks)
    named = {i for c in run.cycles for i in (c.wait_stack, c.hold_stack) if i}
    assert named == stacks.keys()
    assert len(stacks) == run.result.stacks < len(run.cycles) / 2
    holds = Counter(
        stacks[c.hold_stack] for c in run.cycles if c.operation == "mprotect" and c.hold_stack
    )
    stack, _ = holds.most_common(1)[0]
    assert any(frame[1] and "mprotect" in frame[1] for frame in stack.kernel)
    assert "main" in [frame[1] for frame in stack.user] or "start_thread" in [
        frame[1] for frame in stack.user
    ]


def test_callers_without_frame_pointers(tmp_path: Path) -> None:
    """They are told apart by what is on the stack, where all else about them is the same."""
    path, times = tmp_path / "a.corelock", 300
    run = Recorded(path, "two_callers", times, slow_ns=0)
    with corelock.open_recording(path) as recording:
        stacks = dict(recording.stacks)
    callers: Counter[str] = Counter()
    in_turn = []
    for cycle in sorted(run.cycles, key=lambda cycle: cycle.end_ns):
        if cycle.operation == "mmap":
            names = [frame[1] for frame in stacks[cycle.hold_stack].user]
            callers.update({"first", "second"} & set(names))
            in_turn += [name for name in names if name in ("first", "second")]
    assert callers == {"first": times, "second": times}
    assert in_turn == ["first", "second"] * times
    # What changes in their frames makes no new stacks.
    assert run.accounting.slow_recorded < 40


def test_new_names_are_the_last_ones(tmp_path: Path) -> None:
    """exec renames; the recording has the name that the process had in the end."""
    path = tmp_path / "a.corelock"
    run = Recorded(path, "exec_midway")
    with corelock.open_recording(path) as recording:
        names = {int(p["mm"]): p["comm"].decode() for p in recording.processes}
        pids = {int(p["host_pid"]) for p in recording.processes}
    assert {row.mm_comm for row in run.rows} <= set(names.values())
    assert {row.mm_host_pid for row in run.rows} <= pids


def test_a_recorder_in_a_fork_leaves_it_alone(tmp_path: Path) -> None:
    """The child closes what it inherited; the parent's recording goes on."""
    path = tmp_path / "a.corelock"
    with Workload("storm", "1", "500") as storm:
        with corelock.record(path, pid=storm.pid) as recorder:
            child = os.fork()
            if not child:
                recorder.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            storm.run()
        storm.finish()
    assert recorder.result is not None
    assert recorder.result.complete
    assert len(cycles_of(path)) == recorder.result.cycles >= 2000


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """It is refused, and what the program opens then is not written to."""
    path = tmp_path / "a.corelock"
    with Workload("storm", "1", "500") as storm:
        with corelock.record(path, pid=storm.pid, overwrite=True) as recorder:
            with pytest.raises(corelock.InvalidArgument, match="started before"):
                recorder.start()
            with open(tmp_path / "other", "wb") as other:
                storm.run()
                recorder.stop()
                assert os.fstat(other.fileno()).st_size == 0
        storm.finish()
        with pytest.raises(corelock.InvalidArgument, match="started before"):
            recorder.start()
    assert recorder.result is not None
    assert recorder.result.complete
    assert len(cycles_of(path)) == recorder.result.cycles >= 2000


def test_who_ends_it_at_once_ends_it_once(tmp_path: Path) -> None:
    """Two that stop it while a third closes it: one accounting, and nobody fails."""
    for attempt in range(4):
        path = tmp_path / f"{attempt}.corelock"
        together = threading.Barrier(3)

        def stop(recorder: Recorder, together: threading.Barrier = together) -> None:
            together.wait()
            recorder.stop()

        with Workload("storm", "2", "500") as storm, ThreadPoolExecutor(2) as pool:
            with corelock.record(path, pid=storm.pid, slow_ns=0) as recorder:
                storm.run()
                stops = [pool.submit(stop, recorder) for _ in range(2)]
                together.wait()
            for one in stops:
                one.result()
            storm.finish()
        assert len(list(BlockFile(str(path)).payloads(format_.FOOTER))) == 1


def test_no_file_is_left_by_what_did_not_start(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    with pytest.raises(corelock.NoSuchTarget):
        Recorder(path, pid=(1 << 22) + 1).start()
    assert not path.exists()


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    path.write_text("precious")
    with pytest.raises(corelock.InvalidArgument, match="is there already"):
        corelock.record(path, pid=os.getpid()).start()
    with pytest.raises(corelock.NoSuchTarget):
        corelock.record(path, pid=(1 << 22) + 1, overwrite=True).start()
    assert path.read_text() == "precious"
    with corelock.record(path, pid=os.getpid(), overwrite=True):
        pass
    cycles_of(path)


def test_other_programs_have_other_functions_at_the_same_addresses(tmp_path: Path) -> None:
    """Two that differ in nothing but a name, without address randomization."""
    source = tmp_path / "same.c"
    source.write_text(
        "#include <sys/mman.h>\n"
        "__attribute__((noinline)) void NAME(void)\n"
        '{ munmap(mmap(0, 4096, 3, 34, -1, 0), 4096); __asm__ volatile(""); }\n'
        "int main(void) { for (int i = 0; i < 500; i++) NAME(); return 0; }\n"
    )
    for name in "alpha", "betaa":
        command = ["cc", "-O1", f"-DNAME={name}_fn", "-o", tmp_path / name, source]
        subprocess.run(command, check=True)
    path = tmp_path / "a.corelock"
    # One after the other, each for as long as it takes to have its mappings read.
    script = f"{tmp_path}/alpha; {tmp_path}/betaa"
    recorder = corelock.record(
        path, command=["setarch", "-R", "sh", "-c", script], follow=True, slow_ns=0
    )
    with recorder:
        assert recorder.pid is not None
        os.waitpid(recorder.pid, 0)
    with corelock.open_recording(path) as recording:
        stacks = dict(recording.stacks)
    ids: dict[str, set[int]] = defaultdict(set)
    for cycle in cycles_of(path):
        if cycle.comm in ("alpha", "betaa") and cycle.hold_stack:
            ids[cycle.comm].add(cycle.hold_stack)
    assert ids["alpha"] and ids["betaa"]
    assert not ids["alpha"] & ids["betaa"]
    for comm, of_comm in ids.items():
        found = {frame[1] for i in of_comm if i in stacks for frame in stacks[i].user if frame[1]}
        assert not {"alpha_fn", "betaa_fn"} & found - {f"{comm}_fn"}


def test_threads_that_do_the_same_share_a_stack(tmp_path: Path) -> None:
    few = Recorded(tmp_path / "2.corelock", "storm", 2, 200, slow_ns=0)
    many = Recorded(tmp_path / "32.corelock", "storm", 32, 200, slow_ns=0)
    assert few.result.complete and many.result.complete
    assert many.result.stacks < 3 * few.result.stacks


def test_a_recorder_that_is_not_closed_keeps_nobody_from_exiting(tmp_path: Path) -> None:
    code = (
        "import corelock, os, sys\n"
        f"recorder = corelock.record({str(tmp_path / 'a.corelock')!r}, pid=os.getpid())\n"
        "recorder.start()\n"
        "sys.exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 3


@pytest.mark.parametrize("path", [None, ""])
def test_no_file(path: Any) -> None:
    with pytest.raises(corelock.InvalidArgument, match="no file is named"):
        corelock.record(path, pid=os.getpid())
