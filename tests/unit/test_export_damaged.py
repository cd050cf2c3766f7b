from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.analysis.census import take_census
from corelock.export.recordings import FORMATS
from corelock.recording import NotARecording
from tests import perfetto_reader, recordings
from tests.exported import exported, holds
from tests.made_recordings import plans
from tests.recordings import Cycle, Plan


@settings(max_examples=60)
@given(plans(), st.data())
def test_what_is_left_of_a_damaged_recording_is_written_alike(
    plan: Plan, data: st.DataObject
) -> None:
    """Cut, or with a byte changed: formats agree on what can be read, and say what cannot."""
    with tempfile.TemporaryDirectory() as folder:
        path = plan.write(Path(folder, "r"))
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        cut = data.draw(st.booleans())
        path.write_bytes(whole[:at] if cut else _changed(whole, at))
        try:
            (recording,) = json.loads(exported("json", path)[0])["recordings"]
        except NotARecording:
            return
        folded = exported("folded", path)[0]
        trace = perfetto_reader.read(exported("perfetto", path)[0])
        assert gzip.decompress(exported("pprof", path)[0])
        speedscope = json.loads(exported("speedscope", path)[0])
    total = sum(row["hold_ns"]["total"] for row in recording["rows"])
    assert sum(int(line.rpartition(" ")[2]) for line in folded.splitlines()) == total
    assert sum(speedscope["profiles"][0]["weights"]) == total
    ended = [s for s in trace.slices if s.category == "hold" and s.args.get("ended") != _OPEN]
    assert sum(s.end_ns - s.begin_ns for s in ended) == total
    if total != sum(cycle.hold_ns for cycle in holds(plan.all_cycles)):
        assert any(recording["damage"].values()) or recording["cycles"]["nameless"]
        assert "missing" in trace.instants[0].args
        assert ";" in speedscope["name"]


_STACKED = Plan(
    [recordings.process(1, 4021, "postgres")],
    [recordings.row(1, 1, 1, 4021, 4021, "postgres", 11, 1)],
    [[Cycle(1, 200_000, 100, 150_000, 0, 1, 1)]],
)


def _stacks(address: int) -> bytes:
    return recordings.as_json({
        "first": {"strings": 0, "frames": 0, "stacks": 0}, "strings": ["do_mmap"],
        "frames": [[address, 0, 1, -1]], "stacks": [[[0], [], None]], "ids": [[1, 0]],
    })  # fmt: skip


_LAST_NS = (1 << 62) - 1
_MOST = {"monotonic_ns": _LAST_NS, "realtime_ns": _LAST_NS, "boottime_ns": _LAST_NS}


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        pytest.param(5, _stacks(-1), id="address below 0"),
        pytest.param(5, _stacks(1 << 64), id="address of 65 bits"),
        pytest.param(3, recordings.row(1, 1, 1, 1 << 31, 1, "x", 11, 1), id="pid"),
        pytest.param(3, recordings.row(1, 1, 1, 1, 1 << 31, "x", 11, 1), id="tid"),
        pytest.param(
            4, recordings.cycles([Cycle(1, -1)], boottime_offset_ns=-(1 << 60)), id="boottime"
        ),
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_values_that_cannot_be_are_damage(
    tmp_path: Path, type_: int, payload: bytes, format_: str
) -> None:
    blocks = [*_STACKED.blocks(), (5, _stacks(1)), (type_, payload)]
    content, [source] = exported(format_, recordings.write(tmp_path / "r", blocks))
    assert content
    assert take_census(source).damage.corrupt_blocks == 1


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "header", [{}, {"start_ns": _LAST_NS}, {"start_ns": _LAST_NS, "clock": _MOST}]
)
def test_the_largest_values_are_written(
    tmp_path: Path, header: dict[str, Any], format_: str
) -> None:
    most = (1 << 22) - 1
    plan = Plan(
        [recordings.process(1, most, "postgres")],
        [recordings.row(1, 1, 1, most, most, "postgres", 11, 1)],
        _STACKED.cycles,
    )
    path = recordings.write(tmp_path / "r", [*plan.blocks(**header), (5, _stacks((1 << 64) - 1))])
    content, [source] = exported(format_, path)
    assert content
    assert not take_census(source).damage


_OPEN = "not when recording did"


def _changed(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
