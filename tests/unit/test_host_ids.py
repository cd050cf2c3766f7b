"""Ids of two pid namespaces: what is shown of each, and that nobody outside is mixed up."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from corelock.blame import Blame, Charge, Contention, ResolvedBlame
from corelock.export.blame import blame_members
from corelock.export.csvout import write_csv
from corelock.export.fields import target_fields
from corelock.export.jsonout import hold_times_object, slow_fields
from corelock.model import Row, Target
from corelock.render.blame import blame_lines
from corelock.render.blame_grouping import foreign_holders, pairs
from corelock.render.columns import OUTSIDE_LEGEND
from corelock.render.slow import event_lines
from corelock.render.table import hold_times_table
from tests import reports
from tests.reports import report, row, slow, times

MS = 1_000_000


def outside(comm: str, host_pid: int, key: int) -> Row:
    """Another process's reader, outside of the pid namespace."""
    one = row(comm, operation="read", mode="read", hold=times([2 * MS]), wait=times([9]))
    return replace(one, pid=0, tid=0, host_pid=host_pid, host_tid=host_pid, thread_key=key)


AGENT, OTHER = outside("agent", 900, 1), outside("agent", 901, 2)
INSIDE = replace(
    row("worker", 12, wait=times([8 * MS])), mm_pid=11, pid=11, host_pid=4210, host_tid=4211
)


def test_json_has_the_hosts_ids_where_they_differ() -> None:
    agent, inside, plain = hold_times_object(report(AGENT, INSIDE, row()))["rows"]
    ids = ["mm_pid", "pid", "tid", "mm_host_pid", "host_pid", "host_tid"]
    assert [agent.get(name) for name in ids] == [4210, 0, 0, None, 900, 900]
    assert [inside.get(name) for name in ids] == [11, 11, 12, 4210, 4210, 4211]
    assert [plain.get(name) for name in ids] == [4210, 4210, 4211, None, None, None]
    assert (agent["foreign"], inside["foreign"], plain["foreign"]) == (True, False, False)
    # An id may be the same by chance.
    same = hold_times_object(report(replace(INSIDE, tid=4211)))["rows"][0]
    assert "host_tid" not in same and same["host_pid"] == 4210


def test_slow_events_and_targets_have_them_too() -> None:
    one = slow()
    one = replace(one, event=replace(one.event, pid=0, tid=0, host_pid=900, host_tid=901))
    fields = slow_fields(one)
    assert (fields["pid"], fields["host_pid"], fields["host_tid"]) == (0, 900, 901)
    assert "mm_host_pid" not in fields
    assert target_fields(Target(11, "redis", 4210)) == {
        "pid": 11,
        "comm": "redis",
        "host_pid": 4210,
    }
    assert target_fields(Target(11, "redis", 11)) == {"pid": 11, "comm": "redis"}


def test_csv_has_columns_for_them() -> None:
    stream = io.StringIO()
    write_csv(stream, report(AGENT, row()))
    agent, plain = csv.DictReader(io.StringIO(stream.getvalue()))
    assert [agent[name] for name in ("mm_host_pid", "host_pid", "host_tid")] == ["", "900", "900"]
    assert [plain[name] for name in ("mm_host_pid", "host_pid", "host_tid")] == ["", "", ""]


def test_the_table_names_them_with_a_mark() -> None:
    shown = hold_times_table(report(AGENT, OTHER, INSIDE))
    assert sum("*agent[^900] " in line for line in shown) == 1
    assert sum("*agent[^901] " in line for line in shown) == 1
    assert OUTSIDE_LEGEND in shown
    assert OUTSIDE_LEGEND not in hold_times_table(report(INSIDE))


def test_slow_lines_name_them_with_a_mark() -> None:
    one = slow()
    one = replace(
        one, event=replace(one.event, tid=0, host_tid=900, host_pid=900, mm_pid=0, mm_host_pid=77)
    )
    header = next(event_lines(one, reports.START_NS, 120, with_process=False))
    assert "[^900] on redis-server[^77]" in header


def blamed() -> Blame:
    charges = [Charge(INSIDE, holder, "observed", 3 * MS, 1, 3 * MS) for holder in (AGENT, OTHER)]
    contention = Contention(INSIDE, 1, 8 * MS, 2 * MS, 0)
    return Blame(
        reports.START_NS, 10 * MS, (INSIDE, AGENT, OTHER), (contention,), tuple(charges), {}
    )


@pytest.mark.parametrize("by", ["thread", "process"])
def test_blame_keeps_processes_outside_apart(by: str) -> None:
    found = pairs(blamed(), by)
    assert sorted(pair.holder.who.id for pair in found if pair.holder.who) == [-901, -900]
    shown = list(blame_lines(report_of(blamed()), by=by, top=20, stacks=0, width=100))
    assert any("agent[^900] " in line for line in shown)
    assert OUTSIDE_LEGEND in shown


def report_of(blame: Blame) -> Any:
    return report(*blame.rows, blame=ResolvedBlame(blame, {}))


def test_foreign_holders_outside_are_two() -> None:
    found = foreign_holders(blamed())
    assert [(each.name, each.holds, each.charged_ns) for each in found] == [
        (("agent", -901), 1, 3 * MS),
        (("agent", -900), 1, 3 * MS),
    ]


def test_blame_json_names_both() -> None:
    members = dict(blame_members(ResolvedBlame(blamed(), {})))
    holders = [charge["holder"] for charge in members["charges"]]
    assert {(holder["pid"], holder["host_pid"]) for holder in holders} == {(0, 900), (0, 901)}
