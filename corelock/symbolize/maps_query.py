"""Asking the kernel for one mapping, and whether there is a better way."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array
from typing import NamedTuple, Optional

_BTF = "/sys/kernel/btf/vmlinux"

# struct procmap_query of linux/fs.h: size, query_flags, query_addr; vma_start, vma_end,
# vma_flags, vma_page_size, vma_offset, inode; dev_major, dev_minor, vma_name_size,
# build_id_size; vma_name_addr, build_id_addr.
_QUERY = struct.Struct("=9Q4I2Q")
_READ_WRITE = 3 << 30
_PROCMAP_QUERY = _READ_WRITE | _QUERY.size << 16 | ord("f") << 8 | 17
_EXECUTABLE = 4  # PROCMAP_QUERY_VMA_EXECUTABLE
_OR_NEXT = 16  # PROCMAP_QUERY_COVERING_OR_NEXT_VMA
_NAME_BYTES = 4096 + 16  # PATH_MAX, and " (deleted)"


class Found(NamedTuple):
    """One mapping ``[start, end)``, as a line of ``/proc/PID/maps`` has it."""

    start: int
    end: int
    offset: int
    major: int
    minor: int
    inode: int
    name: str


def query(fd: int, address: int, or_next: bool = False) -> Optional[Found]:
    """The executable mapping that ``address`` is in, or None; ``fd`` is of ``/proc/PID/maps``.

    With ``or_next``, where it is in none, the first one above it.

    Since Linux 6.11 ("fs/procfs: implement efficient VMA querying API for
    /proc/<pid>/maps"). The build id is not asked for: the kernel would read it
    from the file while it holds the lock.

    Raises:
        OSError: the kernel cannot do this (see ``can_be_missing``), or not for this process.
    """
    if not 0 <= address < 1 << 64:  # the call before a return to 0, in what is no stack
        return None
    flags = _EXECUTABLE | (_OR_NEXT if or_next else 0)
    name = array("B", bytes(_NAME_BYTES))
    name_at, name_bytes = name.buffer_info()
    request = bytearray(
        _QUERY.pack(
            _QUERY.size, flags, address, *(0,) * 6, 0, 0, name_bytes, 0, name_at, 0
        )
    )  # fmt: skip
    try:
        fcntl.ioctl(fd, _PROCMAP_QUERY, request)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    fields = _QUERY.unpack(request)
    start, end, offset, inode, major, minor = (fields[i] for i in (3, 4, 7, 8, 9, 10))
    # The size given back counts the NUL.
    text = name.tobytes()[: max(0, fields[11] - 1)]
    return Found(start, end, offset, major, minor, inode, os.fsdecode(text))


def can_be_missing(error: OSError) -> bool:
    """Whether this is how a kernel, or a made-up /proc, refuses what it does not know."""
    return error.errno in (errno.ENOTTY, errno.EINVAL)


def maps_are_read_per_vma(btf: str = _BTF) -> bool:
    """Whether reading ``/proc/PID/maps`` locks single mappings, not the address space.

    Since Linux 6.17 ("fs/proc/task_mmu: read proc/pid/maps under per-vma lock"),
    with CONFIG_PER_VMA_LOCK: the reader's state has a member ``locked_vma`` then.
    Only BTF's strings are looked at: to walk its types for the struct would
    take longer than all the reading it saves.
    """
    try:
        # Buffered, as the kernel gives a page at a time.
        with open(btf, "rb") as file:
            # magic, version, flags, header length; type offset and length, string ditto
            magic, _, _, header, _, _, at, length = struct.unpack("=HBB5I", file.read(24))
            if magic != 0xEB9F:
                return False
            file.seek(header + at)
            return b"\0locked_vma\0" in file.read(length)
    except (OSError, struct.error):
        return False
