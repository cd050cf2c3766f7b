"""Comparisons of two recordings, from their cycles to text and JSON."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from corelock.analysis.compare import COMPARE_BY, Comparison, compare
from corelock.analysis.source import Source, open_sources
from corelock.export.diff import write_diff_json
from corelock.render.diff import Side, render_diff
from tests import recordings
from tests.recordings import Cycle

SECOND = 1_000_000_000
PAGE_FAULT, MUNMAP = 1, 2


def made(
    path: Path, seed: int, *, seconds: int = 60, waits: float = 1.0, gone: bool = False,
    lost: int = 0, comm: str = "worker",
) -> Path:  # fmt: skip
    """A recording of page faults and munmaps, whose waits are ``waits`` times the usual."""
    chance = random.Random(seed)
    some = []
    for at in range(seconds * 50):
        row = PAGE_FAULT if gone or chance.random() < 0.7 else MUNMAP
        wait = int(chance.lognormvariate(8, 1) * (waits if row == MUNMAP else 1))
        hold = int(chance.lognormvariate(9, 1))
        some.append(Cycle(row, at * SECOND // 50 + 10_000_000, wait, hold))
    footer = recordings.footer(len(some), seconds * SECOND)
    footer["cycles"]["lost"]["ring_full"] = lost
    rows = (
        recordings.row(PAGE_FAULT, 1, 1, 4021, 4021, comm, 0x20000, 0),
        recordings.row(MUNMAP, 1, 2, 4021, 4022, f"{comm}-2", 11, 1),
    )
    return recordings.write(
        path,
        [
            (1, recordings.as_json(recordings.header(id=f"{seed:032x}"))),
            (2, recordings.process(1, 4021, "postgres")),
            (3, b"".join(rows)),
            *((4, recordings.cycles(some[at : at + 200])) for at in range(0, len(some), 200)),
            (6, recordings.as_json(footer)),
        ],
    )


def compared(
    paths: Sequence[Path], by: Sequence[str] = ("operation", "mode")
) -> tuple[list[Source], Comparison]:
    before, after = open_sources(paths)
    with before, after:
        return [before, after], compare(before, after, by)


def text(sources: Sequence[Source], comparison: Comparison, width: Optional[int] = 80) -> str:
    stream = io.StringIO()
    sides = [Side(s.recording.path, s.label, "today", s.duration_ns) for s in sources]
    render_diff(sides, comparison, 20, stream, width)
    return stream.getvalue()


def as_json(sources: Sequence[Source], comparison: Comparison) -> Any:
    stream = io.StringIO()
    sides = [Side(s.recording.path, s.label, "today", s.duration_ns) for s in sources]
    write_diff_json(stream, sides, comparison)
    return json.loads(stream.getvalue())


def test_waits_that_got_longer_come_first(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2, waits=3)
    sources, comparison = compared(paths)
    first, *others = comparison.changes
    assert (first.operation, first.mode, first.kind) == ("munmap", "write", "wait")
    assert first.verdict("p50_ns") == first.verdict("total_ns_per_s") == "worse"
    assert all(other.verdicts == {None} for other in others)
    assert comparison.slices == (30, 30) and comparison.slice_ns == 2 * SECOND
    assert comparison.comparisons == 4 * 4
    lines = text(sources, comparison).splitlines()
    assert any(line.startswith("munmap W wait") for line in lines[:8])


def test_the_other_way_round_it_got_better(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1, waits=3), made(tmp_path / "b", 2)
    _, comparison = compared(paths)
    assert comparison.changes[0].verdict("p50_ns") == "better"


def test_nothing_changed(tmp_path: Path) -> None:
    _, comparison = compared((made(tmp_path / "a", 3), made(tmp_path / "b", 4)))
    assert all(change.verdicts == {None} for change in comparison.changes)


def test_figures_are_those_of_the_cycles(tmp_path: Path) -> None:
    path = made(tmp_path / "b", 2, gone=True)
    _, comparison = compared((made(tmp_path / "a", 1), path))
    by = {(c.operation, c.kind): c for c in comparison.changes}
    gone, faults = by["munmap", "hold"], by["page-fault", "hold"]
    assert gone.after.count == 0 and gone.after.p99_ns is None and gone.after.max_ns is None
    assert gone.verdict("count_per_s") == "better" and gone.verdict("p50_ns") is None
    with open_sources([path])[0] as source:
        holds = [int(ns) for block in source.recording for ns in block.hold_ns]
    assert faults.after.count == len(holds) == 3000
    assert faults.after.count_per_s == pytest.approx(50)
    assert faults.after.total_ns_per_s == pytest.approx(sum(holds) / 60)
    assert faults.after.max_ns == max(holds)
    for q, said in ((0.5, faults.after.p50_ns), (0.99, faults.after.p99_ns)):
        assert said == pytest.approx(sorted(holds)[int(q * len(holds))], rel=0.07)


@pytest.mark.parametrize("by", [*COMPARE_BY, "thread,operation,mode,process"])
def test_groups_are_by_name(tmp_path: Path, by: str) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2)
    sources, comparison = compared(paths, by.split(","))
    expected = {
        "process": {("postgres", None, None, None)},
        "thread": {(None, "worker", None, None), (None, "worker-2", None, None)},
        "operation": {(None, None, "page-fault", None), (None, None, "munmap", None)},
        "mode": {(None, None, None, "read"), (None, None, None, "write")},
    }.get(by)
    found = {(c.process, c.thread, c.operation, c.mode) for c in comparison.changes}
    if expected is not None:
        assert found == expected
    assert max(map(len, text(sources, comparison).splitlines())) <= 80


def test_long_names_and_other_widths(tmp_path: Path) -> None:
    paths = [made(tmp_path / name, at, comm="a-name-of15char") for at, name in enumerate("ab")]
    for width in (80, 132):
        lines = text(*compared(paths, COMPARE_BY), width).splitlines()
        assert max(map(len, lines)) <= max(width, 80)


def test_too_short_a_recording_is_no_evidence(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1, seconds=2000), made(tmp_path / "b", 2, seconds=20, waits=50)
    sources, comparison = compared(paths)
    assert comparison.unjudged is not None and comparison.comparisons == 0
    assert all(change.verdicts == {None} for change in comparison.changes)
    said = text(sources, comparison)
    assert "no evidence either way" in said and "A is 100.0 times as long" in said


def test_losses_are_said_and_large_ones_are_no_evidence(tmp_path: Path) -> None:
    before = made(tmp_path / "a", 1)
    few, many = made(tmp_path / "b", 2, lost=20), made(tmp_path / "c", 3, lost=900, waits=9)
    sources, comparison = compared((before, few))
    assert comparison.unjudged is None
    assert "ring_full) 20" in text(sources, comparison)
    sources, comparison = compared((before, many))
    assert all(change.verdicts == {None} for change in comparison.changes)
    assert "23.1 % of the cycles of B were lost" in text(sources, comparison)


def test_json_has_the_same(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2, waits=3)
    sources, comparison = compared(paths)
    said = as_json(sources, comparison)
    assert said["schema"] == "corelock.diff/1"
    assert said["judged"]["figures"] == 16 and said["judged"]["why_not"] is None
    first = said["changes"][0]
    assert first["verdict"]["p50_ns"] == "worse" and first["p"]["p50_ns"] <= 0.05
    assert first["before"]["count"] == comparison.changes[0].before.count


def test_no_cycles_at_all(tmp_path: Path) -> None:
    empty = [
        recordings.write(
            tmp_path / name,
            [
                (1, recordings.as_json(recordings.header(id=name * 32))),
                (6, recordings.as_json(recordings.footer(0, SECOND))),
            ],
        )
        for name in "ab"
    ]
    assert "no lock was taken in either" in text(*compared(empty))


def test_an_unknown_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot group by 'host'"):
        compared((made(tmp_path / "a", 1), made(tmp_path / "b", 2)), ["host"])
