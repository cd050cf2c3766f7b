from __future__ import annotations

import gzip
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings

from tests import pprof_reader, recordings
from tests.exported import exported, holds, totals, waits
from tests.made_recordings import plans
from tests.recordings import Cycle, Plan

PROCESSES = [recordings.process(1, 40, "server")]
ROWS = [
    recordings.row(1, 1, 1, 40, 41, "worker", 11, 1),
    recordings.row(2, 1, 2, 40, 42, "other", 9, 0),
]
STACKS = {
    "first": {"strings": 0, "frames": 0, "stacks": 0},
    "strings": ["do_munmap", "[kernel]", "std::vector<int, a<b> >::f(int)", "a.out",
                "truncated (no frame pointer)"],
    "frames": [[1 << 63, 0, 4, 1], [4096, 2, 4, 3], [8192, -1, 77, 3], [16, -1, -1, -1]],
    "stacks": [[[0], [1, 2, 3], None], [[0], [1], 4]],
    "ids": [[17, 0], [18, 1]],
}  # fmt: skip


@settings(max_examples=25)
@given(plans())
def test_counts_and_times_by_thread_are_those_of_the_cycles(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, (source,) = exported("pprof", plan.write(Path(folder, "r")))
        profile = pprof_reader.read(data, Path(folder))

    def who(cycle: Cycle) -> tuple[str, str, str]:
        row = source.name(cycle.row)
        return str(row.tid), row.mode, row.operation or "?"

    found: dict[str, Counter[tuple[str, str, str]]] = {}
    for sample in profile.samples:
        labels = sample.labels
        for kind, value in sample.values.items():
            of_kind = found.setdefault(kind, Counter())
            of_kind[labels.get("tid", "0"), labels["mode"], labels["operation"]] += value
    for what, some in (("hold", holds(plan.all_cycles)), ("wait", waits(plan.all_cycles))):
        assert +found.get(f"{what}/nanoseconds", Counter()) == totals(plan.all_cycles, who, what)
        assert +found.get(f"{what}s/count", Counter()) == Counter(map(who, some))


def test_stacks_and_labels(tmp_path: Path) -> None:
    cycles = [
        Cycle(1, 10_000_000, 0, 9_000_000, 8, hold_stack=17),
        Cycle(2, 20_000_000, 5_000_000, 700, wait_stack=18),
    ]
    path = Plan(PROCESSES, ROWS, [cycles], [STACKS]).write(tmp_path / "r")
    profile = pprof_reader.read(exported("pprof", path)[0], tmp_path)
    held, shown, waited = sorted(
        profile.samples, key=lambda s: (s.values["wait/nanoseconds"], -s.values["hold/nanoseconds"])
    )
    # Innermost first, names whole, and what has none as its address.
    assert held.stack == ["do_munmap", "std::vector<int, a<b> >::f(int)", "a.out+0x4d", "0x10"]
    assert held.labels == {
        "host": "db7", "process": "server[40]", "thread": "worker[41]", "operation": "munmap",
        "mode": "write", "tid": "41",
    }  # fmt: skip
    assert shown.stack == ["mmap", "[no stack: shorter than 100us]"]
    assert waited.stack == [
        "do_munmap", "std::vector<int, a<b> >::f(int)", "[truncated (no frame pointer)]"
    ]  # fmt: skip
    assert waited.values == {
        "holds/count": 0, "hold/nanoseconds": 0, "waits/count": 1, "wait/nanoseconds": 5_000_000
    }  # fmt: skip
    assert profile.mappings[0] == "mmap_lock" and {"a.out", "[kernel]"} < set(profile.mappings)


def test_the_program_shows_it(tmp_path: Path) -> None:
    cycles = [Cycle(1, 10_000_000, 2_000_000, 6_000_000, hold_stack=17, wait_stack=18)]
    data = exported(
        "pprof", Plan(PROCESSES, ROWS, [cycles], [STACKS]).write(tmp_path / "r")
    )[0]  # fmt: skip
    lines = pprof_reader.top(data, tmp_path, "wait").splitlines()
    assert lines[0] == "File: mmap_lock"
    assert "Type: wait" in lines and any("2ms total" in line for line in lines)
    assert "Type: hold" in pprof_reader.top(data, tmp_path, "hold")


def test_what_is_missing_is_said_and_hosts_are_told_apart(tmp_path: Path) -> None:
    one = Plan(PROCESSES, ROWS, [[Cycle(1, 1000, 1, 2)]])
    cut = Plan(PROCESSES, ROWS, [[Cycle(1, 1000, 1, 3)]], ends=False)
    paths = one.write(tmp_path / "a", id="a"), cut.write(tmp_path / "b", id="b")
    profile = pprof_reader.read(exported("pprof", *paths)[0], tmp_path)
    assert profile.comments[-1] == "db7 (2): the recording has no end"
    assert {s.labels["host"]: s.values["hold/nanoseconds"] for s in profile.samples} == {
        "db7": 2, "db7 (2)": 3
    }  # fmt: skip


def test_an_empty_recording_is_a_profile_all_the_same(tmp_path: Path) -> None:
    data, _ = exported("pprof", Plan(PROCESSES, ROWS, []).write(tmp_path / "r"))
    assert gzip.decompress(data)
    assert pprof_reader.read(data, tmp_path).samples == []


def test_equal_recordings_make_equal_files(tmp_path: Path) -> None:
    path = Plan(PROCESSES, ROWS, [[Cycle(1, 1000, 1, 2)]]).write(tmp_path / "r")
    assert exported("pprof", path)[0] == exported("pprof", path)[0]
