"""The summary of a recording is that of a plain reference, cycle by cycle."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.analysis.batches import batches
from corelock.analysis.buckets import TimesByRow, buckets_of
from corelock.analysis.census import take_census
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source, open_sources
from corelock.analysis.summary import summarize
from corelock.histogram import BUCKETS, Histogram, bucket_bounds, bucket_of
from corelock.model import Report, Row
from corelock.symbolize.syscalls import operation_name
from tests import recordings
from tests.made_recordings import ROWS, plans, times_ns
from tests.recordings import START_NS, Cycle, Plan


@given(st.lists(st.one_of(times_ns, st.integers(0, 2**64 - 1)), min_size=1))
def test_buckets_are_those_of_bucket_of(values: list[int]) -> None:
    assert buckets_of(np.array(values, np.uint64)).tolist() == list(map(bucket_of, values))
    short = [value for value in values if value < 2**32]
    assert buckets_of(np.array(short, np.uint32)).tolist() == list(map(bucket_of, short))


def test_buckets_at_every_bound() -> None:
    bounds = [value for index in range(BUCKETS) for value in bucket_bounds(index)]
    around = [max(0, value + off) for value in bounds for off in (-1, 0, 1)]
    assert buckets_of(np.array(around, np.uint64)).tolist() == list(map(bucket_of, around))


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), times_ns))))
def test_times_by_row(parts: list[list[tuple[int, int]]]) -> None:
    times = TimesByRow(5)
    for part in parts:
        rows, values = (
            np.array(column, np.uint64) for column in (zip(*part) if part else ((), ()))
        )
        times.add(rows.astype(np.uint32), values)
    for row in range(5):
        of_row = [value for part in parts for at, value in part if at == row]
        found = times.times(row)
        assert (found.count, found.total_ns, found.max_ns) == (
            len(of_row), sum(of_row), max(of_row, default=0),
        )  # fmt: skip
        assert found.histogram == Histogram.of(of_row)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "a.rec"


@dataclass
class Reference:
    """One row by key, counted one by one."""

    downgrades: int = 0
    failures: int = 0
    aborted: int = 0
    waits: list[int] = field(default_factory=list)
    holds: list[int] = field(default_factory=list)

    def add(self, cycle: Cycle) -> None:
        ending = cycle.kind & 7
        self.downgrades += ending == 1
        self.failures += ending == 2
        self.aborted += ending == 3
        if ending in (0, 1, 4) and not cycle.kind & 8:
            self.waits.append(cycle.wait_ns)
        if ending in (0, 1):
            self.holds.append(cycle.hold_ns)

    @property
    def values(self) -> tuple[Any, ...]:
        return (
            self.downgrades, self.failures, self.aborted, len(self.waits), sum(self.waits),
            max(self.waits, default=0), Histogram.of(self.waits), len(self.holds),
            sum(self.holds), max(self.holds, default=0), Histogram.of(self.holds),
        )  # fmt: skip


def values(row: Row) -> tuple[Any, ...]:
    return (
        row.downgrades, row.trylock_failures, row.aborted_waits, row.wait.count,
        row.wait.total_ns, row.wait.max_ns, row.wait.histogram, row.hold.count,
        row.hold.total_ns, row.hold.max_ns, row.hold.histogram,
    )  # fmt: skip


def chosen(source: Source, plan: Plan, selection: Selection) -> list[Cycle]:
    """The cycles that a selection chooses, one by one."""

    def is_chosen(cycle: Cycle) -> bool:
        row = source.name(cycle.row)
        end = cycle.end_ns
        asked = end - cycle.wait_ns - cycle.hold_ns
        return (
            (selection.from_ns is None or end >= selection.from_ns)  # type: ignore[operator]
            and (selection.to_ns is None or asked <= selection.to_ns)  # type: ignore[operator]
            and selection.pid in (None, row.pid, row.mm_pid)
            and selection.tid in (None, row.tid)
            and selection.operation in (None, row.operation)
            and max(cycle.wait_ns, cycle.hold_ns) >= selection.min_ns
        )

    return [cycle for cycle in plan.all_cycles if is_chosen(cycle)]


def maybe(some: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | some


selections = st.builds(
    Selection, maybe(st.integers(0, 5 * 10**9)), maybe(st.integers(0, 5 * 10**9)),
    maybe(st.integers(0, 3)), maybe(st.integers(0, 5)), maybe(st.sampled_from(["mmap", "munmap"])),
    times_ns,
)  # fmt: skip


@given(plans(), selections)
@settings(deadline=None)
def test_the_summary_is_the_references(path: Path, plan: Plan, selection: Selection) -> None:
    [source] = open_sources([plan.write(path)])
    with source:
        cycles = chosen(source, plan, selection)
        references: defaultdict[Any, Reference] = defaultdict(Reference)
        for cycle in cycles:
            references[source.name(cycle.row).key].add(cycle)
        [(same, report)] = summarize([source], selection, slowest=4)
        assert same is source
        assert {row.key: values(row) for row in report.rows} == {
            key: each.values
            for key, each in references.items()
            if each.values != Reference().values
        }
        assert (report.accounting is None) == (not plan.ends)
        check_slow(report, source, cycles)


def check_slow(report: Report, source: Source, cycles: list[Cycle]) -> None:
    for kind, kinds in (("wait", (0, 1, 4)), ("hold", (0, 1))):
        of_kind = [
            (
                -(c.wait_ns if kind == "wait" else c.hold_ns),
                START_NS + c.end_ns - c.hold_ns - (c.wait_ns if kind == "wait" else 0),
                c,
            )
            for c in cycles
            if c.kind & 7 in kinds and not (kind == "wait" and c.kind & 8)
        ]
        of_kind.sort(key=lambda entry: entry[:2])
        events = [slow for slow in report.slow if slow.event.kind == kind]
        assert [(-e.event.duration_ns, e.event.start_ns) for e in events] == [
            entry[:2] for entry in of_kind[:4]
        ]
        for slow in events:
            same = [
                c for ns, at, c in of_kind
                if (-ns, at) == (slow.event.duration_ns, slow.event.start_ns)
            ]  # fmt: skip
            stacks = [c.wait_stack if kind == "wait" else c.hold_stack for c in same]
            expected = [source.recording.stacks[id_].kernel if id_ else () for id_ in stacks]
            assert tuple((f.address, f.name, f.offset, f.module) for f in slow.kernel_stack) in (
                expected
            )


@given(plans(), selections)
@settings(deadline=None)
def test_batches_have_the_chosen_cycles(path: Path, plan: Plan, selection: Selection) -> None:
    [source] = open_sources([plan.write(path)])
    with source:
        found = []
        for batch in batches(source, selection):
            stacks = {
                int(at): (int(wait), int(hold))
                for at, wait, hold in zip(batch.stacked, batch.wait_stack, batch.hold_stack)
            }
            columns = (batch.row, batch.end_ns, batch.wait_ns, batch.hold_ns, batch.kind)
            found += [
                Cycle(row, end - START_NS, wait, hold, kind, *stacks.get(at, (0, 0)))
                for at, (row, end, wait, hold, kind) in enumerate(
                    zip(*(column.tolist() for column in columns))
                )
            ]
            starts = batch.end_ns.astype(object) - batch.hold_ns - batch.wait_ns
            assert batch.start_ns.tolist() == list(starts)
        assert found == chosen(source, plan, selection)


def plan_of(some: list[list[Cycle]], rows: int = ROWS) -> Plan:
    return Plan(
        [recordings.process(1, 4021, "postgres")],
        [
            recordings.row(n, 1, n, 4021, 4020 + n, f"worker{n}", 11, n % 2)
            for n in range(1, rows + 1)
        ],
        some,
    )


def test_large_blocks_come_in_slices(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corelock.analysis.batches._MOST", 7)
    cycles = [Cycle(1 + i % 3, i, i, 2 * i, 0, i % 4 == 0, i % 6 == 0) for i in range(50)]
    [source] = open_sources([plan_of([cycles]).write(path)])
    with source:
        parts = list(batches(source, Selection()))
        assert [len(part) for part in parts] == [7] * 7 + [1]
        stacks = [
            (first + int(at), int(wait), int(hold))
            for first, part in zip(range(0, 50, 7), parts)
            for at, wait, hold in zip(part.stacked, part.wait_stack, part.hold_stack)
        ]
        assert stacks == [
            (i, c.wait_stack, c.hold_stack)
            for i, c in enumerate(cycles)
            if c.wait_stack or c.hold_stack
        ]
        [(_, report)] = summarize([source], Selection(), slowest=3)
        assert sum(row.hold.count for row in report.rows) == 50
        assert [slow.event.duration_ns for slow in report.slow] == [49, 48, 47, 98, 96, 94]


def test_all_chosen_is_not_copied(path: Path) -> None:
    [source] = open_sources([plan_of([[Cycle(1, i, i, i) for i in range(9)]]).write(path)])
    with source:
        [batch] = batches(source, Selection(from_ns=0, to_ns=9))
        for column in (batch.wait_ns, batch.hold_ns, batch.row, batch.kind):
            assert not column.flags.writeable
        del batch, column


def test_progress_goes_to_its_end(path: Path) -> None:
    some = [[Cycle(1, i * 1000 + k) for k in range(9)] for i in range(5)]
    [source] = open_sources([plan_of(some).write(path)])
    with source:
        seen: list[tuple[int, int]] = []
        list(batches(source, Selection(from_ns=2500), lambda *at: seen.append(at)))
    total = seen[-1][1]
    assert seen[-1][0] == total == sum(len(recordings.cycles(part)) for part in some)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_long_cycle_reaches_back_over_blocks(path: Path) -> None:
    long = Cycle(1, 60 * 10**9, 0, 50 * 10**9)
    [source] = open_sources([plan_of([[Cycle(2, 1)], [long], [Cycle(2, 61 * 10**9)]]).write(path)])
    with source:

        def ends(from_s: int, to_s: int) -> list[int]:
            selection = Selection(from_s * 10**9, to_s * 10**9)
            return [
                int(end) - START_NS for batch in batches(source, selection) for end in batch.end_ns
            ]

        assert ends(5, 9) == []
        assert ends(5, 10) == [long.end_ns]
        assert ends(0, 9) == [1]
        assert ends(60, 60) == [long.end_ns]
        assert ends(61, 99) == [61 * 10**9]


def census_of(path: Path) -> Any:
    [source] = open_sources([path])
    with source:
        return take_census(source)


@given(plans())
def test_the_census_fits(path: Path, plan: Plan) -> None:
    census = census_of(plan.write(path))
    ended = sum(c.kind & 7 < 4 for c in plan.all_cycles)
    # Rows are named from 1 on; kinds 4 and 5 had not ended.
    assert (census.read, census.ended, census.nameless) == (len(plan.all_cycles), ended, 0)
    assert census.counted == (ended if plan.ends else None)
    assert census.unaccounted == (0 if plan.ends else None)
    assert census.unread == (0 if plan.ends else None)


def footer_of(plan: Plan, **more: Any) -> bytes:
    return recordings.as_json(recordings.fitting_footer(plan.all_cycles, **more))


@pytest.mark.parametrize(
    ("lost", "counted", "unaccounted"), [(2, 5, 0), (2, 6, 1), (0, 2, -1), (0, 3, 0)]
)
def test_what_does_not_fit_is_unaccounted(
    path: Path, lost: int, counted: int, unaccounted: int
) -> None:
    plan = plan_of([[Cycle(1, 1), Cycle(1, 2), Cycle(1, 3), Cycle(1, 4, kind=4)]])
    more = {
        "cycles": {"written": 4, "lost": {"ring_full": lost, "not_written": 0}},
        "totals": {"waits": 4, "holds": counted, "downgrades": 0, "failures": 0},
    }
    recordings.write(path, [*plan.blocks()[:-1], (6, footer_of(plan, **more))])
    census = census_of(path)
    assert (census.unaccounted, census.unread) == (unaccounted, 0)


def test_more_or_fewer_than_were_written(path: Path) -> None:
    plan = plan_of([[Cycle(1, 1), Cycle(1, 2)], [Cycle(1, 3)]])
    blocks = plan.blocks()
    damaged = bytearray(recordings.contents(blocks))
    first = len(recordings.contents(blocks[:3])) + 24
    damaged[first] ^= 1
    path.write_bytes(damaged)
    census = census_of(path)
    assert (census.read, census.unread, census.unaccounted) == (1, 2, None)
    assert census.damage.corrupt_blocks == 1
    # Nothing is damaged, and still fewer, or more, are there than were written.
    for written, unaccounted in ((4, -1), (2, 1)):
        cycles = {"written": written, "lost": {}}
        recordings.write(path, [*blocks[:-1], (6, footer_of(plan, cycles=cycles))])
        assert census_of(path).unaccounted == unaccounted


def test_cycles_of_rows_that_are_lost_are_counted(path: Path) -> None:
    plan = plan_of([[Cycle(1, 1), Cycle(2, 2), Cycle(9, 3), Cycle(2**32 - 1, 4), Cycle(0, 5)]], 2)
    plan.write(path)
    census = census_of(path)
    assert (census.read, census.nameless, census.unaccounted) == (5, 3, 0)
    [source] = open_sources([path])
    with source:
        assert [batch.row.tolist() for batch in batches(source, Selection())] == [[1, 2]]
    recordings.write(path, [block for block in plan.blocks() if block[0] != 3])
    [source] = open_sources([path])
    with source:
        assert list(batches(source, Selection())) == []
        [(_, report)] = summarize([source], Selection())
        assert report.rows == report.slow == ()
        assert take_census(source).nameless == 5


def test_numbers_of_rows_are_bounded(path: Path) -> None:
    huge = recordings.row(2**32 - 2, 1, 1, 1, 1, "x", 9, 0)
    plan = plan_of([[Cycle(1, 1), Cycle(2**32 - 2, 2)]], 1)
    recordings.write(path, [*plan.blocks(), (3, huge)])
    [source] = open_sources([path])
    with source:
        assert len(source.row_table) == 2
        assert take_census(source).nameless == 1


def names(source: Source, number: int) -> tuple[str, str, Optional[int]]:
    row = source.name(number)
    return row.mm_comm, row.comm, row.process_key


def test_names_are_those_read_last(path: Path) -> None:
    processes = [
        recordings.process(1, 50, "bash", start_ns=7),
        recordings.process(2, 50, "make", start_ns=7),  # after exec
        recordings.process(3, 50, "sh", start_ns=8),  # the pid again
        recordings.process(4, 0, "fork", host_pid=0),
        recordings.process(4, 51, "cc1", start_ns=9),  # the last entry counts
    ]
    rows = [
        recordings.row(1, 1, 1, 50, 50, "bash", 11, 1, named_ns=1),
        recordings.row(2, 2, 1, 50, 50, "make", 11, 1, named_ns=5),
        recordings.row(3, 3, 2, 50, 50, "sh\t", 0x20001, 0),
        recordings.row(4, 4, 3, 51, 51, "cc1", 5, 0),
        recordings.row(5, 9, 3, 51, 51, "cc1", 5, 0),
    ]
    cycles = [Cycle(number, number, 1, 1) for number in range(1, 6)]
    [source] = open_sources([Plan(processes, rows, [cycles]).write(path)])
    with source:
        assert names(source, 1) == names(source, 2) == ("make", "make", 1)
        assert names(source, 3) == ("sh", "sh\\x09", 3)
        assert source.name(3).operation == "sh\\x09"
        assert names(source, 4) == ("cc1", "cc1", 4)
        assert names(source, 5) == ("?", "cc1", 9)
        assert source.name(4).operation == operation_name(5, "cc1", "x86_64")
        with pytest.raises(KeyError):
            source.name(6)
        [(_, report)] = summarize([source], Selection())
        assert len(report.rows) == 4
        assert source.row_table.mm_pid.tolist() == [0, 50, 50, 50, 51, 0]
        assert source.row_table.known.tolist() == [False] + [True] * 5


def test_high_numbers_of_rows_take_little_memory(path: Path) -> None:
    number = (1 << 23) - 1
    plan = Plan(
        [recordings.process(1, 4021, "postgres")],
        [recordings.row(n, 1, n, 4021, 4021, "postgres", 11, 1) for n in (1, number)],
        [[Cycle(1, 1, 5, 7), Cycle(number, 2, 6, 9)]],
    )
    [source] = open_sources([plan.write(path)])
    with source:
        [(_, report)] = summarize([source], Selection())
        assert [(row.wait.total_ns, row.hold.total_ns) for row in report.rows] == [(5, 7), (6, 9)]
