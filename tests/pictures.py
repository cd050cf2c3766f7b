"""Pictures of a live view, made by hand."""

from __future__ import annotations

from typing import Optional

from corelock.activity import Active, Activity, WaitBlame
from corelock.blame import Charge
from corelock.locks import Holder, LockState, LockThread, Process, SeenLock
from corelock.model import Mode
from corelock.top.picture import Locks, Picture, WorstWait
from tests.reports import KERNEL_STACK, SERVER, START_NS, USER_STACK, row, slow

SECOND_NS = 1_000_000_000


def active(
    comm: str = "worker",
    tid: int = 4211,
    operation: str = "munmap",
    mode: Mode = "write",
    *,
    waits: int = 10,
    wait_ns: int = 1_000_000,
    wait_p99_ns: Optional[int] = 250_000,
    holds: int = 10,
    hold_ns: int = 2_000_000,
    hold_p99_ns: Optional[int] = 500_000,
    pid: int = SERVER[1],
    mm: tuple[str, int] = SERVER,
    by: str = "thread",
) -> Active:
    """A thread of ``SERVER`` unless said otherwise, or an operation."""
    keys = {"thread": (mm[1], 0, tid), "operation": (operation, mode), "whole": ()}
    return Active(
        keys[by], waits, wait_ns, wait_p99_ns, holds, hold_ns, hold_p99_ns,
        mm[1], mm[1], mm[0], pid, tid, pid, tid, comm, mode, operation,
    )  # fmt: skip


def activity(number: int, threads: tuple[Active, ...], operations: tuple[Active, ...]) -> Activity:
    """That of second ``number``; the whole is the sum of the threads."""
    whole = None
    if threads:
        whole = active(
            by="whole",
            waits=sum(each.waits for each in threads),
            wait_ns=sum(each.wait_ns for each in threads),
            holds=sum(each.holds for each in threads),
            hold_ns=sum(each.hold_ns for each in threads),
        )
    start_ns = START_NS + (number - 1) * SECOND_NS
    return Activity(start_ns, SECOND_NS, whole, threads, operations)


def worst(*, exact: bool = True) -> WorstWait:
    """A worker that waited for another process's smaps reader, and for a hold before that."""
    wait = slow(
        "wait", 8_000_000, comm="worker", tid=4211, kernel_stack=KERNEL_STACK[1:2],
        user_stack=USER_STACK,
    )  # fmt: skip
    waiter = row("worker", 4211, "munmap")
    charges = (
        Charge(waiter, row("htop", 999, "pread64", "read", pid=999), "observed", 6_000_000, 1, 0),
        Charge(waiter, row("bio_lazy_free", 4212, "munmap"), "convoy", 1_900_000, 1, 0),
    )
    hold = slow("hold", 7_000_000, comm="htop", tid=999, pid=999, kernel_stack=KERNEL_STACK[:2])
    wait_ns = wait.event.duration_ns if exact else 20_000_000
    return WorstWait(wait, WaitBlame(charges, exact, wait_ns, hold.event), hold)


def locks() -> Locks:
    """A lock that is held for writing, and waited for."""
    thread = LockThread(999, 999, 999, 999, "htop", 5, "pread64", False, ())
    lock = LockState(
        77, START_NS, (Process(SERVER[1], SERVER[0], SERVER[1]),), "read",
        Holder(thread, "hint"), 1, (), 12, True, True, None,
    )  # fmt: skip
    return Locks((SeenLock(lock, 2_500_000_000, 3, "likely"),), 3)


def picture(
    number: int = 1,
    threads: Optional[tuple[Active, ...]] = None,
    operations: Optional[tuple[Active, ...]] = None,
    **more: object,
) -> Picture:
    """That of second ``number``, of three threads and two operations unless said otherwise."""
    if threads is None:
        threads = (
            active(waits=100 * number, wait_ns=50_000_000 * number),
            active("bio_lazy_free", 4212, wait_ns=3_000_000, hold_ns=90_000_000),
            active("htop", 999, "pread64", "read", pid=999, waits=1, wait_ns=700, wait_p99_ns=700),
        )
    if operations is None:
        operations = (
            active(by="operation", operation="munmap", wait_ns=80_000_000),
            active(by="operation", operation="page-fault", mode="read", waits=400),
        )
    values: dict[str, object] = {
        "clock": f"14:02:{number:02}",
        "taken_ns": START_NS + number * SECOND_NS,
        "running_ns": number * SECOND_NS,
        "activity": activity(number, threads, operations),
        "losses": {},
        "worst": worst(),
        "least_wait_ns": 100_000,
    }
    return Picture(**{**values, **more})  # type: ignore[arg-type]
