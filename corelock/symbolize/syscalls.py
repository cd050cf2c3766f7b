"""Operation codes of the BPF programs as names."""

from __future__ import annotations

import re
from functools import cache

# As in src/abi/corelock_abi.h.
_COMPAT = 0x10000
_PAGE_FAULT = 0x20000
_KERNEL_THREAD = 0x20001
_EXIT = 0x20002
_UNKNOWN = 0x20003

_NUMBERED = re.compile("(?:compat-)?syscall-[0-9]+")


def operation_name(code: int, comm: str, machine: str) -> str:
    """What a thread was doing: a system call's name, ``page-fault``, ``exit``, or its ``comm``.

    ``code`` is an operation of ``src/abi/corelock_abi.h``, ``comm`` the
    thread's name (a kernel thread's operation), ``machine`` that of
    :func:`os.uname`.

    >>> operation_name(11, "redis", "x86_64"), operation_name(215, "redis", "aarch64")
    ('munmap', 'munmap')
    >>> operation_name(0x10000 | 91, "wine", "x86_64"), operation_name(0x20001, "ksmd", "x86_64")
    ('munmap', 'ksmd')
    """
    if code == _PAGE_FAULT:
        return "page-fault"
    if code == _EXIT:
        return "exit"
    if code == _KERNEL_THREAD:
        return comm
    if code == _UNKNOWN:
        return "unknown"
    number, compat = code & ~_COMPAT, bool(code & _COMPAT)
    name = _table(machine, compat).get(number)
    if name is None:
        return f"compat-syscall-{number}" if compat else f"syscall-{number}"
    return name


def is_operation(name: str, machine: str) -> bool:
    """Whether a thread of a process can be doing what is called so."""
    tables = _table(machine, False), _table(machine, True)
    known = {"page-fault", "exit", "unknown"}
    return name in known or any(name in table.values() for table in tables)


@cache
def _table(machine: str, compat: bool) -> dict[int, str]:
    from corelock.symbolize import _syscall_tables as tables

    runs = {
        ("x86_64", False): tables.X86_64,
        ("x86_64", True): tables.I386,
        ("aarch64", False): tables.AARCH64,
    }.get((machine, compat), ())
    return {
        number: name for first, names in runs for number, name in enumerate(names.split(), first)
    }


def is_kernel_thread(operation: str) -> bool:
    """Whether the name of an operation is that of a kernel thread, and no system call's.

    >>> is_kernel_thread("kworker/u8:3"), is_kernel_thread("munmap"), is_kernel_thread("exit")
    (True, False, False)
    """
    if operation in ("page-fault", "exit", "unknown"):
        return False
    return operation not in _all_names() and not _NUMBERED.fullmatch(operation)


@cache
def _all_names() -> frozenset[str]:
    from corelock.symbolize import _syscall_tables as tables

    kinds = (tables.X86_64, tables.I386, tables.AARCH64)
    return frozenset(name for runs in kinds for _, names in runs for name in names.split())
