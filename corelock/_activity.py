"""Turning what the library found active into :mod:`corelock.activity`; belongs to ``_native``."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from corelock.activity import Active
from corelock.model import Mode
from corelock.symbolize.syscalls import operation_name

_MODES: tuple[Mode, Mode] = ("read", "write")
_FORMATS = {"uint64_t": "Q", "uint32_t": "I", "uint8_t[16]": "16s"}
#: Members of ``struct corelock_activity``, as :func:`_active` takes them.
_MEMBERS = (
    "waits", "wait_ns", "wait_p99_ns", "holds", "hold_ns", "hold_p99_ns", "mm_start_ns", "mm_id",
    "task_id", "operation", "mode", "mm_pid", "mm_host_pid", "pid", "tid", "host_pid",
    "host_tid", "comm", "mm_comm",
)  # fmt: skip


def layout(ffi: Any) -> struct.Struct:
    """How one ``struct corelock_activity`` is unpacked."""
    members = ffi.typeof("struct corelock_activity").fields
    assert tuple(name for name, _ in members) == _MEMBERS
    return struct.Struct("=" + "".join(_FORMATS[field.type.cname] for _, field in members))


def convert(
    packed: Any, form: struct.Struct, by: str, name: Callable[[bytes], str], machine: str
) -> Iterator[Active]:
    """The groups in ``packed``, put together ``by``: NOTHING, THREAD or OPERATION.

    A thousand threads are a thousand of these each second: they are unpacked at once, as
    reading members of a C struct one by one costs ten times as much.
    """
    for raw in form.iter_unpack(packed):
        yield _active(raw, by, name, machine)


def _active(raw: tuple[Any, ...], by: str, name: Callable[[bytes], str], machine: str) -> Active:
    (
        waits, wait_ns, wait_p99_ns, holds, hold_ns, hold_p99_ns, mm_start_ns, mm_id, task_id,
        number, mode, mm_pid, mm_host_pid, pid, tid, host_pid, host_tid, raw_comm, raw_mm_comm,
    ) = raw  # fmt: skip
    comm = name(raw_comm)
    operation = operation_name(number, comm, machine)
    key: tuple[object, ...] = ()
    if by == "THREAD":
        # As rows are joined: exec gives a process another mm, and it stays the same process.
        key = (mm_host_pid, mm_start_ns if mm_host_pid else mm_id, task_id)
    elif by == "OPERATION":
        key = (operation, mode)
    return Active(
        key, waits, wait_ns, wait_p99_ns if waits else None,
        holds, hold_ns, hold_p99_ns if holds else None,
        mm_pid, mm_host_pid, name(raw_mm_comm), pid, tid, host_pid, host_tid, comm,
        _MODES[mode], operation,
    )  # fmt: skip
