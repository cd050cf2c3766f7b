"""Reports to render and export: a realistic one, and the pieces to make others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Optional

from corelock.histogram import Histogram
from corelock.model import (
    Accounting,
    Frame,
    Host,
    Mode,
    Report,
    ResolvedSlowEvent,
    Row,
    SlowEvent,
    SlowKind,
    Target,
    Times,
)

START_NS = 81_000_000_000_000
SERVER = ("redis-server", 4210)
NO_TIMES = Times(0, 0, 0, 0, Histogram())

UNMATCHED = (
    "start_without_acquire", "acquire_without_start", "failure_without_start",
    "acquire_without_release", "release_without_acquire", "release_of_other_mode",
    "foreign_release",
)  # fmt: skip
LOST = (
    "map_full", "slots_full", "storage_failed", "nested", "recursion_start_locking",
    "recursion_acquire_returned", "recursion_released",
)  # fmt: skip


def times(values_ns: Iterable[int]) -> Times:
    """Times that were measured as ``values_ns``."""
    values = list(values_ns)
    longest = max(values, default=0)
    return Times(len(values), sum(values), longest, longest, Histogram.of(values))


def row(
    comm: str = "worker",
    tid: int = 4211,
    operation: str = "mprotect",
    mode: Mode = "write",
    *,
    pid: int = SERVER[1],
    mm: tuple[str, int] = SERVER,
    wait: Times = NO_TIMES,
    hold: Times = NO_TIMES,
    downgrades: int = 0,
    trylock_failures: int = 0,
    aborted_waits: int = 0,
) -> Row:
    """A row of a thread of ``SERVER`` unless said otherwise."""
    return Row(
        mm[1], tid, mm[1], mm[1], mm[0], pid, tid, pid, tid, comm, mode, operation,
        downgrades, trylock_failures, aborted_waits, wait, hold,
    )  # fmt: skip


def accounting() -> Accounting:
    """A sum that is right, with nothing lost."""
    return Accounting(
        events={"start_locking": 4115, "acquire_returned": 4115, "released": 4115},
        paired=12_344,
        held_at_start=1,
        held_at_end=0,
        unmatched=dict.fromkeys(UNMATCHED, 0),
        lost=dict.fromkeys(LOST, 0),
        slow_recorded=2,
        slow_lost={"ring_full": 0, "stack_failed": 0},
        children_not_followed=0,
        self_events=0,
    )


def lossy_accounting() -> Accounting:
    """Something of every kind, and three events that went nowhere."""
    kinds = {name: n for n, name in enumerate(UNMATCHED, 1)}
    causes = {name: 1000 * n for n, name in enumerate(LOST, 1)}
    gone = sum(kinds.values()) + sum(causes.values()) + 3
    return replace(
        accounting(),
        paired=12_344 - gone,
        unmatched=kinds,
        lost=causes,
        slow_lost={"ring_full": 5, "stack_failed": 2},
        children_not_followed=4,
        self_events=17,
    )


def slow(
    kind: SlowKind = "hold",
    duration_ns: int = 12_345_678,
    *,
    comm: str = "bio_lazy_free",
    tid: int = 4212,
    pid: int = SERVER[1],
    mode: Mode = "write",
    operation: str = "munmap",
    kernel_stack: tuple[Frame, ...] = (),
    user_stack: tuple[Frame, ...] = (),
    note: Optional[str] = None,
) -> ResolvedSlowEvent:
    """A slow event 1.234 s into the report."""
    event = SlowEvent(
        kind, START_NS + 1_234_000_000, duration_ns, SERVER[1], SERVER[1], SERVER[0],
        pid, tid, pid, tid, comm, mode,
        operation, tuple(f.address for f in kernel_stack), tuple(f.address for f in user_stack),
        user_stack_full=False, stack_failed=False, user_context=None, process_key=0, program=None,
    )  # fmt: skip
    return ResolvedSlowEvent(event, kernel_stack, user_stack, note)


KERNEL_STACK = (
    Frame(0xFFFFFFFF8123D1C4, "__mmap_lock_do_trace_released", 0x44, None),
    Frame(0xFFFFFFFF81278A30, "__vm_munmap", 0x1A0, None),
    Frame(0xFFFFFFFFC0301234, "vfio_unmap", 0x34, "vfio_iommu_type1"),
    Frame(0xFFFFFFFF82000ADE, None, None, None),
)
PURGE = "arena_purge<" + "std::pair<long, long>, " * 6 + ">"
USER_STACK = (
    Frame(0x7F12_3456_789B, "__munmap", 0xB, "/usr/lib/x86_64-linux-gnu/libc.so.6"),
    Frame(0x5581_0002_4A10, PURGE, 0x10, "/opt/redis"),
    Frame(0x5581_0002_1234, None, 0x1234, "/opt/redis/redis-server"),
    Frame(0x1000, None, None, None),
)


def report(*rows: Row, **changes: object) -> Report:
    """A report of ``rows``, or a realistic one when none are given."""
    whole = Report(
        host=Host("6.1.0-18-amd64", "x86_64", "db7"),
        target=Target(SERVER[1], SERVER[0]),
        start_ns=START_NS,
        duration_ns=10_000_123_456,
        rows=rows or realistic_rows(),
        slow=(),
        accounting=accounting(),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def slow_report() -> Report:
    """The realistic report with a slow hold and a slow wait of a foreign thread."""
    hold = slow(
        kernel_stack=KERNEL_STACK,
        user_stack=USER_STACK,
        note="stack truncated (no frame pointer)",
    )
    wait = slow(
        "wait", 8_000_000_000, comm="htop", tid=999, pid=999, mode="read", operation="pread64",
        kernel_stack=KERNEL_STACK[:1],
    )  # fmt: skip
    return report(slow=(hold, wait))


def realistic_rows() -> tuple[Row, ...]:
    """A server with three threads, and a monitor that reads its smaps."""
    short = times([180 + 7 * n for n in range(400)])
    return (
        row("redis-server", 4210, "page-fault", "read", wait=short,
            hold=times(600 + 11 * n for n in range(400)), trylock_failures=12),
        row("bio_lazy_free", 4212, "munmap", wait=times(900 + n * n for n in range(250)),
            hold=times(20_000 + 90 * n * n for n in range(250)), downgrades=250),
        row("bio_lazy_free", 4212, "munmap", "read",
            hold=times(4_000 + 500 * n for n in range(250))),
        row("jemalloc_bg_thd", 4213, "madvise", wait=times([310, 350, 9_000]),
            hold=times([800, 1_200, 999_600])),
        row("htop", 999, "pread64", "read", pid=999, wait=times([8_000_000_000, 71_000]),
            hold=times([3_300_000, 12_345_678]), aborted_waits=1),
    )  # fmt: skip
