"""What is being counted, look by look, against the rows; and whom single waits were due to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

import pytest

import corelock
from corelock.activity import Active, Activity
from corelock.errors import InvalidArgument
from corelock.render.grouping import group
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


def sums(groups: Iterable[Active]) -> tuple[int, ...]:
    totals = [(g.waits, g.wait_ns, g.holds, g.hold_ns) for g in groups]
    return tuple(map(sum, zip(*totals))) or (0, 0, 0, 0)


def row_sums(rows: Sequence[corelock.Row]) -> tuple[int, ...]:
    totals = [(r.wait.count, r.wait.total_ns, r.hold.count, r.hold.total_ns) for r in rows]
    return tuple(map(sum, zip(*totals)))


def looks(activity: Activity) -> list[tuple[int, ...]]:
    whole = () if activity.whole is None else (activity.whole,)
    return [sums(whole), sums(activity.threads), sums(activity.operations)]


def test_one_look_at_all_there_was_is_what_the_rows_have() -> None:
    with Workload("many_threads", "200", "20") as load:
        with corelock.Tracer(pid=load.pid) as tracer:
            load.run()
            tracer.stop()
            activity, rows = tracer.activity(), tracer.snapshot().rows
            again = tracer.activity()
        load.finish()
    assert looks(activity) == [row_sums(rows)] * 3
    assert looks(again) == [(0, 0, 0, 0)] * 3
    by_thread = {g.thread.id: g for g in group(rows, ["thread"]) if g.thread}
    assert len(activity.threads) == len(by_thread) == 200
    for one in activity.threads:
        of_rows = by_thread[one.tid]
        assert one.wait_p99_ns == of_rows.wait.quantile(0.99)
        assert one.hold_p99_ns == of_rows.hold.quantile(0.99)
    by_operation = {(g.operation, g.mode): g for g in group(rows, ["operation", "mode"])}
    for one in activity.operations:
        of_rows = by_operation[one.operation, one.mode]
        assert (one.waits, one.holds) == (of_rows.wait.count, of_rows.hold.count)
        assert one.wait_p99_ns == of_rows.wait.quantile(0.99)


def test_looks_add_up_while_it_goes_on() -> None:
    """Each event is in one look, whichever, and in no other."""
    with Workload("many_threads", "50", "2000") as load:
        with corelock.Tracer(pid=load.pid) as tracer:
            load.go()
            taken = [tracer.activity() for _ in range(50)]
            load.wait_done()
            tracer.stop()
            taken += [tracer.activity(), tracer.activity()]
            expected = row_sums(tracer.snapshot().rows)
        load.finish()
    assert sum(1 for each in taken if each.whole) > 1
    for part in 0, 1, 2:
        added = tuple(map(sum, zip(*(looks(each)[part] for each in taken))))
        assert added == expected
    for before, after in zip(taken, taken[1:]):
        assert before.start_ns + before.duration_ns == after.start_ns


def test_a_thread_keeps_its_key() -> None:
    with Workload("many_threads", "2", "10") as load:
        with corelock.Tracer(pid=load.pid) as tracer:
            load.run()
            first = tracer.activity()
            again = tracer.activity()  # what was active is looked at once more
        load.finish()
    assert len({each.key for each in first.threads}) == 2
    assert {each.key for each in again.threads} <= {each.key for each in first.threads}


def test_exec_goes_on_with_the_same_thread() -> None:
    with corelock.Tracer(command=["/bin/sh", "-c", "exec /bin/true"]) as tracer:
        assert tracer.pid is not None
        os.waitpid(tracer.pid, 0)
        tracer.stop()
        activity, rows = tracer.activity(), tracer.snapshot().rows
    (thread,) = activity.threads
    assert thread.comm == "true"
    assert sums([thread]) == row_sums(rows)


def test_a_wait_is_blamed_on_who_held() -> None:
    with Workload("smaps_reader", "256", "20", "1", "0", "smaps_rollup") as load:
        with corelock.Tracer(pid=load.pid, blame=True, examples=False) as tracer:
            reader = load.extra[0]
            load.run()
            tracer.stop()
            waits = [event for event in tracer.slow_events() if event.kind == "wait"]
            blames = [tracer.blame_of(wait) for wait in waits]
        load.finish()
    behind = [
        (wait, blame)
        for wait, blame in zip(waits, blames)
        if wait.pid == load.pid and wait.mode == "write"
    ]
    assert behind, "no writer waited for the reader of smaps_rollup"
    for wait, blame in behind:
        assert blame.charges
        assert blame.charges[0].holder.tid == reader
        assert blame.charges[0].holder.foreign
        if blame.exact:
            charged_ns = sum(each.charged_ns for each in blame.charges)
            assert wait.duration_ns // 2 <= charged_ns <= wait.duration_ns
    # Of each row, the wait that was charged last is known for itself.
    assert any(blame.exact for _, blame in behind)


def test_without_examples_none_are_sent() -> None:
    with Workload("smaps_reader", "64", "20", "1") as load:
        with corelock.Tracer(pid=load.pid, blame=True, examples=False, slow_ns=None) as tracer:
            load.run()
            tracer.stop()
            assert not list(tracer.examples())
            assert tracer.accounting().slow_recorded == 0
            assert tracer.blame().charged_ns
        load.finish()


def test_the_longest_alone_are_given() -> None:
    with Workload("storm", "4", "500") as load:
        with corelock.Tracer(pid=load.pid, slow_ns=0, ring_bytes=1 << 26) as tracer:
            load.run()
            tracer.stop()
            longest = {row.key: row.wait.max_ns for row in tracer.snapshot().rows}
            given = list(tracer.slow_events(longest_only=True))
            lost = tracer.accounting().slow_lost["ring_full"]
        load.finish()
    if not lost:
        waits = [event.duration_ns for event in given if event.kind == "wait"]
        assert max(waits) == max(longest.values())
    assert given


def test_losses_are_those_of_the_accounting() -> None:
    with Workload("many_threads", "30", "5") as load:
        with corelock.Tracer(pid=load.pid, max_rows=4) as tracer:
            load.run()
            tracer.stop()
            assert tracer.losses() == tracer.accounting().losses
            assert tracer.losses()["map_full"]
        load.finish()


def test_blame_needs_charges() -> None:
    with Workload("storm", "1", "1") as load, corelock.Tracer(pid=load.pid) as tracer:
        with pytest.raises(InvalidArgument, match="charges no waits"):
            tracer.blame_of(None)  # type: ignore[arg-type]


def test_looking_is_cheap() -> None:
    """A thousand threads, a look a second: the limit is a thirtieth of a core and not reached."""
    with Workload("many_threads", "1000", "5") as load:
        with corelock.Tracer(pid=load.pid) as tracer:
            load.run()
            tracer.activity()
            spent = []
            for _ in range(5):
                began = time.thread_time()
                tracer.activity()
                spent.append(time.thread_time() - began)
            assert min(spent) < 0.03
        load.finish()
