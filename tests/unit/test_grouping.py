from __future__ import annotations

from itertools import combinations

import pytest

from corelock.model import Row
from corelock.render.grouping import BY_FIELDS, Group, Name, group
from tests import reports
from tests.reports import row, times


def totals(groups: list[Group]) -> tuple[int, ...]:
    return (
        sum(g.acquisitions for g in groups),
        sum(g.holds for g in groups),
        sum(g.wait.total_ns for g in groups),
        sum(g.hold.total_ns for g in groups),
        sum(g.hold.histogram.count for g in groups),
        max(g.hold.max_ns for g in groups),
        sum(g.downgrades for g in groups),
        sum(g.trylock_failures for g in groups),
        sum(g.aborted_waits for g in groups),
    )


def test_all_fields_keep_every_row() -> None:
    rows = reports.realistic_rows()
    groups = group(rows, BY_FIELDS)
    assert [(g.operation, g.mode, g.wait, g.hold) for g in groups] == [
        (r.operation, r.mode, r.wait, r.hold) for r in rows
    ]


@pytest.mark.parametrize("by", [c for n in range(4) for c in combinations(BY_FIELDS, n)])
def test_no_grouping_changes_a_sum(by: tuple[str, ...]) -> None:
    rows = reports.realistic_rows()
    assert totals(group(rows, by)) == totals(group(rows, BY_FIELDS))


def test_merged_times_are_those_of_all_values() -> None:
    rows = [
        row(operation="mmap", hold=times([10, 500])),
        row(operation="brk", hold=times([7])),
        row(operation="mmap", mode="read", hold=times([90_000])),
    ]
    mmap, brk = group(rows, ("operation",))
    assert mmap.hold == times([10, 500, 90_000])
    assert brk.hold == times([7])
    assert (mmap.operation, mmap.mode, mmap.thread, mmap.process) == ("mmap", None, None, None)


def test_a_thread_is_not_merged_across_address_spaces() -> None:
    rows = [row(mm=("a", 1), hold=times([1])), row(mm=("b", 2), hold=times([2]))]
    assert [g.process for g in group(rows, ("thread",))] == [Name("a", 1), Name("b", 2)]
    assert [g.holds for g in group(rows, ("operation", "mode"))] == [2]


def test_a_reused_tid_is_another_thread() -> None:
    def with_key(key: int) -> Row:
        fields = {name: getattr(row(), name) for name in Row.__slots__}
        return Row(**{**fields, "thread_key": key})

    assert len(group([with_key(1), with_key(2), with_key(1)], ("thread",))) == 2


def test_foreign_is_said_of_threads_only() -> None:
    rows = [row("htop", 999, pid=999)]
    assert [g.foreign for g in group(rows, ("thread",))] == [True]
    assert [g.foreign for g in group(rows, ("operation",))] == [False]


def test_unknown_field() -> None:
    with pytest.raises(ValueError, match="'tid', only by thread, operation, mode"):
        group([], ("tid",))
