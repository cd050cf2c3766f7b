"""``corelock record``, then ``corelock report --format parquet``, then SQL."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import corelock
from corelock.recording import ENDING, NO_WAIT
from tests.cli.command import Corelock, run
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


def test_what_was_recorded_is_in_the_table(tmp_path: Path) -> None:
    recording, table = tmp_path / "storm.clk", tmp_path / "storm.parquet"
    with Workload("storm", "4", "2000") as storm:
        with Corelock("record", "--pid", storm.pid, "-o", recording) as recorder:
            line = recorder.line("err")
            assert line.startswith("Recording "), line
            storm.run()
            recorder.interrupt()
            assert recorder.finish().code == 0
    result = run("report", recording, "--format", "parquet", "-o", table)
    assert (result.code, result.out, result.err) == (0, "", "")

    cycles = waits_ns = holds_ns = 0
    with corelock.open_recording(recording) as read:
        for block in read:
            cycles += len(block)
            waits_ns += int(block.wait_ns[block.kind & NO_WAIT == 0].sum())
            holds_ns += int(block.hold_ns[block.kind & ENDING <= 1].sum())
    sums = "count(*), sum(wait_ns), sum(hold_ns) FILTER (outcome IN ('released', 'downgraded'))"
    assert duckdb.sql(f"SELECT {sums} FROM '{table}'").fetchall() == [(cycles, waits_ns, holds_ns)]
    known = duckdb.sql(
        f"""SELECT operation, mode, outcome, count(*) FROM '{table}'
            WHERE mode = 'write' GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert known == [
        ("mmap", "write", "released", 8000),
        ("mprotect", "write", "released", 8000),
        ("munmap", "write", "downgraded", 8000),
    ]
    # Whoever is kept by a thread of the storm is kept by another one, and no longer than it waits.
    (mine, too_long, contended) = duckdb.sql(
        f"""SELECT count(*) FILTER (blocker_tid = tid), count(*) FILTER (blocked_ns > wait_ns),
                   count(blocked_ns) FROM '{table}'"""
    ).fetchall()[0]
    assert (mine, too_long) == (0, 0)
    assert contended > 0


def test_it_goes_into_a_pipe(tmp_path: Path) -> None:
    recording = tmp_path / "true.clk"
    assert run("record", "-o", recording, "--", "true").code == 0
    with Corelock("report", recording, "--format", "parquet") as report:
        data = report.process.communicate(timeout=60)[0]
    assert report.process.returncode == 0
    assert data[:4] == data[-4:] == b"PAR1"
