from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.analysis.source import open_sources
from corelock.errors import CorelockError
from corelock.export import perfetto
from corelock.export.timeline import longest_cycles
from tests import perfetto_reader, recordings
from tests.exported import ALL, DOWNGRADED, FAILED, HOLDING, RELEASED, exported
from tests.made_recordings import plans
from tests.perfetto_reader import Slice, Trace
from tests.recordings import START_NS, Cycle, Plan

MMAP, MUNMAP = 9, 11
PROCESSES = [recordings.process(1, 40, "server"), recordings.process(2, 50, "reader")]
ROWS = [
    recordings.row(1, 1, 1, 40, 41, "worker", MUNMAP, 1),
    recordings.row(2, 1, 2, 40, 42, "other", MMAP, 0),
    recordings.row(3, 1, 3, 50, 50, "reader", 0, 0),
    recordings.row(4, 2, 3, 50, 50, "reader", 0x20000, 0),
]


def trace_of(*paths: Path) -> Trace:
    return perfetto_reader.read(exported("perfetto", *paths)[0])


def of(trace: Trace, category: str) -> list[Slice]:
    return [slice_ for slice_ in trace.slices if slice_.category == category]


@settings(max_examples=60)
@given(plans())
def test_slices_are_all_waits_and_holds_thread_by_thread(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, (source,) = exported("perfetto", plan.write(Path(folder, "r")))
        trace = perfetto_reader.read(data)
    expected: dict[int, Counter[tuple[object, ...]]] = {}
    for cycle in plan.all_cycles:
        row = source.name(cycle.row)
        of_thread = expected.setdefault(row.thread_key, Counter())
        for what, begin, end in parts(cycle):
            of_thread[f"{what} {row.mode} {row.operation}", begin, end, cycle.wait_ns] += 1
    found: dict[int, Counter[tuple[object, ...]]] = {}
    for slice_ in trace.slices:
        of_thread = found.setdefault(trace.thread_of(slice_.track).uuid, Counter())
        of_thread[slice_.name, slice_.begin_ns, slice_.end_ns, slice_.args["wait_ns"]] += 1
    assert as_groups(found) == as_groups(expected)
    for holder, waiter in trace.arrows:
        # Viewers draw an arrow from what begins first, wherever it is said to come from.
        assert holder.begin_ns < waiter.begin_ns
        assert (holder.category, waiter.category) == ("hold", "hold")


def parts(cycle: Cycle) -> Iterator[tuple[str, int, int]]:
    """The slices of a cycle: what, from when to when."""
    ending, end = cycle.kind & 7, START_NS + cycle.end_ns
    had = end - cycle.hold_ns
    if not cycle.kind & 8:
        yield "trylock" if ending == FAILED else "wait", had - cycle.wait_ns, had
    if ending in (RELEASED, DOWNGRADED, HOLDING):
        yield "hold", had, end


def as_groups(by_thread: dict[int, Counter[tuple[object, ...]]]) -> Counter[object]:
    """What there is of each thread, whatever number it has."""
    return Counter(frozenset(group.items()) for group in by_thread.values() if group)


def convoy() -> Plan:
    """A writer holds; a reader waits for it; a third thread, of another process, does not."""
    cycles = [
        Cycle(1, 10_000_000, 80, 9_000_000, hold_stack=17),
        Cycle(2, 10_500_000, 5_000_000, 499_000, 16, wait_stack=18),
        Cycle(3, 20_000_000, 300, 400, 0),
    ]
    stacks = {
        "first": {"strings": 0, "frames": 0, "stacks": 0},
        "strings": ["do_munmap", "[kernel]", "free", "libc.so.6", "no frame pointer"],
        "frames": [[1 << 63, 0, 4, 1], [4096, 2, 4, 3]],
        "stacks": [[[0], [1], None], [[0], [1], 4]],
        "ids": [[17, 0], [18, 1]],
    }
    return Plan(PROCESSES, ROWS, [cycles], [stacks])


def test_an_arrow_leads_from_the_hold_to_who_waited_for_it(tmp_path: Path) -> None:
    trace = trace_of(convoy().write(tmp_path / "r"))
    ((holder, waiter),) = trace.arrows
    assert (holder.name, holder.track.tid) == ("hold write munmap", 41)
    assert (waiter.name, waiter.track.tid) == ("hold read mmap", 42)
    waited = next(s for s in of(trace, "wait") if s.track is waiter.track)
    assert waited.end_ns == waiter.begin_ns
    assert waited.args == {
        "operation": "mmap", "mode": "read", "wait_ns": 5_000_000, "contended": True,
        "kept_longest_by": "worker[41] write munmap",
        "stack": "do_munmap < free < [no frame pointer]",
    }  # fmt: skip
    assert holder.args == {
        "operation": "munmap", "mode": "write", "wait_ns": 80, "hold_ns": 9_000_000,
        "stack": "do_munmap < free",
    }  # fmt: skip


def test_tracks_are_processes_and_their_threads(tmp_path: Path) -> None:
    trace = trace_of(convoy().write(tmp_path / "r"))
    processes = {t.name: t for t in trace.tracks.values() if t.pid and not t.tid}
    assert {name: t.pid for name, t in processes.items()} == {"server": 40, "reader": 50}
    threads = [t for t in trace.tracks.values() if t.tid]
    assert {(t.name, t.pid, t.tid, t.parent) for t in threads} == {
        ("worker", 40, 41, processes["server"].uuid),
        ("other", 40, 42, processes["server"].uuid),
        ("reader", 50, 50, processes["reader"].uuid),
    }
    foreign = [s for s in trace.slices if s.track.tid == 50]
    assert {s.args["address_space"] for s in foreign} == {"server[40]"}


def test_slices_that_overlap_in_part_have_tracks_of_their_own(tmp_path: Path) -> None:
    # Two address spaces' locks, given back in the order they were taken in; a third within.
    cycles = [Cycle(3, 5000, 0, 4000), Cycle(4, 7000, 0, 4000), Cycle(4, 4500, 0, 500)]
    trace = trace_of(Plan(PROCESSES, ROWS, [cycles]).write(tmp_path / "r"))
    first, second, third = (
        next(s for s in of(trace, "hold") if s.end_ns == START_NS + c.end_ns) for c in cycles
    )
    assert first.track.tid == 50
    assert (second.track.name, second.track.parent) == ("overlapping", first.track.uuid)
    assert third.track is first.track


def test_how_unusual_cycles_ended(tmp_path: Path) -> None:
    cycles = [Cycle(1, 1000 * (kind + 1), 100, 200 if kind < 2 or kind == 4 else 0, kind)
              for kind in range(6)]  # fmt: skip
    trace = trace_of(Plan(PROCESSES, ROWS, [cycles]).write(tmp_path / "r"))
    ended = {(s.category, s.begin_ns - START_NS): s.args.get("ended") for s in trace.slices}
    assert ended == {
        ("wait", 700): None, ("hold", 800): None,
        ("wait", 1700): None, ("hold", 1800): "downgraded",
        ("trylock", 2900): "failed", ("wait", 3900): "aborted",
        ("wait", 4700): None, ("hold", 4800): "not when recording did",
        ("wait", 5900): "not when recording did",
    }  # fmt: skip


def test_clocks_and_host(tmp_path: Path) -> None:
    trace = trace_of(convoy().write(tmp_path / "r"))
    said = recordings.header()["clock"]
    assert trace.primary_clock == 3  # CLOCK_MONOTONIC
    assert trace.clocks == {
        3: said["monotonic_ns"], 1: said["realtime_ns"], 6: said["boottime_ns"]
    }  # fmt: skip
    assert trace.kernel == "6.18.44"


def host(name: str, boot: str) -> dict[str, str]:
    return {**recordings.header()["host"], "hostname": name, "boot_id": boot}


def test_hosts_are_told_apart_and_on_one_clock(tmp_path: Path) -> None:
    later = recordings.header()["clock"]
    # This host was up for 7 s less when its clocks said the same as the other's.
    later = {**later, "realtime_ns": later["realtime_ns"] + 7_000_000_000}
    paths = [
        convoy().write(tmp_path / "a", id="a", host=host("db7", "x")),
        convoy().write(tmp_path / "b", id="b", host=host("db8", "y"), clock=later),
    ]
    trace = trace_of(*paths)
    processes = {t.name: t.pid for t in trace.tracks.values() if t.pid and not t.tid}
    assert sorted(processes) == ["db7: reader", "db7: server", "db8: reader", "db8: server"]
    assert len(set(processes.values())) == 4
    begun = {}
    for slice_ in of(trace, "hold"):
        name = trace.tracks[slice_.track.parent or 0].name
        begun.setdefault(name, []).append(slice_.begin_ns)
    assert [at + 7_000_000_000 for at in begun["db7: server"]] == begun["db8: server"]
    assert len(trace.arrows) == 2


def test_two_recordings_of_one_boot_share_its_clock(tmp_path: Path) -> None:
    stepped = {**recordings.header()["clock"], "realtime_ns": 5}
    paths = [
        convoy().write(tmp_path / "a", id="a"),
        convoy().write(tmp_path / "b", id="b", clock=stepped),
    ]
    begun = Counter(s.begin_ns for s in of(trace_of(*paths), "hold"))
    assert set(begun.values()) == {2}


def test_the_longest_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    cycles = [Cycle(1 + i % 3, 10_000 * (i + 1), 10, 100 + i) for i in range(50)]
    path = Plan(PROCESSES, ROWS, [cycles[:20], cycles[20:]]).write(tmp_path / "r")
    stream = io.BytesIO()
    remarks = perfetto.write(stream, open_sources([path]), ALL, most=8)
    trace = perfetto_reader.read(stream.getvalue())
    assert sorted(s.args["hold_ns"] for s in of(trace, "hold")) == list(range(142, 150))
    assert remarks == ["42 cycles of 151n and less are left out: the trace has the 8 longest"]
    (about,) = trace.instants
    assert about.name == "recording of db7"
    assert about.args["cycles_shown"] == 8
    assert about.args["cycles_left_out_of_all_recordings"] == 42
    assert about.args["longest_left_out_ns"] == 151


def test_more_recordings_than_can_be_told_apart(tmp_path: Path) -> None:
    sources = open_sources([convoy().write(tmp_path / "r")])
    with pytest.raises(CorelockError, match="up to 512 recordings, and these are 513"):
        perfetto.write(io.BytesIO(), sources * 513, ALL)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    plan = Plan(PROCESSES, ROWS, [[Cycle(1, 1000, 1, 2)]], ends=False)
    (about,) = trace_of(plan.write(tmp_path / "r")).instants
    assert about.args["missing"] == "db7: the recording has no end"


def test_an_empty_recording(tmp_path: Path) -> None:
    trace = trace_of(Plan(PROCESSES, ROWS, []).write(tmp_path / "r"))
    assert not trace.slices and len(trace.instants) == 1


@pytest.mark.parametrize("name", ["a;b", "\\xff", "ünïcode", "a\tb"])
def test_names_come_through(tmp_path: Path, name: str) -> None:
    rows = [recordings.row(1, 1, 1, 40, 41, name, MUNMAP, 1)]
    path = Plan(PROCESSES, rows, [[Cycle(1, 1000, 1, 2)]]).write(tmp_path / "r")
    (thread,) = (t for t in trace_of(path).tracks.values() if t.tid)
    assert thread.name == name.replace("\t", "\\x09")


# Those of two seconds and more have no room together in what each of them has.
LENGTHS = st.integers(0, 50) | st.integers(2_000_000_000, 2_300_000_000)


@given(st.lists(st.lists(st.tuples(LENGTHS, LENGTHS), max_size=30), max_size=4), st.integers(1, 40))
def test_the_longest_of_several_recordings(times: list[list[tuple[int, int]]], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, each in enumerate(times):
            some = [Cycle(1, i * 1000, *waited_and_held) for i, waited_and_held in enumerate(each)]
            blocks = [some[:10], some[10:]] if len(some) > 10 else [some] if some else []
            plan = Plan(PROCESSES, ROWS, blocks)
            paths.append(plan.write(Path(folder, str(number)), id=str(number)))
        sources = open_sources(paths)
        kept = longest_cycles(sources, ALL, most)
    lengths = sorted((wait + hold for each in times for wait, hold in each), reverse=True)
    found = [int(c["wait_ns"]) + int(c["hold_ns"]) for each in kept.cycles for c in each]
    assert sorted(found, reverse=True) == lengths[:most]
    assert kept.left_out == len(lengths[most:])
    assert kept.longest_left_out_ns == max(lengths[most:], default=0)
    for cycles, each in zip(kept.cycles, times):
        for cycle in cycles:
            assert each[cycle["number"]] == (cycle["wait_ns"], cycle["hold_ns"])
