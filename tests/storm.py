"""A storm on one mmap_lock, worked out event by event: recordings whose cycles fit together.

The lock is first come, first served; readers that stand next to each other in the queue are
let in together. What comes out keeps the lock's promises (no writer beside anybody), so
that what reads recordings can be held against it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Optional

from corelock.recording import CONTENDED, DOWNGRADED, NO_WAIT, RELEASED
from tests import recordings as r
from tests.recordings import Cycle

SLOW_NS = 100_000
REALTIME_OFFSET_NS = 1_750_000_000_000_000_000
PAGE_FAULT, MMAP, MUNMAP, READ = 0x20000, 9, 11, 0


@dataclass(frozen=True)
class Habit:
    """What a thread does with the lock, over and over. Times are means, in ns."""

    row: int
    write: bool
    idle_ns: int
    hold_ns: int
    downgraded_row: Optional[int] = None


@dataclass
class _Lock:
    readers: int = 0
    writer: bool = False
    queue: deque[tuple[int, Habit, int]] = field(default_factory=deque)

    def free_for(self, write: bool) -> bool:
        return not self.writer and not (write and self.readers)


def storm(threads: Sequence[Sequence[Habit]], cycles: int, seed: int = 1) -> list[Cycle]:
    """Cycles of threads that each do one of their habits after the other, in order of ends."""
    chance = random.Random(seed)
    lock, done = _Lock(), []
    events: list[tuple[int, int, str, int, Any]] = []
    order = 0

    def later(at: int, what: str, thread: int, more: Any) -> None:
        nonlocal order
        order += 1
        heappush(events, (at, order, what, thread, more))

    def ask(now: int, thread: int) -> None:
        habit = chance.choice(threads[thread])
        if lock.queue or not lock.free_for(habit.write):
            lock.queue.append((thread, habit, now))
        else:
            enter(now, thread, habit, now, 0)

    def enter(now: int, thread: int, habit: Habit, asked: int, contended: int) -> None:
        if habit.write:
            lock.writer = True
        else:
            lock.readers += 1
        wait = now - asked if contended else chance.randrange(120, 400)
        hold = max(int(chance.expovariate(1 / habit.hold_ns)), 150)
        later(now + hold, "leave", thread, (habit, wait, hold, contended))

    def leave(now: int, thread: int, habit: Habit, wait: int, hold: int, kind: int) -> None:
        ending = RELEASED
        if habit.downgraded_row is not None and kind != NO_WAIT:
            lock.writer, lock.readers, ending = False, lock.readers + 1, DOWNGRADED
            more = max(int(chance.expovariate(2 / habit.hold_ns)), 150)
            reader = Habit(habit.downgraded_row, False, habit.idle_ns, habit.hold_ns)
            later(now + more, "leave", thread, (reader, 0, more, NO_WAIT))
        else:
            if habit.write:
                lock.writer = False
            else:
                lock.readers -= 1
            later(now + int(chance.expovariate(1 / habit.idle_ns)), "ask", thread, None)
        done.append(
            Cycle(
                habit.row, now, wait, hold, ending | kind,
                100 + habit.row if wait >= SLOW_NS else 0,
                200 + habit.row if hold >= SLOW_NS else 0,
            )
        )  # fmt: skip
        while lock.queue and lock.free_for(lock.queue[0][1].write):
            waiter, its, asked = lock.queue.popleft()
            enter(now, waiter, its, asked, CONTENDED)

    for thread in range(len(threads)):
        later(chance.randrange(50_000), "ask", thread, None)
    while len(done) < cycles:
        now, _, what, thread, more = heappop(events)
        if what == "ask":
            ask(now, thread)
        else:
            leave(now, thread, *more)
    return done


@dataclass(frozen=True)
class Cast:
    """The threads of a storm, and what a recording says of them."""

    threads: list[list[Habit]]
    processes: bytes
    rows: bytes
    stacks: dict[str, Any]


def cast(workers: int = 4, hostname: str = "db7", names: Sequence[str] = ()) -> Cast:
    """A server's workers, one that maps much, and another process that reads its smaps."""
    rows, threads, ids = [], [], []
    frames, strings = [], []

    def stack(id_: int, functions: Sequence[str], user: Sequence[str]) -> None:
        at = []
        for name in list(functions) + list(user):
            if name not in strings:
                strings.append(name)
                frames.append([0xFFFF0000 + len(frames), len(strings) - 1, 18, -1])
            at.append(strings.index(name))
        ids.append((id_, [at[: len(functions)], at[len(functions) :], None]))

    def habit(
        thread: int, comm: str, pid: int, operation: int, write: bool, idle: int, hold: int,
        *, downgrades: bool = False,
    ) -> Habit:  # fmt: skip
        number = len(rows) + 1
        rows.append(r.row(number, 1, thread, pid, pid + thread, comm, operation, int(write)))
        call = {PAGE_FAULT: "handle_mm_fault", MMAP: "do_mmap", MUNMAP: "__vm_munmap",
                READ: "show_smap"}[operation]  # fmt: skip
        user = ["handle_request", "run_worker", "start_thread"]
        stack(100 + number, ["rwsem_down_slowpath", call, "do_syscall_64"], user)
        stack(200 + number, [call, "do_syscall_64"], ["free_block"] + user)
        reader = None
        if downgrades:
            reader = len(rows) + 1
            rows.append(r.row(reader, 1, thread, pid, pid + thread, comm, operation, 0))
            stack(200 + reader, ["unmap_region", call, "do_syscall_64"], user)
        return Habit(number, write, idle, hold, reader)

    for thread in range(1, workers + 1):
        comm = names[thread - 1] if thread <= len(names) else f"worker-{thread}"
        threads.append(
            [
                habit(thread, comm, 4021, PAGE_FAULT, False, 20_000, 3_000),
                habit(thread, comm, 4021, MUNMAP, True, 40_000, 9_000, downgrades=True),
            ]
        )
    threads.append([habit(900, "mapper", 4021, MMAP, True, 400_000, 90_000)])
    threads.append([habit(901, "smaps-reader", 977, READ, False, 25_000_000, 4_000_000)])
    listed = [stack for _, stack in ids]
    return Cast(
        threads,
        r.process(1, 4021, "postgres") + r.process(2, 977, "smaps-reader"),
        b"".join(rows),
        {
            "first": {"strings": 0, "frames": 0, "stacks": 0},
            "strings": strings, "frames": frames, "stacks": listed,
            "ids": [[id_, at] for at, (id_, _) in enumerate(ids)],
        },
    )  # fmt: skip


def write_storm(
    path: Path, cycles: int = 20_000, seed: int = 1, *, workers: int = 4, cut: bool = False,
    names: Sequence[str] = (), **header: Any,
) -> list[Cycle]:  # fmt: skip
    """Record a storm; returns its cycles. ``cut``: as if recording had been killed."""
    who = cast(workers, names=names)
    some = storm(who.threads, cycles, seed)
    blocks = [(1, r.as_json(r.header(**header))), (2, who.processes), (3, who.rows)]
    blocks += [
        (4, r.cycles(some[at : at + 5_000], REALTIME_OFFSET_NS))
        for at in range(0, len(some), 5_000)
    ]
    blocks += [(5, r.as_json(who.stacks))]
    if not cut:
        ends = max(cycle.end_ns for cycle in some)
        blocks += [(6, r.as_json(r.footer(len(some), ends + 1_000)))]
    r.write(path, blocks)
    return some
