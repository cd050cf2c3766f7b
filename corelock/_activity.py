"""Turning what the library found active into :mod:`corelock.activity`; belongs to ``_native``."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

from corelock.activity import Active
from corelock.model import Mode
from corelock.names import kernel_name
from corelock.symbolize.syscalls import operation_name

_MODES: tuple[Mode, Mode] = ("read", "write")
_FORMATS = {"uint64_t": "Q", "uint32_t": "I", "uint8_t[16]": "16s"}
#: Members of ``struct corelock_activity``: what was counted, and whose it is.
_COUNTED = ("waits", "wait_ns", "wait_p99_ns", "holds", "hold_ns", "hold_p99_ns")
_WHO = (
    "mm_start_ns", "mm_id", "task_id", "operation", "mode", "mm_pid", "mm_host_pid", "pid", "tid",
    "host_pid", "host_tid", "comm", "mm_comm",
)  # fmt: skip
#: Groups whose names are remembered from one look to the next.
_REMEMBERED = 1 << 14


class Layout:
    """How one ``struct corelock_activity`` is unpacked.

    A thousand threads are a thousand of these each second: they are unpacked at once, as
    reading members of a C struct one by one costs ten times as much.
    """

    def __init__(self, ffi: Any, machine: str) -> None:
        members = ffi.typeof("struct corelock_activity").fields
        assert tuple(name for name, _ in members) == (*_COUNTED, *_WHO)
        formats = [_FORMATS[field.type.cname] for _, field in members]
        who = struct.Struct("=" + "".join(formats[len(_COUNTED) :]))
        self._whole = struct.Struct("=" + "".join(formats[: len(_COUNTED)]) + f"{who.size}s")

        @functools.lru_cache(_REMEMBERED)
        def known(packed: bytes, by: str) -> tuple[Any, ...]:
            return _who(who.unpack(packed), by, machine)

        self._known = known

    def convert(self, packed: Any, by: str) -> Iterator[Active]:
        """The groups in a buffer, put together ``by``: NOTHING, THREAD or OPERATION."""
        known = self._known
        for raw in self._whole.iter_unpack(packed):
            waits, wait_ns, wait_p99_ns, holds, hold_ns, hold_p99_ns, who = raw
            key, *names = known(who, by)
            yield Active(
                key, waits, wait_ns, wait_p99_ns if waits else None,
                holds, hold_ns, hold_p99_ns if holds else None, *names,
            )  # fmt: skip

    @property
    def size(self) -> int:
        """Of one, in bytes."""
        return self._whole.size


def _who(raw: tuple[Any, ...], by: str, machine: str) -> tuple[Any, ...]:
    """The members of Active that say whose it is, ``key`` first."""
    (
        mm_start_ns, mm_id, task_id, number, mode, mm_pid, mm_host_pid, pid, tid, host_pid,
        host_tid, raw_comm, raw_mm_comm,
    ) = raw  # fmt: skip
    comm = kernel_name(raw_comm)
    operation = operation_name(number, comm, machine)
    key: tuple[object, ...] = ()
    if by == "THREAD":
        # As rows are joined: exec gives a process another mm, and it stays the same process.
        key = (mm_host_pid, mm_start_ns if mm_host_pid else mm_id, task_id)
    elif by == "OPERATION":
        # A system call has another number for 32-bit programs.
        key = (operation, mode, number)
    return (
        key, mm_pid, mm_host_pid, kernel_name(raw_mm_comm), pid, tid, host_pid, host_tid, comm,
        _MODES[mode], operation,
    )  # fmt: skip
