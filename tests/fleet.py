"""Recordings of some hosts whose locks are known to the last ns: what waits, and for which hold."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from corelock.recording import (
    CONTENDED,
    CYCLES,
    DOWNGRADED,
    FOOTER,
    HEADER,
    NO_WAIT,
    PROCESSES,
    ROWS,
    STACKS,
)
from tests import recordings
from tests.recordings import REALTIME_OFFSET_NS, START_NS, Cycle

SLOW_NS = 100_000
BURST_EVERY_NS = 2_400 * 10**9  # so that there are several hours
BURSTS = 3


class Thread(NamedTuple):
    """A thread, what it locks for, and in which process's address space."""

    pid: int
    tid: int
    comm: str
    mm: int
    mm_pid: int
    mm_comm: str
    operation: str
    number: int
    mode: str


#: Rows, from 1 on. The third is of another process; the fifth is what the first downgrades to.
THREADS = (
    Thread(4021, 4022, "worker", 1, 4021, "postgres", "munmap", 11, "write"),
    Thread(4021, 4023, "checkpointer", 1, 4021, "postgres", "mmap", 9, "write"),
    Thread(77, 77, "agent", 1, 4021, "postgres", "process_madvise", 440, "write"),
    Thread(5005, 5005, "redis-server", 2, 5005, "redis-server", "mprotect", 10, "write"),
    Thread(4021, 4022, "worker", 1, 4021, "postgres", "munmap", 11, "read"),
    Thread(5005, 5006, "bio_lazy_free", 2, 5005, "redis-server", "munmap", 11, "write"),
)


@dataclass
class Known:
    """A cycle, and the one whose hold kept its wait longest, for how long (None: none did)."""

    cycle: Cycle
    thread: Thread
    blocker: Optional[Thread] = None
    blocked_ns: int = 0

    @property
    def begun_ns(self) -> int:
        return self.cycle.end_ns - self.cycle.hold_ns

    @property
    def asked_ns(self) -> int:
        return self.begun_ns - self.cycle.wait_ns


def one_lock(mm: int, count: int, seed: int) -> list[list[Known]]:
    """Bursts of cycles of one lock, which is had by one after the other, in order of asking."""
    chance = random.Random(seed)
    rows = [n for n, thread in enumerate(THREADS, 1) if thread.mm == mm and thread.mode == "write"]
    bursts = []
    for burst in range(BURSTS):
        asked = free = burst * BURST_EVERY_NS + chance.randrange(1000)
        known: list[Known] = []
        while len(known) < count // BURSTS:
            asked += round(chance.expovariate(1 / 30_000))
            row, hold_ns = chance.choice(rows), 1 + round(chance.lognormvariate(9, 1.2))
            contended = asked < free
            begun = free if contended else asked + chance.randrange(300)
            is_downgraded = row == 1 and chance.random() < 0.5
            kind = (DOWNGRADED if is_downgraded else 0) + CONTENDED * contended
            known.append(_known(row, begun + hold_ns, begun - asked, hold_ns, kind))
            free = begun + hold_ns
            if is_downgraded:
                hold_ns = 1 + round(chance.lognormvariate(10, 1))
                free += hold_ns
                known.append(_known(5, free, 0, hold_ns, NO_WAIT))
        for at, one in enumerate(known):
            if one.cycle.kind & CONTENDED:
                _find_blocker(one, known[:at])
        bursts.append(known)
    return bursts


def _known(row: int, end_ns: int, wait_ns: int, hold_ns: int, kind: int) -> Known:
    stacks = (1 if wait_ns >= SLOW_NS else 0), (2 if hold_ns >= SLOW_NS else 0)
    return Known(Cycle(row, end_ns, wait_ns, hold_ns, kind, *stacks), THREADS[row - 1])


def _find_blocker(waiter: Known, earlier: list[Known]) -> None:
    for holder in reversed(earlier):
        if holder.cycle.end_ns <= waiter.asked_ns:
            return
        ns = holder.cycle.end_ns - max(holder.begun_ns, waiter.asked_ns)
        if ns > waiter.blocked_ns:
            waiter.blocker, waiter.blocked_ns = holder.thread, ns


class Load:
    """The cycles that some hosts have: all the same, at different times."""

    def __init__(self, count: int, seed: int) -> None:
        locks = one_lock(1, count // 2, seed), one_lock(2, count // 2, seed + 1)
        self._bursts = [[one for lock in locks for one in lock[n]] for n in range(BURSTS)]
        for burst in self._bursts:
            random.Random(seed).shuffle(burst)  # as cycles are in no order
        self.known = [one for burst in self._bursts for one in burst]
        self._payloads = [
            (CYCLES, recordings.cycles([one.cycle for one in burst])) for burst in self._bursts
        ]

    def write(self, path: Path, host: str, shift_ns: int = 0) -> Path:
        """A recording of it on that host, whose wall clock is ahead of others' by ``shift_ns``."""
        # A block says how its host's wall clock was: 8 bytes, 24 after its beginning.
        offset = (REALTIME_OFFSET_NS + shift_ns).to_bytes(8, "little")
        blocks = [(type_, data[:24] + offset + data[32:]) for type_, data in self._payloads]
        end_ns = BURSTS * BURST_EVERY_NS
        clock = recordings.clock(0, REALTIME_OFFSET_NS + shift_ns)
        head = recordings.header(
            id=f"{host}-{shift_ns}", slow_ns=SLOW_NS, clock=clock,
            host={**recordings.header()["host"], "hostname": host, "boot_id": f"boot of {host}"},
        )  # fmt: skip
        foot = recordings.footer(
            len(self.known), end_ns, clock=recordings.clock(end_ns, REALTIME_OFFSET_NS + shift_ns)
        )
        return recordings.write(
            path,
            [
                (HEADER, recordings.as_json(head)),
                (PROCESSES, b"".join(_PROCESSES)),
                (ROWS, b"".join(_ROWS)),
                *blocks,
                (STACKS, recordings.as_json(_STACKS)),
                (FOOTER, recordings.as_json(foot)),
            ],
        )


def start_unix_ns(known: Known, shift_ns: int = 0) -> int:
    """When the lock was asked for, as the host's wall clock had it."""
    return START_NS + known.asked_ns + REALTIME_OFFSET_NS + shift_ns


_PROCESSES = [
    recordings.process(mm, pid, comm)
    for mm, pid, comm in sorted({(t.mm, t.mm_pid, t.mm_comm) for t in THREADS})
]
_ROWS = [
    recordings.row(
        number, t.mm, t.tid, t.pid, t.tid, t.comm, t.number, ("read", "write").index(t.mode)
    )
    for number, t in enumerate(THREADS, 1)
]  # fmt: skip
WAIT_STACK, HOLD_STACK = "main;work;__vm_munmap", "main;__vm_munmap"
_STACKS = {
    "first": {"strings": 0, "frames": 0, "stacks": 0},
    "strings": ["__vm_munmap", "[kernel]", "main", "a.out", "work"],
    "frames": [[0xFFFFFFFF81000000, 0, 163, 1], [4096, 2, 1, 3], [8192, 4, 1, 3]],
    "stacks": [[[0], [2, 1], None], [[0], [1], None]],
    "ids": [[1, 0], [2, 1]],
}
