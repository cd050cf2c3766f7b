"""Who holds which lock now, as text: a block for each lock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Optional, TextIO

from corelock.locks import (
    HoldersReport,
    HoldersSnapshot,
    LockState,
    LockThread,
    SeenLock,
    Waiter,
)
from corelock.render.columns import cgroup_label, process_label, thread_label
from corelock.render.grouping import Name
from corelock.render.slow import stack_lines
from corelock.render.table import MIN_WIDTH
from corelock.render.text import cells, cut, flow, pad
from corelock.render.units import duration

#: What is said of each name, so that nobody takes a hint for a fact.
CERTAINTY = {
    "owner": "certain: the lock names it",
    "hint": "hint: the last reader that came",
    "gone": "it has exited since",
    "not-visible": "not of this pid namespace, or exited",
    "unknown": "the lock names nobody",
}
_QUEUED = "certain: queued"
_LEFT = "has left the queue since"
_LEFT_OR_NOT_VISIBLE = "not of this pid namespace, or left"


def render_holders(report: HoldersReport, stream: TextIO, width: Optional[int] = None) -> None:
    """Write ``report`` to ``stream``; ``width`` None is the terminal's."""
    columns = max(width or shutil.get_terminal_size().columns, MIN_WIDTH)
    stream.writelines(f"{line}\n" for line in holders_lines(report, columns))


def holders_lines(report: HoldersReport, width: int = MIN_WIDTH) -> Iterator[str]:
    """The lines of :func:`render_holders`, at most ``width`` columns each."""
    yield from flow(_title(report), width, indent="  ")
    for seen in report.locks:
        yield ""
        yield from _lock(seen, report, width)
    if report.snapshot.not_kept:
        yield ""
        yield f"{report.snapshot.not_kept:,} locks or threads stay without names: a table was full"


def _title(report: HoldersReport) -> Iterator[str]:
    snapshot = report.snapshot
    longer_ns = report.longer_than_ns
    span = f" for {duration(longer_ns)} or longer" if longer_ns else ""
    what = "held or waited for" if longer_ns is None else f"held{span}"
    if report.locks:
        yield f"mmap_lock {what}:"
    elif longer_ns is None:
        yield "nothing held:"
    else:
        yield f"nothing held{span}:"
    if report.target:
        target = report.target
        yield "looked at " + "".join(process_label(Name(target.comm, target.pid)))
    else:
        where = "" if snapshot.whole_host else " of this pid namespace"
        yield f"{len(report.locks):,} of {snapshot.mms:,} address spaces{where}"
        if report.cgroup:
            yield f"in {cgroup_label(report.cgroup)}"
    if snapshot.self_mms:
        yield "(not corelock's own)"
    yield f"on Linux {report.host.kernel}"


def _lock(seen: SeenLock, report: HoldersReport, width: int) -> Iterator[str]:
    lock = seen.lock
    yield _two_sided(processes(lock), _seen_held(seen), width)
    yield from _holder(lock, report, width)
    if lock.waiter_count:
        more = "" if lock.waiters_counted else "more than "
        yield f"  waiting: {more}{lock.waiter_count:,}"
    for place, waiter in enumerate(lock.waiters, 1):
        yield _two_sided(
            f"  {place:>2}  {waiter.mode:<5}  {_thread_words(waiter.thread, lock)}",
            waiter_certainty(waiter, report.snapshot),
            width,
        )
        yield from _stack(waiter.thread, report, width)
    if lock.waiters and lock.waiter_count > len(lock.waiters):
        yield f"  ... and {lock.waiter_count - len(lock.waiters):,} more behind them"
    if not lock.consistent:
        yield "  it kept changing while it was read: these may be of different moments"


def processes(lock: LockState) -> str:
    """Whose lock it is, in words."""
    names = ["".join(process_label(Name(p.comm, p.pid))) for p in lock.processes]
    return " = ".join(names) or "a process that has exited"


def _seen_held(seen: SeenLock) -> str:
    if seen.same_hold is None:
        return ""
    sure = "one hold" if seen.same_hold == "exact" else "likely one hold"
    return f"held {duration(seen.held_ns)} and longer, {sure}"


def _holder(lock: LockState, report: HoldersReport, width: int) -> Iterator[str]:
    if lock.mode is None:
        yield "  free, about to be taken by the first that waits"
        return
    who = _thread_words(lock.holder.thread, lock)
    if lock.mode == "read":
        who = f"{readers(lock)}, {who}"
    yield _two_sided(f"  held {lock.mode:<5}  {who}", CERTAINTY[lock.holder.certainty], width)
    yield from _stack(lock.holder.thread, report, width)


def readers(lock: LockState) -> str:
    """How many are inside of a lock that is held for reading."""
    return "1 reader" if lock.readers == 1 else f"{lock.readers:,} readers"


def waiter_certainty(waiter: Waiter, snapshot: HoldersSnapshot) -> str:
    """What is known of who waits."""
    left = _LEFT if snapshot.whole_host else _LEFT_OR_NOT_VISIBLE
    return _QUEUED if waiter.thread else left


def thread_name(thread: Optional[LockThread], lock: LockState) -> str:
    """A thread in words, with a star if it is another process's; "?" if it is not known."""
    if thread is None:
        return "?"
    foreign = thread.pid not in {process.pid for process in lock.processes}
    return "".join(thread_label(Name(thread.comm, thread.tid), foreign))


def _thread_words(thread: Optional[LockThread], lock: LockState) -> str:
    name = thread_name(thread, lock)
    return name if thread is None else f"{name}  {thread.operation}"


def _stack(thread: Optional[LockThread], report: HoldersReport, width: int) -> Iterator[str]:
    if thread is None:
        return
    if thread.kernel_stack:
        yield from (
            f"    {line}"
            for line in stack_lines(report.symbols[thread.kernel_stack], "[{}]", width - 4)
        )
    elif thread.running:
        yield "        (running on a CPU: no stack)"
    else:
        yield "        (it went on before its stack was taken)"


def _two_sided(left: str, right: str, width: int) -> str:
    if not right:
        return cut(left, "", width)
    room = width - cells(right) - 2
    return pad(cut(left, "", room), room) + "  " + right
