"""Who was in whose way, against the same worked out from ftrace's events of the same run.

The witness charges every moment of a wait in which somebody had the lock. A
thread that is preempted between asking for the lock and queueing for it is in
nobody's way, yet holds overlap that "wait"; corelock leaves it unknown. So the
loads here keep the lock for milliseconds, and a run that the scheduler spoilt
is repeated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Optional

import pytest

import corelock
from corelock import HolderSampler
from corelock.blame import Blame, Charge
from corelock.symbolize import Symbolizer
from corelock.tracer import ATTACH, Attach
from tests.blame_witness import Due, agreement, blame
from tests.locks import let_queue
from tests.witness import Ftrace, on_process
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

ATTEMPTS = 5
SHARE = 0.95


def assert_balanced(found: Blame) -> None:
    """Charged and unknown are all there was."""
    assert found.unaccounted_ns == 0
    assert found.wait_ns == found.charged_ns + found.unknown_ns
    assert found.wait_ns == sum(row.wait.total_ns for row in found.rows)
    assert 0 <= found.uncontended_ns <= found.unknown_ns
    for each in found.contentions:
        of_row = (c.charged_ns for c in found.charges if c.waiter.key == each.row.key)
        assert each.wait_ns == sum(of_row) + each.unknown_ns
        assert each.unheld_ns <= each.unknown_ns
    for charge in found.charges:
        assert 0 < charge.longest_ns <= charge.charged_ns
        assert charge.longest_ns <= charge.waiter.wait.max_ns
        assert 0 < charge.waits <= charge.waiter.wait.count


def due(charge: Charge) -> Due:
    """A charge in the witness's terms."""
    waiter, holder = charge.waiter, charge.holder
    return Due(waiter.tid, waiter.mode == "write", holder.tid, holder.mode == "write")


class Run:
    """One workload traced by both: what corelock charges, and what is due."""

    def __init__(self, name: str, *arguments: int, attach: Optional[Attach] = None) -> None:
        with Workload(name, *map(str, arguments)) as workload:
            self.pid, self.extra = workload.pid, workload.extra
            tids = {workload.pid, *workload.tids}
            tracer = corelock.Tracer(pid=workload.pid, slow_ns=None, blame=True, attach=attach)
            with tracer, Ftrace() as ftrace:
                workload.run()
                events = ftrace.stop()
                tracer.stop()
                assert ftrace.lost == 0
                self.blame = tracer.blame()
                self.accounting = tracer.accounting()
            workload.finish()
        self.due, self.wait_ns = blame(on_process(events, tids))
        self.charged: Counter[Due] = Counter()
        for charge in self.blame.charges:
            self.charged[due(charge)] += charge.charged_ns

    def share(self, culprit: Callable[[Due], bool]) -> float:
        """Of what is due to the culprit, the share that was charged to it."""
        theirs = sum(ns for key, ns in self.due.items() if culprit(key))
        ours = sum(min(self.charged[key], ns) for key, ns in self.due.items() if culprit(key))
        return ours / theirs


def agreeing(name: str, *arguments: int, attach: Optional[Attach] = None) -> Run:
    """A run in which corelock and the witness agree."""
    shares = []
    for _ in range(ATTEMPTS):
        run = Run(name, *arguments, attach=attach)
        assert run.accounting.complete, run.accounting
        assert_balanced(run.blame)
        shares.append(agreement(run.charged, run.due))
        # Nor may anybody be charged with what is not due.
        extra = sum(max(0, ns - run.due.get(key, 0)) for key, ns in run.charged.items())
        if shares[-1] >= SHARE and extra <= (1 - SHARE) * sum(run.due.values()):
            return run
    pytest.fail(f"agreement in each of several runs: {shares}")


@pytest.mark.parametrize("attach", ATTACH)
def test_mprotect_of_a_large_region(attach: Attach) -> None:
    """One thread protects 1 GiB in a loop, another maps and unmaps."""
    run = agreeing("mprotect_large", 1024, 60, attach=attach)
    assert run.accounting.attached_by == attach
    culprit = max(run.blame.charges, key=lambda charge: charge.charged_ns)
    assert (culprit.holder.operation, culprit.holder.mode) == ("mprotect", "write")
    assert culprit.certainty == "observed"
    assert run.share(lambda key: key.holder == culprit.holder.tid) >= SHARE
    # Nearly all waiting there is, is for it.
    theirs = sum(ns for key, ns in run.charged.items() if key.holder == culprit.holder.tid)
    assert theirs >= SHARE * sum(run.due.values())


def test_foreign_reader_of_smaps() -> None:
    """Another process reads smaps of a large one, whose thread maps and unmaps."""
    run = agreeing("smaps_reader", 1024, 30, 1)
    (reader,) = run.extra
    culprit = max(run.blame.charges, key=lambda charge: charge.charged_ns)
    assert culprit.holder.pid == reader
    assert culprit.holder.foreign
    assert (culprit.holder.operation, culprit.holder.mode) == ("read", "read")
    assert culprit.holder.mm_pid == run.pid
    assert run.share(lambda key: key.holder == reader) >= SHARE


def test_reader_convoy() -> None:
    """Readers behind a queued writer are charged to the reader that keeps the writer out."""
    run = agreeing("smaps_reader", 1024, 30, 1, 1)
    (scanner,) = run.extra
    assert run.share(lambda key: key.holder == scanner and not key.waiter_write) >= SHARE
    by_readers = [
        c for c in run.blame.charges if c.holder.pid == scanner and c.waiter.operation == "mincore"
    ]
    assert sum(c.charged_ns for c in by_readers) > 0
    for charge in run.blame.charges:
        readers = charge.waiter.mode == charge.holder.mode == "read"
        assert readers == (charge.certainty == "convoy")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("storm", (4, 5000)), ("storm", (16, 500)), ("vfork_shared", ()), ("exec_midway", ())],
)
def test_charged_and_unknown_are_all(name: str, arguments: tuple[int, ...]) -> None:
    with Workload(name, *map(str, arguments)) as workload:
        with corelock.Tracer(pid=workload.pid, slow_ns=None, blame=True) as tracer:
            workload.run()
            tracer.stop()
            found, accounting = tracer.blame(), tracer.accounting()
        workload.finish()
    assert accounting.complete, accounting
    assert found.wait_ns > 0
    assert_balanced(found)


def test_no_room_for_charges() -> None:
    """What cannot be charged for want of room is unknown and counted; the sum holds."""
    for _ in range(ATTEMPTS):
        with Workload("storm", "24", "1500") as storm:
            # 120 rows are needed, and some 9,000 charges if all threads meet.
            with corelock.Tracer(pid=storm.pid, slow_ns=None, blame=True, max_rows=400) as tracer:
                storm.run()
                tracer.stop()
                found, accounting = tracer.blame(), tracer.accounting()
            storm.finish()
        assert accounting.lost["map_full"] == 0
        assert_balanced(found)
        if accounting.charges_full:
            assert not accounting.complete
            assert sum(each.unknown_ns - each.unheld_ns for each in found.contentions) > 0
            return
    pytest.fail("there was room for all charges in each of several runs")


def test_owner_word_where_no_hold_was_seen() -> None:
    """Of one thread alone no holds of others are seen; the lock's owner is a hint, and says so."""
    with Workload("mprotect_large", "1024", "60") as workload:
        # The first thread that was created; the other one protects.
        waiter = sorted(workload.tids)[1]
        with corelock.Tracer(tid=waiter, slow_ns=None, blame=True) as tracer:
            workload.run()
            tracer.stop()
            found = tracer.blame()
        workload.finish()
    assert_balanced(found)
    hints = [charge for charge in found.charges if charge.certainty == "owner-word"]
    assert sum(charge.charged_ns for charge in hints) > found.wait_ns / 2
    for charge in hints:
        assert (charge.holder.pid, charge.holder.comm) == (workload.pid, "mprotect_large")
        assert charge.holder.tid != waiter
        assert (charge.holder.operation, charge.holder.mode) == ("unknown", "write")


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_hold_that_began_before_tracing(mode: str) -> None:
    """It is seen to end; so it was held all the time, and is charged as any other."""
    with Workload("lock_chain", mode, "wrw") as chain, HolderSampler() as sampler:
        (holder,) = chain.extra
        chain.run()
        with corelock.Tracer(pid=chain.pid, slow_ns=None, blame=True) as tracer:
            let_queue(chain, sampler, 1)
            queued_ns = time.monotonic_ns()
            let_queue(chain, sampler, 2)
            # Lets go of all, and exits.
            held_ns = time.monotonic_ns() - queued_ns
            chain.finish()
            tracer.stop()
            found, accounting = tracer.blame(), tracer.accounting()
    assert accounting.held_at_start == 1
    assert_balanced(found)
    for number, waiter_mode in enumerate("wrw", 1):
        operation = "mprotect" if waiter_mode == "w" else "mincore"
        charges = [
            charge
            for charge in found.charges
            if (charge.waiter.comm, charge.waiter.operation) == (f"chain-{number}", operation)
            and charge.holder.tid == holder
            and charge.holder.operation == ("mmap" if mode == "write" else "pread64")
        ]
        (charge,) = charges
        # Whoever gives back a read lock need not be who took it.
        assert charge.certainty == ("observed" if mode == "write" else "owner-word")
        assert (charge.holder.comm, charge.holder.mode) == ("chain-holder", mode)
        if number == 1:
            assert charge.charged_ns >= held_ns


def test_examples_have_stacks() -> None:
    run = Run("mprotect_large", 256, 40)
    charge = max(run.blame.charges, key=lambda charge: charge.charged_ns)
    wait = run.blame.example(charge.waiter, "wait")
    hold = run.blame.example(charge.holder, "hold")
    assert wait is not None
    assert hold is not None
    assert wait.duration_ns >= charge.waiter.wait.max_ns / 2
    assert (wait.tid, hold.tid) == (charge.waiter.tid, charge.holder.tid)
    names = [frame.name for frame in Symbolizer().resolve(hold).kernel_stack]
    assert any("mprotect" in str(name) for name in names)


def test_blame_needs_its_option() -> None:
    with Workload("storm", "1", "1") as storm:
        with corelock.Tracer(pid=storm.pid) as tracer:
            with pytest.raises(corelock.InvalidArgument, match="blame=True"):
                tracer.blame()
            with pytest.raises(corelock.InvalidArgument, match="blame=True"):
                tracer.examples()


def test_taking_examples_asks_for_no_more_slow_events() -> None:
    """What slow_events() was told is too short stays unsent, whoever empties the ring."""
    cycles = 300
    with Workload("storm", "1", str(cycles)) as storm:
        with corelock.Tracer(pid=storm.pid, slow_ns=0, blame=True) as tracer:
            assert not list(tracer.slow_events(1 << 62, 1 << 62))
            assert not list(tracer.examples())
            storm.run()
            tracer.stop()
            accounting = tracer.accounting()
        storm.finish()
    # Examples of the few that were in somebody's way are sent all the same.
    assert accounting.events["released"] >= 3 * cycles
    assert accounting.slow_recorded < cycles
