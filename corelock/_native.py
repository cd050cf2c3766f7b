"""The only module that calls libcorelock: call, check, convert."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from corelock import _ffi, errors
from corelock._rows import Reading
from corelock.histogram import Histogram
from corelock.model import Accounting, Row, SlowEvent, Times, UserContext
from corelock.names import kernel_name
from corelock.symbolize.syscalls import operation_name

if TYPE_CHECKING:
    from corelock._charges import RawCharge
    from corelock.activity import Active
    from corelock.locks import HoldersSnapshot

_ROW_BATCH = 256
_BUCKETS = 640 * 16
_SLOW_BATCH = 16
#: Charges of one row's waits that are looked at.
_MOST_HOLDERS = 8192
#: Room in the ring for one batch of slow records, at the least.
SLOW_BATCH_BYTES = _SLOW_BATCH * 16384
_MODES = ("read", "write")
_KINDS = ("wait", "hold")

_EXCEPTIONS: Mapping[str, type[errors.CorelockError]] = {
    "CORELOCK_E_ARGUMENT": errors.InvalidArgument,
    "CORELOCK_E_UNSUPPORTED": errors.Unsupported,
    "CORELOCK_E_PRIVILEGE": errors.MissingPrivilege,
    "CORELOCK_E_LOAD": errors.LoadError,
    "CORELOCK_E_COMMAND": errors.CommandError,
    "CORELOCK_E_SYSTEM": errors.CorelockError,
}


@dataclass(frozen=True)
class Options:
    """``struct corelock_options``; see ``corelock.h`` for units and defaults."""

    target: str = "ALL"
    target_id: int = 0
    target_comm: bytes = b""
    cgroup_id: int = 0
    follow: bool = False
    self_tgid: int = 0
    slow_ns: Optional[int] = None
    max_rows: int = 0
    max_mms: int = 0
    ring_bytes: int = 0
    intervals: bool = False
    charges: bool = False
    examples: bool = True
    record: bool = False
    cycle_ring_bytes: int = 0
    attach: str = "ANY"
    btf: Optional[str] = None


@dataclass(frozen=True)
class HostFacts:
    """``struct corelock_host``; ``jit`` None: not known."""

    capabilities: int
    memcg_path: bool
    jit: Optional[bool]


@dataclass(frozen=True)
class RecordingStatus:
    """``struct corelock_recording``; ``ended_ns`` None: it goes on, or was ended by us."""

    bytes: int
    cycles: int
    not_written: int
    ended_ns: Optional[int]
    sys_errno: int
    full: bool


class SlowRecord(NamedTuple):
    """A slow event, the index of its row, and the id of its stacks if cycles are recorded."""

    row: int
    stack: int
    event: SlowEvent


def take_locks(times: int) -> None:
    """Take the own mmap_lock so often by munlock, and as often by msync."""
    error = _ffi.library()[1].corelock_take_locks(times)
    if error:
        raise errors.CorelockError(f"cannot take locks: {os.strerror(-error)}")


def _path(ffi: Any, path: Optional[str]) -> Any:
    """A file's name for the library, NULL for none. It lives as long as what is returned."""
    return ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))


def _exception(ffi: Any, error: Any) -> errors.CorelockError:
    """A ``struct corelock_error`` as what Python raises."""
    message, remedy, log = (
        ffi.string(text).decode(errors="replace")
        for text in (error.message, error.remedy, error.log)
    )
    name = ffi.typeof("enum corelock_code").elements[error.code]
    return _EXCEPTIONS[name](message, remedy, log)


class Session:
    """One ``corelock_session``. Not thread-safe: the tracer holds the lock.

    Every method raises a :class:`~corelock.errors.CorelockError` on failure.
    """

    def __init__(self) -> None:
        self._ffi, self._lib = _ffi.library()
        self._session = self._lib.corelock_new()
        if self._session == self._ffi.NULL:
            raise MemoryError("corelock_new")
        # A session that is dropped without being closed is detached all the same.
        self._free = weakref.finalize(self, self._lib.corelock_free, self._session)
        self._machine = os.uname().machine
        self._detached = False
        self._slow_records: Any = None

    def close(self) -> None:
        """Detach and free; afterwards only ``close`` may be called."""
        self._free()
        self._session = self._ffi.NULL

    def _check(self, result: int) -> int:
        if result < 0:
            raise _exception(self._ffi, self._lib.corelock_last_error(self._session))
        return result

    def configure(self, options: Options) -> None:
        """Hand over the options."""
        off = self._lib.CORELOCK_SLOW_OFF
        path = _path(self._ffi, options.btf)
        self._check(
            self._lib.corelock_configure(
                self._session,
                self._ffi.new(
                    "struct corelock_options *",
                    {
                        "size": self._ffi.sizeof("struct corelock_options"),
                        "slow_ns": off if options.slow_ns is None else options.slow_ns,
                        "target": getattr(self._lib, f"CORELOCK_TARGET_{options.target}"),
                        "target_id": options.target_id,
                        "target_comm": options.target_comm,
                        "cgroup_id": options.cgroup_id,
                        "follow": options.follow,
                        "self_tgid": options.self_tgid,
                        "max_rows": options.max_rows,
                        "max_mms": options.max_mms,
                        "ring_bytes": options.ring_bytes,
                        "intervals": options.intervals,
                        "charges": options.charges * (1 if options.examples else 2),
                        "record": options.record,
                        "cycle_ring_bytes": options.cycle_ring_bytes,
                        "attach": getattr(self._lib, f"CORELOCK_ATTACH_{options.attach}"),
                        "btf_path": path,
                    },
                ),
            )
        )

    def check(self, which: str) -> None:
        """One of the checks that come before tracing, by its name in ``enum corelock_check``."""
        self._check(
            self._lib.corelock_check(self._session, getattr(self._lib, f"CORELOCK_CHECK_{which}"))
        )

    def look_at_host(self) -> HostFacts:
        """What the host has; ``memcg_path`` is known once ``TRACEPOINTS`` was checked."""
        host = self._ffi.new("struct corelock_host *")
        self._lib.corelock_look_at_host(self._session, host)
        jit = None if host.jit < 0 else bool(host.jit)
        return HostFacts(host.capabilities, bool(host.memcg_path), jit)

    def load(self) -> None:
        """Create maps and programs."""
        self._check(self._lib.corelock_load(self._session))

    def host_target_id(self) -> int:
        """The option ``target_id`` as the initial pid namespace has it; once loaded."""
        return int(self._lib.corelock_host_target_id(self._session))

    def attach(self) -> int:
        """Begin to count; the moment, in ns."""
        start = self._ffi.new("uint64_t *")
        self._check(self._lib.corelock_attach(self._session, start))
        return int(start[0])

    def attached_by(self) -> str:
        """``tp_btf`` or ``tp``, once loaded."""
        members = self._ffi.typeof("enum corelock_attach").elements
        name: str = members[self._lib.corelock_attached_by(self._session)]
        return name[len("CORELOCK_ATTACH_") :].lower()

    def detach(self) -> int:
        """Stop counting; the moment, in ns."""
        end = self._ffi.new("uint64_t *")
        self._check(self._lib.corelock_detach(self._session, end))
        self._detached = True
        return int(end[0])

    def slow_fd(self) -> int:
        """A descriptor that polls readable when slow records wait."""
        return self._check(self._lib.corelock_slow_fd(self._session))

    def spawn(self, command: Sequence[str]) -> int:
        """Start a command, held at its first instruction; its pid."""
        words = [self._ffi.new("char[]", os.fsencode(word)) for word in command]
        argv = self._ffi.new("char *[]", [*words, self._ffi.NULL])
        pid = self._ffi.new("int32_t *")
        self._check(self._lib.corelock_spawn(self._session, argv, pid))
        return int(pid[0])

    def resume(self, pid: int) -> None:
        """Let a spawned command go; from the thread that spawned it."""
        self._check(self._lib.corelock_resume(self._session, pid))

    def abandon(self, pid: int) -> None:
        """End a spawned command before its first instruction; from the same thread."""
        self._check(self._lib.corelock_abandon(self._session, pid))

    def readings(self) -> Iterator[Reading]:
        """All rows of the kernel's table."""
        self._check(self._lib.corelock_begin_rows(self._session))
        rows = self._ffi.new("struct corelock_reading[]", _ROW_BATCH)
        buckets = self._ffi.new("struct corelock_bucket[]", _BUCKETS)
        packed, size = self._ffi.buffer(buckets), self._ffi.sizeof("struct corelock_bucket")
        while True:
            count = self._check(
                self._lib.corelock_next_rows(self._session, rows, _ROW_BATCH, buckets, _BUCKETS)
            )
            if not count:
                return
            at = 0
            for i in range(count):
                middle = at + rows[i].wait_buckets * size
                end = middle + rows[i].hold_buckets * size
                yield self._reading(rows[i], packed[at:middle], packed[middle:end])
                at = end

    def _reading(self, raw: Any, waits: bytes, holds: bytes) -> Reading:
        comm = kernel_name(bytes(raw.comm))
        mm_pid, pid, tid = raw.mm_pid, raw.pid, raw.tid
        row = Row(
            process_key=raw.mm_id,
            thread_key=raw.task_id,
            mm_pid=mm_pid,
            # Of 40,000 rows, equal numbers that are one object save megabytes.
            mm_host_pid=mm_pid if raw.mm_host_pid == mm_pid else raw.mm_host_pid,
            mm_comm=kernel_name(bytes(raw.mm_comm)),
            pid=pid,
            tid=tid,
            host_pid=pid if raw.host_pid == pid else raw.host_pid,
            host_tid=tid if raw.host_tid == tid else raw.host_tid,
            comm=comm,
            mode=_MODES[raw.mode],  # type: ignore[arg-type]
            operation=operation_name(raw.operation, comm, self._machine),
            downgrades=raw.downgrades,
            trylock_failures=raw.trylock_failures,
            aborted_waits=raw.aborted_waits,
            wait=Times(
                raw.wait_count, raw.wait_total_ns, raw.wait_max_ns, raw.wait_recent_max_ns,
                Histogram(waits),
            ),
            hold=Times(
                raw.hold_count, raw.hold_total_ns, raw.hold_max_ns, raw.hold_recent_max_ns,
                Histogram(holds),
            ),
        )  # fmt: skip
        contention = (raw.contended_waits, raw.contended_ns, raw.unknown_ns, raw.unheld_ns)
        return Reading(row, raw.named_ns, raw.mm_start_ns, raw.row, contention)

    def charges(self, waiter_row: int = 0) -> list[RawCharge]:
        """All charges of waits to holds, by the indices of their rows; or of one row's waits."""
        from corelock._charges import CERTAINTIES, RawCharge

        room = self._lib.corelock_max_charges(self._session)
        if waiter_row:
            room = min(room, _MOST_HOLDERS)
        raw = self._ffi.new("struct corelock_charged[]", room)
        if waiter_row:
            result = self._lib.corelock_read_row_charges(self._session, waiter_row, raw, room)
        else:
            result = self._lib.corelock_read_charges(self._session, raw, room)
        return [
            RawCharge(
                one.waiter_row, one.holder_row, CERTAINTIES[one.certainty],
                one.total_ns, one.waits, one.max_ns, one.last_start_ns, one.last_ns,
            )
            for one in raw[0 : self._check(result)]
        ]  # fmt: skip

    def row(self, index: int) -> Row:
        """One row of the kernel's table as it is called now, without its waits and holds."""
        raw = self._ffi.new("struct corelock_reading *")
        self._check(self._lib.corelock_read_row(self._session, index, raw))
        return self._reading(raw, b"", b"").row

    def look(self) -> None:
        """Find what has been counted since the last time; :meth:`active` gives it."""
        self._check(self._lib.corelock_begin_activity(self._session))

    def active(self, by: str) -> tuple[Active, ...]:
        """What the last look found, put together by NOTHING, THREAD or OPERATION."""
        from corelock import _activity

        room = self._lib.corelock_active_rows(self._session)
        groups = self._ffi.new("struct corelock_activity[]", room)
        count = self._check(
            self._lib.corelock_read_activity(
                self._session, getattr(self._lib, f"CORELOCK_BY_{by}"), groups, room
            )
        )
        form = _activity.layout(self._ffi)
        packed = self._ffi.buffer(groups)[0 : count * form.size]
        return tuple(_activity.convert(packed, form, by, kernel_name, self._machine))

    def slow_batch(
        self, min_wait_ns: int, min_hold_ns: int, longest_only: bool = False
    ) -> tuple[list[SlowRecord], bool]:
        """Some of the records that wait in the ring, and whether there may be more.

        ``longest_only``: of the waits and of the holds among them, the longest.
        """
        # Made once, and only if there is something slow: it is large.
        if self._slow_records is None:
            self._slow_records = self._ffi.new("struct corelock_slow[]", _SLOW_BATCH)
        records = self._slow_records
        count = self._check(
            self._lib.corelock_read_slow(
                self._session, records, _SLOW_BATCH, min_wait_ns, min_hold_ns
            )
        )
        wanted = list(records[0:count])
        if longest_only:
            wanted.sort(key=lambda record: record.duration_ns)
            wanted = list({record.kind: record for record in wanted}.values())
        taken = [SlowRecord(each.row, each.stack, self._slow_event(each)) for each in wanted]
        return taken, count == _SLOW_BATCH

    def record_begin(self, fd: int, max_bytes: int, header: bytes) -> None:
        """Begin to write cycles to ``fd``, after this header; once attached."""
        self._check(
            self._lib.corelock_record_begin(self._session, fd, max_bytes, header, len(header))
        )

    def record_block(self, type_: str, payload: bytes) -> None:
        """Write a block of a type of ``enum corelock_block``."""
        number = getattr(self._lib, f"CORELOCK_BLOCK_{type_}")
        self._check(self._lib.corelock_record_block(self._session, number, payload, len(payload)))

    def record_fd(self) -> int:
        """A descriptor that polls readable once recording has ended by itself."""
        return self._check(self._lib.corelock_record_fd(self._session))

    def record_status(self) -> RecordingStatus:
        """How the recording goes."""
        status = self._ffi.new("struct corelock_recording *")
        self._lib.corelock_record_status(self._session, status)
        return RecordingStatus(
            status.bytes, status.cycles, status.not_written, status.ended_ns or None,
            status.sys_errno, bool(status.full),
        )  # fmt: skip

    def record_end(self) -> None:
        """Write what is left; once detached."""
        self._check(self._lib.corelock_record_end(self._session))

    def _slow_event(self, record: Any) -> SlowEvent:
        comm = kernel_name(bytes(record.comm))
        user_bytes = record.user_stack_bytes
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
            operation=operation_name(record.operation, comm, self._machine),
            kernel_stack=tuple(record.kernel_stack[0 : max(0, record.kernel_stack_bytes) // 8]),
            user_stack=tuple(record.user_stack[0 : max(0, user_bytes) // 8]),
            user_stack_full=user_bytes == self._ffi.sizeof(record.user_stack),
            stack_failed=record.kernel_stack_bytes < 0 or user_bytes < 0,
            user_context=self._user_context(record) if record.user_ip else None,
            process_key=record.mm_id,
        )

    def _user_context(self, record: Any) -> UserContext:
        return UserContext(
            record.user_ip,
            record.user_sp,
            record.user_frame,
            record.user_other,
            self._lib.CORELOCK_COPY_BELOW,
            self._ffi.buffer(record.user_copy)[0 : record.user_copy_bytes],
        )

    def lock_totals(self) -> dict[str, int]:
        """``waits`` that got the lock, ``holds``, ``downgrades`` and ``failures`` of all rows."""
        totals = self._ffi.new("struct corelock_totals *")
        self._check(self._lib.corelock_read_totals(self._session, totals))
        names = ("waits", "holds", "downgrades", "failures")
        return {name: int(getattr(totals, name)) for name in names}

    def accounting(self) -> Accounting:
        """Where every event went.

        Once detached, what is open was counted on its own, so that the sum is a
        check. Before, with events in flight, it is what the others leave over.
        """
        totals = self._ffi.new("struct corelock_totals *")
        self._check(self._lib.corelock_read_totals(self._session, totals))
        accounting = self._accounting(totals)
        if self._detached:
            return accounting
        left_over = accounting.unaccounted + accounting.held_at_end
        return dataclasses.replace(accounting, held_at_end=left_over)

    def losses(self) -> dict[str, int]:
        """As :attr:`Accounting.losses`, without a pass over the rows and so without its sum."""
        totals = self._ffi.new("struct corelock_totals *")
        self._check(
            self._lib.corelock_read_counters(self._session, self._ffi.addressof(totals, "counters"))
        )
        losses = self._accounting(totals).losses
        losses.pop("unaccounted", None)
        return losses

    def _accounting(self, totals: Any) -> Accounting:
        counters = totals.counters
        events = self._names("corelock_event", "CORELOCK_EVENT_")
        lost = dict(zip(self._names("corelock_lost", "CORELOCK_LOST_"), counters.lost))
        lost.update((f"recursion_{e}", n) for e, n in zip(events, counters.recursion_misses))
        unmatched = self._names("corelock_unmatched", "CORELOCK_UNMATCHED_")
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
            attached_by=self.attached_by(),
        )

    def _names(self, enum: str, prefix: str) -> list[str]:
        """An enum's members as the JSON names them, in order, without the count at the end."""
        members = self._ffi.typeof(f"enum {enum}").elements
        return [members[i][len(prefix) :].lower() for i in sorted(members)[:-1]]


class LockReader:
    """One ``corelock_holders``. Not thread-safe.

    Every method raises a :class:`~corelock.errors.CorelockError` on failure.
    """

    def __init__(self, btf: Optional[str] = None, cgroup_id: int = 0) -> None:
        self._ffi, self._lib = _ffi.library()
        self._holders = self._lib.corelock_holders_new()
        if self._holders == self._ffi.NULL:
            raise MemoryError("corelock_holders_new")
        self._free = weakref.finalize(self, self._lib.corelock_holders_free, self._holders)
        self._machine = os.uname().machine
        if btf is not None:
            self._check(self._lib.corelock_holders_use_btf(self._holders, _path(self._ffi, btf)))
        self._lib.corelock_holders_use_cgroup(self._holders, cgroup_id)

    def load(self) -> None:
        """Load what snapshots need; after a failure only ``close`` may be called."""
        self._check(self._lib.corelock_holders_load(self._holders))

    def close(self) -> None:
        """Free; afterwards only ``close`` may be called."""
        self._free()
        self._holders = self._ffi.NULL

    def _check(self, result: int) -> int:
        if result < 0:
            raise _exception(self._ffi, self._lib.corelock_holders_last_error(self._holders))
        return result

    def is_held(self, pid: int) -> bool:
        """Whether a process's lock is held for writing or waited for."""
        return bool(self._check(self._lib.corelock_holders_is_held(self._holders, pid)))

    def snapshot(self, pid: int, self_tgid: int, waiters: bool) -> HoldersSnapshot:
        """The locks in use, of all processes or (not 0) of ``pid``."""
        # Not at the top: tracing does not pay for it.
        from corelock._locks import convert

        held = self._ffi.new("struct corelock_held *")
        self._check(
            self._lib.corelock_holders_snapshot(self._holders, pid, self_tgid, waiters, held)
        )
        return convert(held, waiters, self._lib, kernel_name, self._machine)
