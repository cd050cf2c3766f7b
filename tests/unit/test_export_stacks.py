from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from tests import recordings
from tests.exported import exported, totals
from tests.made_recordings import plans
from tests.recordings import Cycle, Plan
from tests.speedscope import FORMAT

PROCESSES = [recordings.process(1, 40, "server")]
ROWS = [
    recordings.row(1, 1, 1, 40, 41, "wor;ker", 11, 1),
    recordings.row(2, 1, 2, 40, 42, "other one", 9, 0),
]
STACKS = {
    "first": {"strings": 0, "frames": 0, "stacks": 0},
    "strings": ["do_munmap", "[kernel]", "operator; new\n(int)", "a.out", "truncated"],
    "frames": [[1 << 63, 0, 4, 1], [4096, 2, 4, 3], [8192, -1, 77, 3]],
    "stacks": [[[0], [1, 2], None], [[0], [1], 4]],
    "ids": [[17, 0], [18, 1]],
}
CYCLES = [
    Cycle(1, 10_000_000, 3_000_000, 9_000_000, hold_stack=17, wait_stack=18),
    Cycle(1, 11_000_000, 100, 200_000, hold_stack=17),
    Cycle(2, 20_000_000, 200_000, 700),  # no stack of its wait, though it was long enough
    Cycle(2, 21_000_000, 0, 150_000, hold_stack=99),  # a stack that is in no block
]


def lines_of(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        stack, _, value = line.rpartition(" ")
        assert stack not in found
        found[stack] = int(value)
    return found


def write_plan(folder: Path, **more: Any) -> Path:
    return Plan(PROCESSES, ROWS, [CYCLES], [STACKS]).write(folder / "r", **more)


def test_folded_lines(tmp_path: Path) -> None:
    assert lines_of(exported("folded", write_plan(tmp_path))[0]) == {
        "wor:ker;a.out+0x4d;operator: new\\x0a(int);-;do_munmap": 9_200_000,
        "other one;[no stack: lost];-;mmap": 150_000,
        "other one;[no stack: shorter than 100us];-;mmap": 700,
    }
    assert lines_of(exported("folded", write_plan(tmp_path), what="wait")[0]) == {
        "wor:ker;[truncated];operator: new\\x0a(int);-;do_munmap": 3_000_000,
        "wor:ker;[no stack: shorter than 100us];-;munmap": 100,
        "other one;[no stack: could not be taken];-;mmap": 200_000,
    }


def test_without_a_threshold_there_were_no_stacks(tmp_path: Path) -> None:
    stacks = set(lines_of(exported("folded", write_plan(tmp_path, slow_ns=None))[0]))
    assert "other one;[no stack: none was recorded];-;mmap" in stacks


@pytest.mark.parametrize("what", ["hold", "wait"])
@settings(max_examples=50)
@given(plan=plans())
def test_folded_adds_up_by_thread_name(what: str, plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text, (source,) = exported("folded", plan.write(Path(folder, "r")), what=what)
        by_name = totals(plan.all_cycles, lambda c: source.name(c.row).comm, what)
    found: Counter[str] = Counter()
    for stack, value in lines_of(text).items():
        found[stack.split(";")[0]] += value
    expected: Counter[str] = Counter()
    for name, value in by_name.items():
        expected[name.replace(";", ":") or "?"] += value
    assert found == expected


def test_hosts_come_first(tmp_path: Path) -> None:
    plan = Plan(PROCESSES, ROWS, [[Cycle(2, 1000, 1, 2)]])
    paths = plan.write(tmp_path / "a", id="a"), plan.write(tmp_path / "b", id="b")
    assert set(lines_of(exported("folded", *paths)[0])) == {
        "db7;other one;[no stack: shorter than 100us];-;mmap",
        "db7 (2);other one;[no stack: shorter than 100us];-;mmap",
    }
    names = {frame["name"] for frame in profile_of(*paths)["shared"]["frames"]}
    assert {"db7", "db7 (2)", "other one"} <= names


def profile_of(*paths: Path) -> dict[str, Any]:
    """A file for speedscope, which agrees with speedscope's schema."""
    profile = json.loads(exported("speedscope", *paths)[0])
    jsonschema.validate(profile, json.loads(FORMAT.read_text()))
    return dict(profile)


def stacks_of(file: dict[str, Any], number: int) -> dict[str, int]:
    frames, profile = file["shared"]["frames"], file["profiles"][number]
    return {
        ";".join(frames[at]["name"] for at in stack): weight
        for stack, weight in zip(profile["samples"], profile["weights"])
    }


def test_speedscope_profiles(tmp_path: Path) -> None:
    file = profile_of(write_plan(tmp_path))
    assert [profile["name"] for profile in file["profiles"]] == ["hold time", "wait time"]
    assert stacks_of(file, 0) == {
        "wor;ker;a.out+0x4d;operator; new\n(int);do_munmap": 9_200_000,
        "other one;[no stack: lost];mmap": 150_000,
        "other one;[no stack: shorter than 100us];mmap": 700,
    }
    assert {"name": "do_munmap", "file": "[kernel]"} in file["shared"]["frames"]
    assert file["name"] == "mmap_lock of db7"


@settings(max_examples=50)
@given(plan=plans())
def test_speedscope_adds_up(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = profile_of(plan.write(Path(folder, "r")))
    for profile, what in zip(file["profiles"], ("hold", "wait")):
        expected = sum(totals(plan.all_cycles, lambda c: c.row, what).values())
        assert sum(profile["weights"]) == profile["endValue"] == expected
        assert profile["unit"] == "nanoseconds"


@pytest.mark.parametrize("format_", ["folded", "speedscope"])
def test_a_recording_without_cycles(tmp_path: Path, format_: str) -> None:
    path = Plan(PROCESSES, ROWS, []).write(tmp_path / "r")
    if format_ == "folded":
        assert exported("folded", path)[0] == ""
    else:
        assert [p["samples"] for p in profile_of(path)["profiles"]] == [[], []]


def test_a_cut_recording_says_so(tmp_path: Path) -> None:
    path = Plan(PROCESSES, ROWS, [CYCLES], ends=False).write(tmp_path / "r")
    assert profile_of(path)["name"] == "mmap_lock of db7; db7: the recording has no end"
