"""What is one process, and what things are called in the end."""

from __future__ import annotations

from dataclasses import replace

from corelock._rows import Reading, assemble
from corelock.histogram import Histogram
from corelock.model import Row, Times


def times(*values_ns: int) -> Times:
    return Times(len(values_ns), sum(values_ns), max(values_ns), 0, Histogram.of(values_ns))


def reading(
    mm: int = 1, thread: int = 1, *, pid: int = 7, comm: str = "a", named: int = 1, start: int = 5
) -> Reading:
    row = Row(
        process_key=mm, thread_key=thread, mm_pid=pid, mm_host_pid=pid, mm_comm=f"p{mm}", pid=7,
        tid=70 + thread, host_pid=7, host_tid=70 + thread, comm=comm, mode="write",
        operation="mmap", downgrades=1, trylock_failures=0, aborted_waits=0,
        wait=times(3), hold=times(10 * mm),
    )  # fmt: skip
    return Reading(row, named, start)


def test_exec_gives_one_process_two_mms_and_its_last_name() -> None:
    (row,) = assemble([reading(mm=1), reading(mm=2)])
    assert (row.process_key, row.mm_comm) == (1, "p2")
    assert (row.acquisitions, row.downgrades) == (2, 2)
    assert (row.hold.count, row.hold.total_ns, row.hold.max_ns) == (2, 30, 20)
    assert row.hold.histogram == Histogram.of([10, 20])


def test_a_reused_pid_is_another_process() -> None:
    rows = assemble([reading(mm=1, start=5), reading(mm=2, start=6)])
    assert [row.process_key for row in rows] == [1, 2]
    assert [row.mm_comm for row in rows] == ["p1", "p2"]


def test_children_without_a_pid_are_told_apart() -> None:
    rows = assemble([reading(mm=1, pid=0), reading(mm=2, pid=0)])
    assert [row.process_key for row in rows] == [1, 2]
    assert not any(row.foreign for row in rows)


def outside(one: Reading, host_pid: int) -> Reading:
    """As of a process outside of the tracer's pid namespace."""
    return one._replace(row=replace(one.row, mm_pid=0, mm_host_pid=host_pid, pid=0, tid=0))


def test_processes_outside_are_told_apart_by_their_pids_on_the_host() -> None:
    one, executed, other = (
        outside(reading(mm=mm), host_pid) for mm, host_pid in ((1, 90), (2, 90), (3, 91))
    )
    rows = assemble([one, executed, other])
    assert [(row.process_key, row.mm_comm, row.hold.count) for row in rows] == [
        (1, "p2", 2),
        (3, "p3", 1),
    ]
    assert rows[0].foreign and rows[1].foreign


def test_a_thread_has_the_name_it_had_last() -> None:
    older = reading(mm=1, comm="old", named=1)
    newer = reading(mm=2, start=6, comm="new", named=2)
    assert {row.comm for row in assemble([newer, older])} == {"new"}


def test_a_reused_tid_is_another_thread() -> None:
    one, two = reading(thread=1), reading(thread=2)
    two = two._replace(row=replace(two.row, tid=one.row.tid))
    assert len(assemble([one, two])) == 2


def test_rows_without_events_are_left_out() -> None:
    idle = reading()
    nothing = Times(0, 0, 0, 0, Histogram())
    idle = idle._replace(row=replace(idle.row, wait=nothing, hold=nothing))
    assert assemble([idle]) == ()
