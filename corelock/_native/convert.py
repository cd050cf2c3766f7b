"""The library's structs as what ``corelock.model`` has."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from corelock._rows import NO_CONTENTION, Reading
from corelock.histogram import Histogram
from corelock.model import Accounting, Program, Row, SlowEvent, Times, UserContext
from corelock.names import kernel_name
from corelock.symbolize.syscalls import operation_name

_MODES = ("read", "write")
_KINDS = ("wait", "hold")


class Readings:
    """Makes rows of ``struct corelock_reading``, of one pass over the table.

    Equal values are one object: of the 40,000 rows of 10,000 threads that saves 10 MB.
    """

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._numbers: dict[int, int] = {}
        self._histograms: dict[bytes, Histogram] = {}

    def reading(self, raw: Any, waits: bytes = b"", holds: bytes = b"") -> Reading:
        """One, with its buckets."""
        one = self._numbers.setdefault
        numbers = (
            raw.mm_id, raw.task_id, raw.mm_pid, raw.mm_host_pid, raw.pid, raw.tid, raw.host_pid,
            raw.host_tid,
        )  # fmt: skip
        mm_id, task_id, mm_pid, mm_host_pid, pid, tid, host_pid, host_tid = map(
            one, numbers, numbers
        )
        comm = kernel_name(bytes(raw.comm))
        row = Row(
            process_key=mm_id,
            thread_key=task_id,
            mm_pid=mm_pid,
            mm_host_pid=mm_host_pid,
            mm_comm=kernel_name(bytes(raw.mm_comm)),
            pid=pid,
            tid=tid,
            host_pid=host_pid,
            host_tid=host_tid,
            comm=comm,
            mode=_MODES[raw.mode],  # type: ignore[arg-type]
            operation=operation_name(raw.operation, comm, self._machine),
            downgrades=raw.downgrades,
            trylock_failures=raw.trylock_failures,
            aborted_waits=raw.aborted_waits,
            wait=Times(
                raw.wait_count, raw.wait_total_ns, raw.wait_max_ns, raw.wait_recent_max_ns,
                self._histogram(waits),
            ),
            hold=Times(
                raw.hold_count, raw.hold_total_ns, raw.hold_max_ns, raw.hold_recent_max_ns,
                self._histogram(holds),
            ),
        )  # fmt: skip
        contention = (raw.contended_waits, raw.contended_ns, raw.unknown_ns, raw.unheld_ns)
        return Reading(
            row, raw.named_ns, raw.mm_start_ns, raw.row,
            contention if any(contention) else NO_CONTENTION,
        )  # fmt: skip

    def _histogram(self, packed: bytes) -> Histogram:
        found = self._histograms.get(packed)
        if found is None:
            found = self._histograms[packed] = Histogram(packed)
        return found


def slow_event(ffi: Any, lib: Any, record: Any, machine: str) -> SlowEvent:
    """A ``struct corelock_slow``."""
    comm = kernel_name(bytes(record.comm))
    user = user_stack(ffi, lib, record.user)
    return SlowEvent(
        kind=_KINDS[record.kind],  # type: ignore[arg-type]
        start_ns=record.start_ns,
        duration_ns=record.duration_ns,
        mm_pid=record.mm_pid,
        mm_host_pid=record.mm_host_pid,
        mm_comm=kernel_name(bytes(record.mm_comm)),
        pid=record.pid,
        tid=record.tid,
        host_pid=record.host_pid,
        host_tid=record.host_tid,
        comm=comm,
        mode=_MODES[record.mode],  # type: ignore[arg-type]
        operation=operation_name(record.operation, comm, machine),
        kernel_stack=tuple(record.kernel_stack[0 : max(0, record.kernel_stack_bytes) // 8]),
        user_stack=user.addresses,
        user_stack_full=user.full,
        stack_failed=record.kernel_stack_bytes < 0 or record.user.bytes < 0,
        user_context=user.context,
        process_key=record.mm_id,
        program=user.program,
    )


class UserStack(NamedTuple):
    """A user stack by frame pointers; ``full``: cut at the depth limit. See ``SlowEvent``."""

    addresses: tuple[int, ...]
    full: bool
    context: Optional[UserContext]
    program: Optional[Program]


def user_stack(ffi: Any, lib: Any, raw: Any) -> UserStack:
    """A ``struct corelock_user_stack``."""
    context = None
    if raw.ip:
        copy = ffi.buffer(raw.copy)[0 : raw.copy_bytes]
        context = UserContext(raw.ip, raw.sp, raw.frame, raw.other, lib.CORELOCK_COPY_BELOW, copy)
    addresses = tuple(raw.addresses[0 : max(0, raw.bytes) // 8])
    program = Program(raw.code_start, raw.code_end, raw.stack_start) if raw.stack_start else None
    return UserStack(addresses, raw.bytes == ffi.sizeof(raw.addresses), context, program)


def accounting(ffi: Any, totals: Any, attached_by: str) -> Accounting:
    """A ``struct corelock_totals``; ``held_at_end`` is what was counted as open."""
    counters = totals.counters
    events = _names(ffi, "corelock_event", "CORELOCK_EVENT_")
    lost = dict(zip(_names(ffi, "corelock_lost", "CORELOCK_LOST_"), counters.lost))
    lost.update((f"recursion_{e}", n) for e, n in zip(events, counters.recursion_misses))
    unmatched = _names(ffi, "corelock_unmatched", "CORELOCK_UNMATCHED_")
    return Accounting(
        events={
            event: totals.seen[i] + counters.seen_without_row[i] + counters.recursion_misses[i]
            for i, event in enumerate(events)
        },
        # A wait pairs its start. A failure pairs its start and itself. A hold pairs
        # the acquisition that opened it and the release that closed it, or, when a
        # downgrade closed it, only the former.
        paired=totals.waits + 2 * totals.failures + 2 * totals.holds - totals.downgrades,
        held_at_start=counters.held_at_start,
        held_at_end=counters.open_waits + counters.open_holds,
        unmatched=dict(zip(unmatched, counters.unmatched)),
        lost=lost,
        slow_recorded=counters.slow_recorded,
        slow_lost={"ring_full": counters.ring_full, "stack_failed": counters.stack_failed},
        cycles_lost=counters.cycles_full,
        stacks_full=counters.stacks_full,
        children_not_followed=counters.not_followed,
        self_events=counters.self,
        hooks_missed=counters.hook_misses,
        charges_full=counters.charges_full,
        open_waits=counters.open_waits,
        attached_by=attached_by,
    )


def _names(ffi: Any, enum: str, prefix: str) -> list[str]:
    """An enum's members as the JSON names them, in order, without the count at the end."""
    members = ffi.typeof(f"enum {enum}").elements
    return [members[i][len(prefix) :].lower() for i in sorted(members)[:-1]]
