from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from corelock.analysis.selection import Selection
from corelock.export.csvout import COLUMNS
from tests import recordings
from tests.exported import exported, holds, totals, waits
from tests.made_recordings import plans
from tests.recordings import START_NS, Cycle, Plan

PROCESSES = [recordings.process(1, 40, "server"), recordings.process(2, 50, "reader")]
ROWS = [
    recordings.row(1, 1, 1, 40, 41, 'wor"ker,', 11, 1),
    recordings.row(2, 1, 2, 50, 52, "other", 9, 0),
]
CYCLES = [
    Cycle(1, 10_000_000, 80, 9_000_000),
    Cycle(2, 10_500_000, 5_000_000, 499_000, 16),
    Cycle(1, 12_000_000, 60, 0, 2),
]


def object_of(*paths: Path, **options: Any) -> dict[str, Any]:
    text = exported("json", *paths, **options)[0]
    assert text.count("\n") == 1 and text.isascii()
    return dict(json.loads(text))


def lines_of(*paths: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported("csv", *paths)[0], newline="")))


def test_the_object(tmp_path: Path) -> None:
    whole = object_of(Plan(PROCESSES, ROWS, [CYCLES]).write(tmp_path / "r", command=["x", "y"]))
    assert list(whole) == ["schema", "selection", "recordings"]
    assert whole["schema"] == "corelock.report/1"
    assert whole["selection"] == {
        "from_ns": None, "to_ns": None, "pid": None, "tid": None, "operation": None, "min_ns": 0
    }  # fmt: skip
    (recording,) = whole["recordings"]
    assert list(recording) == [
        "label", "id", "command", "slow_ns", "start_wall_ns", "recorded", "damage", "cycles",
        "host", "target", "cgroup", "start_ns", "duration_ns", "rows", "slow", "blame",
        "accounting",
    ]  # fmt: skip
    assert recording["recorded"] == {
        "start_ns": START_NS, "duration_ns": 12_000_000, "ended_by": "duration",
        "suspended_ns": 0, "set_ns": 0,
    }  # fmt: skip
    assert recording["start_wall_ns"] == recordings.header()["clock"]["realtime_ns"]
    assert recording["damage"] == {
        "cut": False, "corrupt_blocks": 0, "missing_blocks": 0, "skipped_bytes": 0
    }  # fmt: skip
    assert recording["cycles"] == {
        "read": 3, "nameless": 0, "written": 3, "lost": {"ring_full": 0, "not_written": 0},
        "stacks_lost": {"ring_full": 0, "stack_failed": 0, "table_full": 0}, "unaccounted": 0,
    }  # fmt: skip
    assert recording["label"] == "db7" and recording["command"] == ["x", "y"]


def test_blame_is_in_it(tmp_path: Path) -> None:
    (recording,) = object_of(Plan(PROCESSES, ROWS, [CYCLES]).write(tmp_path / "r"))["recordings"]
    (charge,) = recording["blame"]["charges"]
    assert (charge["waiter"]["tid"], charge["holder"]["tid"]) == (52, 41)
    assert recording["blame"]["wait_ns"] == 5_000_080


@settings(max_examples=40)
@given(plans())
def test_rows_have_all_times_in_json_and_in_csv(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = plan.write(Path(folder, "r"))
        (recording,) = object_of(path)["recordings"]
        lines = lines_of(path)
        source = exported("csv", path)[1][0]

    def who(cycle: Cycle) -> tuple[int, str, str]:
        row = source.name(cycle.row)
        return row.tid, row.mode, row.operation

    for what, some in (("hold", holds(plan.all_cycles)), ("wait", waits(plan.all_cycles))):
        times, counts = Counter[Any](), Counter[Any]()
        for row in recording["rows"]:
            at = row["tid"], row["mode"], row["operation"]
            times[at] += row[f"{what}_ns"]["total"]
            counts[at] += row[f"{what}_ns"]["count"]
        of_csv = Counter[Any]()
        for line in lines:
            at = int(line["tid"]), line["mode"], line["operation"]
            of_csv[at] += int(line[f"{what}_total_ns"])
        by_tid = _by_tid(totals(plan.all_cycles, who, what))
        assert _by_tid(times) == _by_tid(of_csv) == by_tid
        assert sum(counts.values()) == len(some)
    assert recording["cycles"]["read"] == len(plan.all_cycles)
    assert recording["damage"]["cut"] is not plan.ends


def _by_tid(sums: dict[Any, int]) -> Counter[tuple[str, str]]:
    """By mode and operation: in made-up recordings a thread may have several tids."""
    merged = Counter[tuple[str, str]]()
    for (_, mode, operation), total in sums.items():
        merged[mode, operation] += total
    return +merged


def test_csv_has_the_columns_of_hold_times_and_the_host(tmp_path: Path) -> None:
    plan = Plan(PROCESSES, ROWS, [CYCLES])
    paths = plan.write(tmp_path / "a", id="a"), plan.write(tmp_path / "b", id="b")
    lines = lines_of(*paths)
    assert list(lines[0]) == [*COLUMNS, "host"]
    assert [(line["comm"], line["host"], line["hold_total_ns"]) for line in lines] == [
        ('wor"ker,', "db7", "9000000"), ("other", "db7", "499000"),
        ('wor"ker,', "db7 (2)", "9000000"), ("other", "db7 (2)", "499000"),
    ]  # fmt: skip
    assert [line["foreign"] for line in lines] == ["false", "true"] * 2


def test_only_what_was_chosen(tmp_path: Path) -> None:
    path = Plan(PROCESSES, ROWS, [CYCLES]).write(tmp_path / "r")
    whole = object_of(path, selection=Selection(from_ns=10_200_000, tid=52))
    assert whole["selection"]["tid"] == 52
    (recording,) = whole["recordings"]
    assert [row["tid"] for row in recording["rows"]] == [52]
    assert recording["start_ns"] == START_NS + 10_200_000
    assert recording["recorded"]["start_ns"] == START_NS


def test_recordings_without_cycles_and_without_an_end(tmp_path: Path) -> None:
    empty = Plan(PROCESSES, ROWS, []).write(tmp_path / "a", id="a")
    cut = Plan(PROCESSES, ROWS, [CYCLES], ends=False).write(tmp_path / "b", id="b")
    first, second = object_of(empty, cut)["recordings"]
    assert first["rows"] == first["slow"] == [] and not first["damage"]["cut"]
    assert second["damage"]["cut"] and second["accounting"] is None
    assert second["cycles"]["written"] is None and second["recorded"]["ended_by"] is None
    assert len(lines_of(empty)) == 0
