"""A session that traces."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Optional

from corelock import _ffi
from corelock._native import convert
from corelock._native.failures import c_path, exception_of
from corelock._native.values import HostFacts, Options, RecordingStatus, SlowRecord
from corelock._rows import Reading
from corelock.errors import CorelockError
from corelock.model import Accounting, Row

if TYPE_CHECKING:
    from corelock._activity import Layout
    from corelock._charges import RawCharge
    from corelock.activity import Active

_ROW_BATCH = 256
_BUCKETS = 640 * 16
_SLOW_BATCH = 16
#: Charges of one row's waits that are looked at.
_MOST_HOLDERS = 8192
#: Room in the ring for one batch of slow records, at the least.
SLOW_BATCH_BYTES = _SLOW_BATCH * 16384


def take_locks(times: int) -> None:
    """Take the own mmap_lock so often by munlock, and as often by msync."""
    error = _ffi.library()[1].corelock_take_locks(times)
    if error:
        raise CorelockError(f"cannot take locks: {os.strerror(-error)}")


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
        self._groups: Any = None
        self._layout: Optional[Layout] = None

    def close(self) -> None:
        """Detach and free; afterwards only ``close`` may be called."""
        self._free()
        self._session = self._ffi.NULL

    def _check(self, result: int) -> int:
        if result < 0:
            raise exception_of(self._ffi, self._lib.corelock_last_error(self._session))
        return result

    def configure(self, options: Options) -> None:
        """Hand over the options."""
        off = self._lib.CORELOCK_SLOW_OFF
        path = c_path(self._ffi, options.btf)
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
        readings = convert.Readings(self._machine)
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
                yield readings.reading(rows[i], packed[at:middle], packed[middle:end])
                at = end

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
        """One row of the kernel's table as it is now; of its waits and holds only the sums."""
        raw = self._ffi.new("struct corelock_reading *")
        self._check(self._lib.corelock_read_row(self._session, index, raw))
        return convert.Readings(self._machine).reading(raw).row

    def look(self) -> None:
        """Find what has been counted since the last time; :meth:`active` gives it."""
        self._check(self._lib.corelock_begin_activity(self._session))

    def active(self, by: str) -> tuple[Active, ...]:
        """What the last look found, put together by NOTHING, THREAD or OPERATION."""
        from corelock._activity import Layout

        if self._layout is None:
            self._layout = Layout(self._ffi, self._machine)
        room = self._lib.corelock_active_rows(self._session)
        # Kept: fresh memory of that size is a mapping each time.
        if self._groups is None or len(self._groups) < room:
            self._groups = self._ffi.new("struct corelock_activity[]", room)
        count = self._check(
            self._lib.corelock_read_activity(
                self._session, getattr(self._lib, f"CORELOCK_BY_{by}"), self._groups, room
            )
        )
        packed = self._ffi.buffer(self._groups)[0 : count * self._layout.size]
        return tuple(self._layout.convert(packed, by))

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
        taken = [
            SlowRecord(
                each.row, each.stack,
                convert.slow_event(self._ffi, self._lib, each, self._machine),
            )
            for each in wanted
        ]  # fmt: skip
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
        accounting = convert.accounting(self._ffi, totals, self.attached_by())
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
        losses = convert.accounting(self._ffi, totals, self.attached_by()).losses
        losses.pop("unaccounted", None)
        return losses
