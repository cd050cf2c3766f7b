"""How long locks were seen held, and how they are written; no kernel needed."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from corelock.export.holders import holders_object, write_holders_json
from corelock.locks import (
    Certainty,
    Holder,
    HoldersReport,
    HoldersSnapshot,
    LockState,
    LockThread,
    Process,
    SeenLock,
    Waiter,
)
from corelock.model import Frame, Host, Mode, Target
from corelock.render.holders import holders_lines
from corelock.render.text import cells
from corelock.sampler import HoldWatch

DOC = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()
STACK = (0xFFFFFFFF81000010, 0xFFFFFFFF81000020)
HOST = Host("6.18.44", "x86_64", "db7")


def thread(tid: int, comm: str = "worker", **changes: Any) -> LockThread:
    return replace(LockThread(100, tid, 100, tid, comm, 5, "munmap", False, STACK), **changes)


def lock(
    at_ns: int,
    *,
    mode: Optional[Mode] = "write",
    tid: int = 101,
    sequence: Optional[int] = 7,
    certainty: Certainty = "owner",
    **changes: Any,
) -> LockState:
    state = LockState(
        0xFFFF888000000000, at_ns, (Process(100, "redis", 100),), mode,
        Holder(thread(tid), certainty), int(mode == "read"), (), 0, True, True, sequence,
    )  # fmt: skip
    return replace(state, **changes)


def snapshot(*locks: LockState) -> HoldersSnapshot:
    return HoldersSnapshot(1000, locks, 20, 90, 1, 0, True, 0)


def watched(*locks: LockState) -> list[tuple[int, int, Optional[str]]]:
    """What a watch says after these looks at one lock, of the last."""
    watch = HoldWatch()
    seen: list[SeenLock] = []
    for each in locks:
        seen = watch.add(snapshot(each))
    return [(s.held_ns, s.samples, s.same_hold) for s in seen]


# --- the watch ----------------------------------------------------------------------------------


def test_one_look_proves_no_duration() -> None:
    assert watched(lock(10)) == [(0, 1, None)]


def test_a_write_hold_keeps_its_number() -> None:
    assert watched(lock(10), lock(30), lock(60)) == [(50, 3, "exact")]


def test_what_changed_while_it_was_read_proves_less() -> None:
    assert watched(lock(10), lock(30, consistent=False)) == [(20, 2, "likely")]


def test_another_number_is_another_hold() -> None:
    assert watched(lock(10), lock(30, sequence=9)) == [(0, 1, None)]


def test_without_numbers_the_name_has_to_do() -> None:
    assert watched(lock(10, sequence=None), lock(30, sequence=None)) == [(20, 2, "likely")]
    assert watched(lock(10, sequence=None), lock(30, sequence=None, tid=102)) == [(0, 1, None)]


def test_readers_are_likely_at_best() -> None:
    read = lock(10, mode="read", certainty="hint")
    assert watched(read, replace(read, taken_ns=30)) == [(20, 2, "likely")]
    assert watched(read, replace(read, taken_ns=30, sequence=8)) == [(0, 1, None)]
    assert watched(read, lock(30, mode="read", tid=102)) == [(0, 1, None)]


@pytest.mark.parametrize(
    "other",
    [
        lock(30, mode="read"),
        lock(30, processes=(Process(200, "redis", 200),)),
        lock(30, holder=Holder(thread(101, start_ns=6), "owner")),
    ],
)
def test_what_cannot_be_the_same_hold(other: LockState) -> None:
    assert watched(lock(10), other) == [(0, 1, None)]


def test_a_lock_that_was_free_in_between_begins_anew() -> None:
    watch = HoldWatch()
    watch.add(snapshot(lock(10)))
    assert watch.add(snapshot()) == []
    assert watch.add(snapshot(lock(30)))[0].held_ns == 0


def test_a_lock_in_nobodys_hands_is_not_held() -> None:
    assert watched(lock(10, mode=None)) == []


def test_the_longest_come_first() -> None:
    watch = HoldWatch()
    watch.add(snapshot(lock(10)))
    late = lock(20, mm_key=1)
    watch.add(snapshot(lock(20), late))
    both = watch.add(snapshot(replace(late, taken_ns=30), lock(30)))
    assert [seen.held_ns for seen in both] == [20, 10]


# --- text ---------------------------------------------------------------------------------------


def report(*locks: SeenLock, **changes: Any) -> HoldersReport:
    frames = tuple(Frame(address, f"function_{address & 255:x}", 4, None) for address in STACK)
    whole = HoldersReport(
        HOST, None, snapshot(*(seen.lock for seen in locks)), locks, None, {STACK: frames}
    )
    return replace(whole, **changes)


def seen(state: LockState, held_ns: int = 0) -> SeenLock:
    return SeenLock(state, held_ns, 2 if held_ns else 1, "exact" if held_ns else None)


def test_in_a_pid_namespace() -> None:
    state = lock(
        1, certainty="not-visible", holder=Holder(None, "not-visible"), waiter_count=1,
        waiters=(Waiter(None, "read"),), processes=(Process(7, "redis", 4210),),
    )  # fmt: skip
    whole = report(seen(state))
    whole = replace(whole, snapshot=replace(whole.snapshot, whole_host=False))
    text = list(holders_lines(whole))
    assert " 1 of 20 address spaces of this pid namespace " in " ".join(text[:2])
    held, waits = (next(line for line in text if word in line) for word in ("held write", "1  r"))
    assert held.endswith("not of this pid namespace, or exited")
    assert waits.endswith("not of this pid namespace, or left")
    object_ = holders_object(whole)
    assert object_["whole_host"] is False
    [one] = object_["locks"]
    assert one["processes"] == [{"pid": 7, "comm": "redis", "host_pid": 4210}]
    assert one["holder"] == {"certainty": "not-visible", "thread": None}
    inside = replace(state, holder=Holder(thread(8, host_pid=100, host_tid=4211), "owner"))
    [one] = holders_object(replace(whole, locks=(seen(inside),)))["locks"]
    ids = {name: value for name, value in one["holder"]["thread"].items() if "id" in name}
    assert ids == {"pid": 100, "tid": 8, "host_tid": 4211}


def test_quiet() -> None:
    assert list(holders_lines(report())) == [
        "nothing held: 0 of 20 address spaces (not corelock's own) on Linux 6.18.44"
    ]
    quiet = report(longer_than_ns=2_000_000_000, target=Target(100, "redis"))
    assert " ".join(holders_lines(quiet)) == (
        "nothing held for 2.00s or longer: looked at redis[100] (not corelock's own)"
        "   on Linux 6.18.44"
    )


def test_a_holder_and_its_waiters() -> None:
    state = lock(
        10,
        processes=(Process(100, "redis", 100), Process(120, "child", 120)),
        holder=Holder(thread(900, "telegraf", pid=900, operation="read"), "hint"),
        mode="read",
        readers=3,
        waiters=(Waiter(thread(101), "write"), Waiter(None, "read")),
        waiter_count=5,
    )
    assert list(holders_lines(report(seen(state, 1_500_000_000))))[3:] == [
        "redis[100] = child[120]                          held 1.50s and longer, one hold",
        "  held read   3 readers, *telegraf[900]  read    hint: the last reader that came",
        "        function_10+0x4",
        "        function_20+0x4",
        "  waiting: 5",
        "   1  write  worker[101]  munmap                                 certain: queued",
        "        function_10+0x4",
        "        function_20+0x4",
        "   2  read   ?                                          has left the queue since",
        "  ... and 3 more behind them",
    ]


def test_why_there_is_no_stack() -> None:
    running = lock(10, holder=Holder(thread(101, running=True, kernel_stack=()), "owner"))
    assert "        (running on a CPU: no stack)" in list(holders_lines(report(seen(running))))
    gone = lock(10, holder=Holder(None, "gone"))
    assert any("it has exited since" in line for line in holders_lines(report(seen(gone))))


@pytest.mark.parametrize("comm", ["worker", "a-name-of-15-byt", "名前が長いスレッド", "x\x1b[2J"])
@pytest.mark.parametrize("width", [80, 132])
def test_nothing_is_wider_than_the_terminal(comm: str, width: int) -> None:
    state = lock(
        10,
        holder=Holder(thread(2**22, comm, operation="compat-syscall-123456"), "owner"),
        processes=tuple(Process(2**22 + n, comm, 2**22 + n) for n in range(6)),
        waiters=(Waiter(thread(2**22, comm), "write"),) * 3,
        waiter_count=3,
        consistent=False,
    )
    for line in holders_lines(report(seen(state, 1)), width):
        assert cells(line) <= width
        assert "\x1b" not in line


# --- JSON ---------------------------------------------------------------------------------------


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_json_is_one_line_and_documented() -> None:
    state = lock(10, waiters=(Waiter(thread(102), "read"),), waiter_count=1)
    whole = report(seen(state, 20), target=Target(100, "redis"))
    stream = io.StringIO()
    write_holders_json(stream, whole)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert json.loads(line) == holders_object(whole)
    documented = set(re.findall(r"`(\w+)`", DOC))
    assert keys(holders_object(whole)) - documented == set()


def test_json_of_a_lock() -> None:
    [got] = holders_object(report(seen(lock(10), 20)))["locks"]
    assert got["holder"]["thread"].pop("kernel_stack")[0] == {
        "name": "function_10", "offset": 4, "address": STACK[0],
    }  # fmt: skip
    assert got == {
        "processes": [{"pid": 100, "comm": "redis"}],
        "taken_ns": 10, "mode": "write", "readers": 0,
        "holder": {"certainty": "owner", "thread": {
            "pid": 100, "tid": 101, "comm": "worker", "start_ns": 5, "operation": "munmap",
            "running": False,
        }},
        "foreign": False, "held_ns": 20, "samples": 2, "same_hold": "exact",
        "waiter_count": 0, "waiters_counted": True, "waiters": [], "consistent": True,
    }  # fmt: skip
