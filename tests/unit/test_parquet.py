"""Recordings as Parquet: every column of every cycle, and what of it is known to be missing."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from corelock.analysis.selection import Selection
from corelock.analysis.source import open_sources
from corelock.export import parquet
from corelock.export.recordings import format_named
from corelock.recording import CYCLES, FOOTER, HEADER, NO_WAIT, PROCESSES, ROWS
from tests import recordings
from tests.fleet import HOLD_STACK, SLOW_NS, WAIT_STACK, Known, Load, start_unix_ns
from tests.recordings import LONG, START_NS, Cycle

SHIFT_NS = 3_600 * 10**9


def exported(*paths: Path, selection: Selection = Selection()) -> Any:  # noqa: B008
    stream = io.BytesIO()
    sources = open_sources(paths)
    format_named("parquet").write(stream, sources, selection)
    for source in sources:
        source.recording.close()
    return pyarrow.parquet.ParquetFile(io.BytesIO(stream.getvalue()))


def expected(one: Known, host: str, shift_ns: int) -> dict[str, Any]:
    """A row, by what is known of the cycle."""
    cycle, thread, blocker = one.cycle, one.thread, one.blocker
    wall_us = start_unix_ns(one, shift_ns) // 1000
    return {
        "host": host,
        "boot_id": f"boot of {host}",
        "recording": f"{host}-{shift_ns}",
        "pid": thread.pid,
        "tid": thread.tid,
        "comm": thread.comm,
        "mm_pid": thread.mm_pid,
        "mm_comm": thread.mm_comm,
        "mm": thread.mm,
        "foreign": thread.pid != thread.mm_pid,
        "mode": thread.mode,
        "operation": thread.operation,
        "outcome": ("released", "downgraded")[cycle.kind & 7],
        "contended": bool(cycle.kind & 16),
        "start_time": wall_us,
        "start_ns": START_NS + one.asked_ns,
        "wait_ns": None if cycle.kind & NO_WAIT else cycle.wait_ns,
        "hold_ns": cycle.hold_ns,
        "blocker_pid": blocker and blocker.pid,
        "blocker_tid": blocker and blocker.tid,
        "blocker_comm": blocker and blocker.comm,
        "blocker_mode": blocker and blocker.mode,
        "blocker_operation": blocker and blocker.operation,
        "blocked_ns": one.blocked_ns if blocker else None,
        "wait_stack": WAIT_STACK if cycle.wait_ns >= SLOW_NS else None,
        "hold_stack": HOLD_STACK if cycle.hold_ns >= SLOW_NS else None,
    }


def rows_of(file: Any) -> list[dict[str, Any]]:
    table = file.read()
    at = table.schema.get_field_index("start_time")
    table = table.set_column(at, "start_time", table.column(at).cast("int64"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_every_column_of_every_cycle_of_several_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 900)
    load = Load(3000, seed=5)
    paths = [
        load.write(tmp_path / "a", "db1"), load.write(tmp_path / "b", "db2", SHIFT_NS),
    ]  # fmt: skip
    file = exported(*paths)
    assert rows_of(file) == [
        expected(one, host, shift_ns)
        for host, shift_ns in (("db1", 0), ("db2", SHIFT_NS))
        for one in load.known
    ]
    assert file.metadata.num_row_groups == 6
    assert any(one.blocker is not None and one.blocker.mode == "read" for one in load.known)
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types["start_time"] == "timestamp[us, tz=UTC]"
    assert {types[name] for name in ("pid", "wait_ns", "blocked_ns")} == {"int64"}
    column = file.metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "RLE_DICTIONARY" in column.encodings


def test_metadata_has_what_each_recording_says_of_itself(tmp_path: Path) -> None:
    load = Load(30, seed=5)
    paths = [load.write(tmp_path / "a", "db1"), load.write(tmp_path / "b", "db2", SHIFT_NS)]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])  # without the footer
    said = json.loads(exported(*paths).metadata.metadata[parquet.METADATA_KEY.encode()])
    assert [one["header"]["host"]["hostname"] for one in said] == ["db1", "db2"]
    assert said[0]["footer"]["cycles"]["written"] == len(load.known)
    assert [one["damage"]["cut"] for one in said] == [False, True]
    assert said[1]["footer"] is None


def test_what_is_chosen_has_the_same_blockers(tmp_path: Path) -> None:
    load = Load(600, seed=6)
    path = load.write(tmp_path / "a", "db1")
    file = exported(path, selection=Selection(tid=4023, min_ns=20_000))
    assert rows_of(file) == [
        expected(one, "db1", 0)
        for one in load.known
        if one.thread.tid == 4023 and max(one.cycle.wait_ns, one.cycle.hold_ns) >= 20_000
    ]


def test_what_did_not_happen_has_no_time(tmp_path: Path) -> None:
    endings = ["released", "downgraded", "failed", "aborted", "holding", "waiting"]
    cycles = [Cycle(1, 1000 * i, 100 + i, 200 + i, kind=i) for i in range(6)]
    cycles.append(Cycle(1, 6000, LONG + 5, LONG, kind=0))
    path = recordings.write(
        tmp_path / "a",
        [
            (HEADER, recordings.as_json(recordings.header())),
            (PROCESSES, recordings.process(1, 10, "server")),
            # A name that is no UTF-8, and a thread outside of the recorder's pid namespace.
            (ROWS, recordings.row(1, 1, 1, 0, 0, "a", 0x20000, 0).replace(b"a\0", b"\xff\0", 1)),
            (CYCLES, recordings.cycles(cycles)),
            (FOOTER, recordings.as_json(recordings.footer(7, 7000))),
        ],
    )
    rows = rows_of(exported(path))
    assert [row["outcome"] for row in rows] == [*endings, "released"]
    assert [row["wait_ns"] for row in rows] == [100, 101, 102, 103, 104, 105, LONG + 5]
    assert [row["hold_ns"] for row in rows] == [200, 201, None, None, 204, None, LONG]
    assert {row["operation"] for row in rows} == {"page-fault"}
    assert {row["comm"] for row in rows} == {"\\xff"}


def test_a_recording_without_cycles_is_a_table_without_rows(tmp_path: Path) -> None:
    header = recordings.as_json(recordings.header())
    file = exported(recordings.write(tmp_path / "a", [(HEADER, header)]))
    assert file.metadata.num_rows == 0
    assert file.schema_arrow.names == parquet.SCHEMA.names


def test_start_time_goes_by_the_clock_that_was_told_then(tmp_path: Path) -> None:
    cycle = [Cycle(1, 1000, 10, 10)]
    set_ns = 7_000_000_000
    offset_ns = recordings.REALTIME_OFFSET_NS
    path = recordings.write(
        tmp_path / "a",
        [
            (HEADER, recordings.as_json(recordings.header())),
            (PROCESSES, recordings.process(1, 10, "server")),
            (ROWS, recordings.row(1, 1, 1, 10, 10, "server", 9, 1)),
            (CYCLES, recordings.cycles(cycle)),
            (CYCLES, recordings.cycles([Cycle(1, 10**9, 10, 10)], offset_ns + set_ns)),
        ],
    )
    first, second = exported(path).read()["start_time"].to_pylist()
    assert first.tzinfo is not None
    start = datetime.fromtimestamp((START_NS + offset_ns) // 10**9, timezone.utc)
    assert (first - start).total_seconds() < 0.001
    assert (second - start).total_seconds() == pytest.approx(8.0, abs=0.001)
