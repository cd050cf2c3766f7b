"""The reader of recordings agrees with another one, and with nothing that is not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.recording import Block, Damage, NotARecording, Recording, open_recording
from tests import minimal_reader, recordings
from tests.made_recordings import plans
from tests.minimal_reader import ReadCycle
from tests.recordings import START_NS, Cycle, Plan


def cycles_of(block: Block) -> list[ReadCycle]:
    stacks = {
        int(index): (int(wait), int(hold))
        for index, wait, hold in zip(block.stacked_index, block.wait_stack, block.hold_stack)
    }
    columns = (block.end_ns, block.wait_ns, block.hold_ns, block.row, block.kind)
    rows = zip(*(column.tolist() for column in columns))
    return [ReadCycle(*row, *stacks.get(at, (0, 0))) for at, row in enumerate(rows)]


def all_cycles(recording: Recording) -> list[ReadCycle]:
    return [cycle for block in recording for cycle in cycles_of(block)]


def planned(some: list[Cycle]) -> list[ReadCycle]:
    return [
        ReadCycle(
            START_NS + c.end_ns, c.wait_ns, c.hold_ns, c.row, c.kind, c.wait_stack, c.hold_stack
        )
        for c in some
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "a.rec"


@given(plans())
def test_the_minimal_reader_agrees(path: Path, plan: Plan) -> None:
    theirs = minimal_reader.read(plan.write(path).read_bytes())
    with open_recording(path) as ours:
        assert all_cycles(ours) == theirs.cycles == planned(plan.all_cycles)
        assert (ours.header, ours.footer) == (theirs.header, theirs.footer)
        assert theirs.rows == {
            int(row["row"]): (
                *(int(row[name]) for name in (
                    "mm", "thread", "pid", "tid", "host_pid", "host_tid", "operation", "mode",
                    "named_ns",
                )),
                bytes(row["comm"]).split(b"\0")[0],
            )
            for row in ours.rows
        }  # fmt: skip
        assert theirs.processes == {
            int(mm["mm"]): (
                int(mm["pid"]), int(mm["host_pid"]), int(mm["start_ns"]),
                bytes(mm["comm"]).split(b"\0")[0],
            )
            for mm in ours.processes
        }  # fmt: skip
        assert ours.stacks.keys() == theirs.ids.keys()
        for id_, stack in ours.stacks.items():
            kernel, user, note = theirs.stack(id_)
            assert (list(stack.kernel), list(stack.user), stack.note) == (kernel, user, note)
        assert ours.damage == Damage(not plan.ends, 0, 0, 0)


def is_within(some: list[ReadCycle], all_: list[ReadCycle]) -> bool:
    """Whether ``some`` are in ``all_`` in that order."""
    rest = iter(all_)
    return all(cycle in rest for cycle in some)


@given(plans(whole=True), st.data())
@settings(max_examples=300, deadline=None)
def test_flipped_bits_invent_nothing(path: Path, plan: Plan, data: st.DataObject) -> None:
    whole = recordings.contents(plan.blocks())
    places = st.integers(0, len(whole) * 8 - 1)
    broken = bytearray(whole)
    for bit in data.draw(st.lists(places, min_size=1, max_size=6, unique=True)):
        broken[bit // 8] ^= 1 << bit % 8
    path.write_bytes(broken)
    try:
        recording = open_recording(path)
    except NotARecording as error:
        assert error.remedy
        return
    with recording:
        theirs = minimal_reader.read(b"CORELOCK\1\0\0\0\0\0\0\0" + bytes(broken[16:]))
        read = all_cycles(recording)
        assert read == theirs.cycles
        assert is_within(read, planned(plan.all_cycles))
        _ = recording.rows, recording.processes, recording.stacks
        damage = recording.damage
        assert (damage.corrupt_blocks, damage.missing_blocks, damage.skipped_bytes) == (
            theirs.corrupt, theirs.missing, theirs.skipped,
        )  # fmt: skip
        if len(read) < len(plan.all_cycles):
            assert damage


@given(plans(), st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=40)), min_size=1))
@settings(max_examples=200, deadline=None)
def test_bytes_put_in_invent_nothing(
    path: Path, plan: Plan, pieces: list[tuple[int, bytes]]
) -> None:
    broken = recordings.contents(plan.blocks())
    for at, piece in pieces:
        at = 16 + at % len(broken)
        broken = broken[:at] + piece + broken[at:]
    path.write_bytes(broken)
    try:
        with open_recording(path) as recording:
            assert is_within(all_cycles(recording), planned(plan.all_cycles))
    except NotARecording as error:
        assert "header" in error.message


SMALL = Plan(
    [recordings.process(1, 4021, "postgres")],
    [recordings.row(1, 1, 1, 4021, 4021, "postgres", 11, 1)],
    [[Cycle(1, 100, 2, 3)], [Cycle(1, 200, 2**32, 3, wait_stack=1), Cycle(1, 210)]],
)


def test_a_cut_at_every_byte(path: Path) -> None:
    blocks = SMALL.blocks()
    whole = recordings.contents(blocks)
    ends = [16]
    for type_, payload in blocks:
        ends.append(ends[-1] + len(recordings.block(type_, 0, payload)))
    assert ends[-1] == len(whole)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        # A block is there once its payload is, without the zeros after it.
        there = sum(size >= end - -len(payload) % 8 for end, (_, payload) in zip(ends[1:], blocks))
        if there < 1:
            with pytest.raises(NotARecording) as refused:
                open_recording(path)
            assert refused.value.remedy
            continue
        with open_recording(path) as recording:
            expected = [c for some in SMALL.cycles[: max(0, there - 3)] for c in some]
            assert all_cycles(recording) == planned(expected)
            assert len(recording.processes) == (there > 1)
            assert len(recording.rows) == (there > 2)
            ended = there == len(blocks)
            left = max(0, size - ends[there])
            assert recording.damage == Damage(not ended, 0, 0, left), size


def test_a_cut_at_every_block_of_a_larger_one(path: Path) -> None:
    random = np.random.default_rng(3)
    cycles = [
        [Cycle(int(row), at * 1000 + i, i, i) for i, row in enumerate(random.integers(1, 3, 50))]
        for at in range(40)
    ]
    plan = Plan(SMALL.processes, SMALL.rows, cycles)
    blocks = plan.blocks()
    size = len(recordings.file_head())
    for there, (type_, payload) in enumerate(blocks, 1):
        size += len(recordings.block(type_, 0, payload))
        for bytes_ in (size, size + 8):
            path.write_bytes(recordings.contents(blocks)[:bytes_])
            with open_recording(path) as recording:
                expected = [c for some in cycles[: max(0, there - 3)] for c in some]
                assert all_cycles(recording) == planned(expected)
                assert recording.damage.cut == (there < len(blocks))


def test_a_block_taken_out_is_missing(path: Path) -> None:
    numbered = [
        recordings.block(type_, at, payload) for at, (type_, payload) in enumerate(SMALL.blocks())
    ]
    for taken in range(1, len(numbered)):
        rest = numbered[:taken] + numbered[taken + 1 :]
        path.write_bytes(recordings.file_head() + b"".join(rest))
        with open_recording(path) as recording:
            found = all_cycles(recording)
            last = taken == len(numbered) - 1
            assert recording.damage == Damage(last, 0, 0 if last else 1, 0)
            assert len(found) == 3 - {3: 1, 4: 2}.get(taken, 0)


def test_what_is_appended_is_of_another_recording(path: Path) -> None:
    whole = recordings.contents(SMALL.blocks())
    other = recordings.contents(SMALL.blocks(id="1" * 32))
    path.write_bytes(whole + other)
    with open_recording(path) as recording:
        assert all_cycles(recording) == planned(SMALL.all_cycles)
        assert recording.header["id"] == "0" * 32
        assert recording.damage == Damage(False, 0, 0, len(other))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"CORELOC", "is no recording"),
        (b"\x7fELF" + bytes(100), "is no recording"),
        (recordings.file_head(), "header cannot be read"),
        (recordings.contents(SMALL.blocks(), version=2), "version 2"),
        (recordings.contents(SMALL.blocks(), version=0xFFFFFFFF), "version 4294967295"),
        (recordings.contents(SMALL.blocks(), version=0), "no version"),
        (recordings.contents(SMALL.blocks()[1:]), "header cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_recording(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(NotARecording, match=words) as refused:
        open_recording(path)
    assert refused.value.remedy


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotARecording, match="no regular file"):
        open_recording(tmp_path / "fifo")
    with pytest.raises(NotARecording, match="no regular file"):
        open_recording("/dev/zero")
    with pytest.raises((NotARecording, IsADirectoryError)):
        open_recording(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_recording(tmp_path / "none")


HEADER = recordings.header()


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"7", b"null", b'"x"', b"{}", b"{", b"\xff\xfe", b"", b"[" * 100_000,
        recordings.as_json({**HEADER, "start_ns": "now"}),
        recordings.as_json({**HEADER, "start_ns": True}),
        recordings.as_json({**HEADER, "start_ns": 10**40}),
        recordings.as_json({**HEADER, "host": ["db7"]}),
        recordings.as_json({**HEADER, "host": {}}),
        recordings.as_json({**HEADER, "clock": None}),
        recordings.as_json({**HEADER, "target": {"pid": "x"}}),
        recordings.as_json({**HEADER, "target": 5}),
        recordings.as_json({**HEADER, "target": {"pid": 1, "comm": "x", "host_pid": "y"}}),
        recordings.as_json({**HEADER, "cgroup": []}),
        recordings.as_json({**HEADER, "cgroup": {"path": "/", "id": 1, "container": [1]}}),
        recordings.as_json({**HEADER, "start_ns": 1 << 62}),
        recordings.as_json({**HEADER, "clock": {**HEADER["clock"], "boottime_ns": -1}}),
        recordings.as_json({**HEADER, "target": {"pid": 1 << 22, "comm": "x"}}),
        recordings.as_json({**HEADER, "host": {**HEADER["host"], "boot_id": ["b"]}}),
        recordings.as_json({**HEADER, "slow_ns": "100"}),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense(path: Path, header: bytes) -> None:
    recordings.write(path, [(1, header), *SMALL.blocks()[1:]])
    with pytest.raises(NotARecording, match="header cannot be read"):
        open_recording(path)


FOOTER = recordings.fitting_footer(SMALL.all_cycles)


@pytest.mark.parametrize(
    "footer",
    [
        b"[]", b"garbage", b"{}", b"[" * 100_000,
        recordings.as_json({**FOOTER, "totals": 3}),
        recordings.as_json({**FOOTER, "cycles": {"written": 3, "lost": {"ring_full": None}}}),
        recordings.as_json({**FOOTER, "accounting": {}}),
        recordings.as_json({**FOOTER, "end_ns": -1.5}),
        recordings.as_json({**FOOTER, "cycles": {"written": 3, "lost": {"ring_full": -1}}}),
        recordings.as_json({**FOOTER, "accounting": {**FOOTER["accounting"], "open_waits": "0"}}),
    ],
)  # fmt: skip
def test_a_footer_of_garbage_is_no_footer(path: Path, footer: bytes) -> None:
    recordings.write(path, [*SMALL.blocks()[:-1], (6, footer)])
    with open_recording(path) as recording:
        assert all_cycles(recording) == planned(SMALL.all_cycles)
        assert recording.footer is None
        assert recording.damage == Damage(True, 1, 0, 0)


def bad_cycles() -> list[tuple[str, bytes]]:
    good = recordings.cycles([Cycle(1, 100, 2, 3, wait_stack=1), Cycle(1, 200, 2**33, 3)])

    def with_u32(at: int, value: int) -> bytes:
        return good[:at] + value.to_bytes(4, "little") + good[at + 4 :]

    # 64: end, 72: wait, 80: hold, 88: row, 96: kind, 104: stacked, 120: long, 136: its index
    return [
        ("no head", good[:40]),
        ("a head alone", good[:64]),
        ("more cycles than bytes", with_u32(40, 2**31)),
        ("more stacked ones", with_u32(44, 2**31)),
        ("more long ones", with_u32(48, 2**31)),
        ("stacked beyond the last", with_u32(104, 2)),
        ("long beyond the last", with_u32(136, 2)),
        ("a long one that is said nowhere", with_u32(136, 0)),
        ("an end after the last", with_u32(64, 5_000_000)),
        ("a base before the first", bytes(8) + good[8:]),
        ("a base beyond the clock", b"\xff" * 24 + good[24:]),
        ("a wall clock below 0", good[:24] + b"\0" * 7 + b"\x80" + good[32:]),
        ("a boot that was never", good[:32] + (2**62).to_bytes(8, "little") + good[40:]),
        ("from before the clock", good[:120] + (2**63).to_bytes(8, "little") + good[128:]),
    ]  # fmt: skip


@pytest.mark.parametrize(("what", "payload"), bad_cycles(), ids=lambda value: str(value)[:32])
def test_cycles_that_contradict_themselves(path: Path, what: str, payload: bytes) -> None:
    good = recordings.cycles([Cycle(1, 300)])
    recordings.write(path, [*SMALL.blocks()[:3], (4, payload), (4, good)])
    with open_recording(path) as recording:
        for _ in range(2):
            assert all_cycles(recording) == planned([Cycle(1, 300)]), what
            assert recording.damage.corrupt_blocks == 1


@pytest.mark.parametrize(
    "stacks",
    [
        b"[]", b"{}", b"nonsense", b"[" * 100_000,
        recordings.as_json({"first": {"strings": 0, "frames": 0, "stacks": 0}}),
        recordings.as_json({
            "first": {"strings": -1, "frames": 0, "stacks": 0}, "strings": ["a"], "frames": [],
            "stacks": [], "ids": [],
        }),
        recordings.as_json({
            "first": {"strings": 0, "frames": 0, "stacks": 0}, "strings": [7], "frames": [[1]],
            "stacks": [], "ids": [],
        }),
        recordings.as_json({
            "first": {"strings": 0, "frames": 0, "stacks": 0}, "strings": [], "frames": [],
            "stacks": [[1, 2, 3]], "ids": [[1]],
        }),
        *(recordings.as_json({
            "first": {"strings": 0, "frames": 0, "stacks": 0}, "strings": [],
            "frames": [[address, -1, -1, -1]], "stacks": [[[0], [], None]], "ids": [[1, 0]],
        }) for address in (-1, 1 << 64)),
    ],
)  # fmt: skip
def test_stacks_that_make_no_sense(path: Path, stacks: bytes) -> None:
    recordings.write(path, [*SMALL.blocks(), (5, stacks)])
    with open_recording(path) as recording:
        assert recording.stacks == {}
        assert recording.damage.corrupt_blocks == 1


def test_frames_of_a_lost_block_end_the_stack(path: Path) -> None:
    first = {"strings": 2, "frames": 1, "stacks": 0}
    stacks = {
        "first": first, "strings": ["here"], "frames": [[16, 2, 0, -1]],
        "stacks": [[[1, 0], [1], None]], "ids": [[5, 0]],
    }  # fmt: skip
    recordings.write(path, [*SMALL.blocks(), (5, recordings.as_json(stacks))])
    with open_recording(path) as recording:
        stack = recording.stacks[5]
        assert stack.kernel == stack.user == ((16, "here", 0, None),)
        assert stack.note == "frames lost with a part of the recording"


@pytest.mark.parametrize("type_", [2, 3])
def test_entries_that_do_not_fit_their_block(path: Path, type_: int) -> None:
    recordings.write(path, [*SMALL.blocks(), (type_, bytes(41))])
    with open_recording(path) as recording:
        assert len(recording.rows) == len(recording.processes) == 1
        assert recording.damage.corrupt_blocks == 1


@pytest.mark.parametrize(
    ("type_", "entry"),
    [
        (2, recordings.process(2, 1 << 22, "x", host_pid=1)),
        (2, recordings.process(2, 1, "x", host_pid=1 << 31)),
        (3, recordings.row(2, 1, 2, 1 << 31, 1, "x", 11, 1, host_pid=1)),
        (3, recordings.row(2, 1, 2, 1, 1 << 22, "x", 11, 1, host_tid=1)),
        (3, recordings.row(2, 1, 2, 1, 1, "x", 11, 1, host_pid=0xFFFFFFFF)),
        (3, recordings.row(2, 1, 2, 1, 1, "x", 11, 1, host_tid=1 << 22)),
        (3, recordings.row(1 << 23, 1, 2, 1, 1, "x", 11, 1)),
        (3, recordings.row(2, 1, 2, 1, 1, "x", 11, 2)),
    ],
)
def test_entries_of_what_cannot_be(path: Path, type_: int, entry: bytes) -> None:
    recordings.write(path, [*SMALL.blocks(), (type_, entry)])
    with open_recording(path) as recording:
        assert len(recording.rows) == len(recording.processes) == 1
        assert recording.damage.corrupt_blocks == 1


def test_pids_may_be_as_high_as_the_kernel_has_them(path: Path) -> None:
    most = (1 << 22) - 1
    entries = [
        (2, recordings.process(2, most, "x")),
        (3, recordings.row(2, 2, 2, most, most, "x", 11, 1)),
    ]
    recordings.write(path, [*SMALL.blocks(), *entries])
    with open_recording(path) as recording:
        assert len(recording.rows) == len(recording.processes) == 2
        assert not recording.damage


def test_types_that_are_not_known_are_left_out(path: Path) -> None:
    blocks = SMALL.blocks()
    recordings.write(path, [blocks[0], (7, b"new"), *blocks[1:3], (0xFFFF, b""), *blocks[3:]])
    with open_recording(path) as recording:
        assert all_cycles(recording) == planned(SMALL.all_cycles)
        assert not recording.damage


def test_columns_are_views_unless_there_are_long_times(path: Path) -> None:
    with open_recording(SMALL.write(path)) as recording:
        short, long = list(recording)
        assert not short.has_long and long.has_long
        for column in (short.end, short.row, short.kind, short.wait_ns, long.row):
            assert column.base is not None and not column.flags.writeable
        assert long.wait_ns.tolist() == [2**32, 0]
        del short, long, column
