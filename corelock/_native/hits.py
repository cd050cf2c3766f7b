"""Hits of probes one by one, out of the ring."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

from corelock._native.convert import UserStack, user_stack
from corelock._native.probes import Probes
from corelock._native.tables import Tables
from corelock.probes.filters import Test
from corelock.probes.operands import TEXT_BYTES, Operand

#: Values of one hit, at most (``CORELOCK_TRACE_VALUES``).
MOST_VALUES = 64

_FORMATS = {"uint64_t": "Q", "uint32_t": "I", "int32_t": "i", "uint8_t[16]": "16s"}
_BATCH_BYTES = 1 << 20
_MOST_AT_ONCE = 4096
_NUMBER_BYTES = 8


class Sent(NamedTuple):
    """What is sent of a probe's hits: those that the filter accepts, with these values."""

    operands: tuple[Operand, ...]
    tests: Optional[tuple[Test, ...]] = None

    @property
    def bytes(self) -> int:
        """Of its values together."""
        return sum(map(_bytes_of, self.operands))


class Hit(NamedTuple):
    """One hit; numbers are ints, texts bytes to their end; ``unread`` and ``null`` are bits.
    ``probe`` is its index.

    A stack is None if none was asked for, or it could not be taken.
    """

    time_ns: int
    unread: int
    null: int
    probe: int
    cpu: int
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    operation: int
    comm: bytes
    values: tuple[Any, ...]
    kernel_stack: Optional[tuple[int, ...]] = None
    user: Optional[UserStack] = None


class HitCounts(NamedTuple):
    """What became of the hits of one probe; the rest was sent."""

    hits: int
    filtered: int
    ring_full: int


class HitProbes(Probes):
    """Probes whose hits are sent one by one."""

    def load_trace(
        self,
        registers: Sequence[Sent],
        arguments: Sequence[Sent],
        *,
        kernel_stacks: bool,
        user_stacks: bool,
        ring_bytes: int = 0,
        **common: Any,
    ) -> None:
        """Load the programs. What is sent of each index: where operands are of an event's record
        or registers, and where they are of an array of arguments. ``common`` is as of ``load``.
        """
        tables = Tables(self._ffi, self._lib)
        both = [*registers, *arguments]
        specs = self._ffi.new(
            "struct corelock_trace_spec[]", [self._spec(tables, sent) for sent in both]
        )
        self._value_bytes = max(sent.bytes for sent in both)
        trace = self._ffi.new(
            "struct corelock_trace_options *",
            {
                "specs": specs,
                "value_bytes": self._value_bytes,
                "most_values": max(len(sent.operands) for sent in both),
                "ring_bytes": ring_bytes,
                "kernel_stacks": kernel_stacks,
                "user_stacks": user_stacks,
            },
        )
        self.load("TRACE", len(registers), more={**tables.options(), "trace": trace}, **common)
        self._kernel_stacks, self._user_stacks = kernel_stacks, user_stacks
        members = self._ffi.typeof("struct corelock_hit").fields
        formats = [_FORMATS[field.type.cname] for _, field in members]
        self._head = struct.Struct("=" + "".join(formats))
        assert self._head.size == self._ffi.sizeof("struct corelock_hit")
        # The same for both ways: only where values are found differs.
        self._values = [
            struct.Struct("=" + "".join(map(_format_of, sent.operands))) for sent in registers
        ]
        self._record_bytes = self._check(self._lib.corelock_probes_record_bytes(self._probes))
        self._capacity = max(1, min(_MOST_AT_ONCE, _BATCH_BYTES // self._record_bytes))
        self._records = self._ffi.new("uint8_t[]", self._capacity * self._record_bytes)

    def _spec(self, tables: Tables, sent: Sent) -> dict[str, Any]:
        places, place = [], 0
        for operand in sent.operands:
            places.append(tables.operand(operand, place))
            place += _bytes_of(operand)
        return {
            "first_test": tables.filter(sent.tests),
            "count": len(places),
            "operands": places,
        }

    def fd(self) -> int:
        """A descriptor that polls readable when the ring is a quarter full, or earlier."""
        return self._check(self._lib.corelock_probes_fd(self._probes))

    def hits(self) -> Iterator[Hit]:
        """Some that wait in the ring, in the order in which they came; none if it is empty."""
        count = self._check(
            self._lib.corelock_probes_read_hits(self._probes, self._records, self._capacity)
        )
        packed = self._ffi.buffer(self._records)
        for at in range(0, count * self._record_bytes, self._record_bytes):
            yield self._hit(packed, at)

    def _hit(self, packed: Any, at: int) -> Hit:
        (
            time_ns, unread, null, probe, cpu, pid, tid, host_pid, host_tid, operation,
            kernel_bytes, comm,
        ) = self._head.unpack_from(packed, at)  # fmt: skip
        at += self._head.size
        values = self._values[probe].unpack_from(packed, at)
        hit = Hit(
            time_ns, unread, null, probe, cpu, pid, tid, host_pid, host_tid, operation, comm, values
        )
        if not (self._kernel_stacks or self._user_stacks):
            return hit
        at += self._value_bytes
        kernel = user = None
        if self._kernel_stacks:
            if kernel_bytes >= 0:
                kernel = struct.unpack_from(f"={kernel_bytes // 8}Q", packed, at)
            at += 8 * int(self._lib.CORELOCK_KERNEL_STACK_DEPTH)
        if self._user_stacks:
            raw = self._ffi.cast("struct corelock_user_stack *", self._records + at)
            if raw.bytes >= 0 or raw.ip:
                user = user_stack(self._ffi, self._lib, raw)
        return hit._replace(kernel_stack=kernel, user=user)

    def hit_counts(self) -> list[HitCounts]:
        """Of each index so far; exact once detached."""
        raw = self._ffi.new("struct corelock_hit_counts[]", self._indices)
        self._check(self._lib.corelock_probes_read_hit_counts(self._probes, raw))
        return [HitCounts(one.hits, one.filtered, one.ring_full) for one in raw]


def _bytes_of(operand: Operand) -> int:
    return TEXT_BYTES if operand.is_text else _NUMBER_BYTES


def _format_of(operand: Operand) -> str:
    if operand.is_text:
        return f"{TEXT_BYTES}s"
    return "q" if operand.signed else "Q"
