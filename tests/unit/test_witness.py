"""The witness's own arithmetic, on sequences written by hand."""

from __future__ import annotations

import struct

import pytest

from tests.witness import Event, Kind, RecordFormat, decode_page, mms_of, on_process, recompute

OLD, NEW = 0x1000, 0x2000
TID = 7


def event(
    ts_ns: int, kind: Kind, write: int, mm: int = OLD, tid: int = TID, success: bool = True
) -> Event:
    return Event(ts_ns, tid, kind, mm, bool(write), success)


MUNMAP = [
    event(100, "start", 1),
    event(110, "acquire", 1),
    event(140, "acquire", 0),
    event(145, "release", 0),
]

FORK = [
    event(100, "start", 1, OLD),
    event(103, "acquire", 1, OLD),
    event(104, "start", 1, NEW),
    event(105, "acquire", 1, NEW),
    event(150, "release", 1, NEW),
    event(160, "release", 1, OLD),
]


def test_plain_hold() -> None:
    account = recompute(
        [event(10, "start", 1), event(13, "acquire", 1), event(33, "release", 1)]
        + [event(40, "start", 1), event(41, "acquire", 1), event(49, "release", 1)]
    )
    totals = account.totals[TID, "write"]
    assert (totals.acquisitions, totals.holds) == (2, 2)
    assert (totals.wait_total_ns, totals.wait_max_ns) == (4, 3)
    assert (totals.hold_total_ns, totals.hold_max_ns) == (28, 20)
    assert account.sum("read").acquisitions == 0


def test_downgrade_ends_the_write_hold_and_begins_a_read_hold() -> None:
    account = recompute(MUNMAP)
    write, read = account.totals[TID, "write"], account.totals[TID, "read"]
    assert (write.acquisitions, write.downgrades, write.holds) == (1, 1, 1)
    assert (write.wait_total_ns, write.hold_total_ns) == (10, 30)
    assert (read.acquisitions, read.holds, read.hold_total_ns) == (0, 1, 5)
    assert not account.unmatched and not account.held_at_start
    assert (account.open_waits, account.open_holds) == (0, 0)


def test_nested_read_within_a_write_hold_is_no_downgrade() -> None:
    account = recompute(
        [event(0, "start", 1), event(1, "acquire", 1)]
        + [event(5, "start", 0), event(6, "acquire", 0), event(8, "release", 0)]
        + [event(9, "release", 1)]
    )
    assert account.totals[TID, "write"].downgrades == 0
    assert account.totals[TID, "write"].hold_total_ns == 8
    assert account.totals[TID, "read"].acquisitions == 1
    assert account.totals[TID, "read"].hold_total_ns == 2


def test_failed_trylock_opens_no_hold() -> None:
    account = recompute(
        [event(10, "start", 0), event(11, "acquire", 0, success=False)]
        + [event(12, "start", 0), event(20, "acquire", 0), event(25, "release", 0)]
    )
    totals = account.totals[TID, "read"]
    assert (totals.failures, totals.acquisitions, totals.holds) == (1, 1, 1)
    assert (totals.wait_total_ns, totals.hold_total_ns) == (8, 5)


def test_fork_holds_two_mms_at_once() -> None:
    totals = recompute(FORK).totals[TID, "write"]
    assert (totals.acquisitions, totals.holds, totals.downgrades) == (2, 2, 0)
    assert totals.wait_total_ns == 3 + 1
    assert totals.hold_total_ns == 45 + 57
    assert totals.hold_max_ns == 57


def test_threads_are_told_apart() -> None:
    account = recompute(
        [event(0, "start", 1), event(1, "acquire", 1)]
        + [event(2, "start", 1, tid=8), event(9, "release", 1), event(10, "acquire", 1, tid=8)]
        + [event(12, "release", 1, tid=8)]
    )
    assert account.totals[TID, "write"].hold_total_ns == 8
    assert account.totals[8, "write"].wait_total_ns == 8
    assert account.totals[8, "write"].hold_total_ns == 2
    both = account.sum("write")
    assert (both.acquisitions, both.wait_max_ns, both.hold_total_ns) == (2, 8, 10)
    assert account.sum("write", {8}).acquisitions == 1


def test_beginning_within_a_wait_or_a_hold() -> None:
    in_wait = recompute([event(5, "acquire", 1), event(6, "release", 1), *MUNMAP])
    assert in_wait.held_at_start == 2
    in_hold = recompute([event(6, "release", 1), *MUNMAP])
    assert in_hold.held_at_start == 1
    for account in in_wait, in_hold:
        assert not account.unmatched
        assert account.totals[TID, "write"].holds == 1


def test_ending_within_a_wait_or_a_hold() -> None:
    assert recompute(MUNMAP[:1]).open_waits == 1
    assert recompute(MUNMAP[:2]).open_holds == 1
    after_downgrade = recompute(MUNMAP[:3])
    assert after_downgrade.open_holds == 1
    assert after_downgrade.totals[TID, "write"].holds == 1


def test_release_never_ends_a_hold_of_the_other_mode() -> None:
    account = recompute([*MUNMAP[:2], event(120, "release", 0)])
    assert account.unmatched == {"release": 1}
    assert account.open_holds == 1


def test_failure_without_start_is_unmatched() -> None:
    account = recompute([*MUNMAP, event(200, "acquire", 0, success=False)])
    assert account.unmatched == {"acquire": 1}


def test_mm_of_a_fork_child_is_not_the_parents() -> None:
    assert mms_of(FORK, {TID}) == [OLD]
    assert {e.mm for e in on_process(FORK, {TID})} == {OLD}


def test_both_mms_of_an_exec_are_the_processes() -> None:
    earlier = [event(e.ts_ns - 100, e.kind, e.write, NEW, tid=9) for e in MUNMAP]
    after = [event(e.ts_ns + 1000, e.kind, e.write, NEW) for e in MUNMAP]
    reused = [event(e.ts_ns + 2000, e.kind, e.write, OLD, tid=9) for e in MUNMAP]
    foreign = [event(e.ts_ns + 3000, e.kind, e.write, NEW, tid=9) for e in MUNMAP]
    events = [*earlier, *MUNMAP, *after, *reused, *foreign]
    assert mms_of(events, {TID}) == [OLD, NEW]
    assert on_process(events, {TID}) == [*MUNMAP, *after, *foreign]
    assert on_process(events, {TID}, ended=True) == [*MUNMAP, *after]


FORMAT_6_14 = """ID: 675
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
\tfield:struct mm_struct * mm;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 memcg_id;\toffset:16;\tsize:8;\tsigned:0;
\tfield:bool write;\toffset:24;\tsize:1;\tsigned:0;
\tfield:bool success;\toffset:25;\tsize:1;\tsigned:0;
"""


def page_of(*parts: bytes, ts_ns: int = 5_000) -> bytes:
    data = b"".join(parts)
    missed_events_flag = 1 << 31
    return struct.pack("<QQ", ts_ns, len(data) | missed_events_flag) + data.ljust(4080, b"\xff")


def record(delta_ns: int, write: bool, success: bool) -> bytes:
    body = struct.pack("<HBBiQQ??6x", 675, 0, 0, TID, OLD, 1, write, success)
    return struct.pack("<I", len(body) // 4 | delta_ns << 5) + body


def test_decoding_a_page() -> None:
    formats = {675: RecordFormat("acquire", FORMAT_6_14)}
    page = page_of(
        record(0, True, True),
        record(7, False, True),
        struct.pack("<II", 30 | 3 << 5, 2),  # time extend
        record(1, True, False),
        struct.pack("<II", 29 | 1 << 5, 8) + b"\xff" * 4,  # a discarded record
        struct.pack("<II", 31 | 9 << 5, 4),  # absolute time
        record(2, True, True),
        struct.pack("<I", 29),  # the rest of the page is empty
        b"\xff" * 8,
    )
    extended_ns = 5_007 + (2 << 27) + 3 + 1
    assert list(decode_page(page, formats)) == [
        event(5_000, "acquire", 1),
        event(5_007, "acquire", 0),
        event(extended_ns, "acquire", 1, success=False),
        event((4 << 27) + 9 + 2, "acquire", 1),
    ]


def test_decoding_refuses_what_it_does_not_know() -> None:
    formats = {675: RecordFormat("acquire", FORMAT_6_14)}
    with pytest.raises(ValueError, match="long record"):
        list(decode_page(page_of(struct.pack("<II", 0, 40)), formats))
