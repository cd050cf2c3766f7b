"""Filesystems mounted for oneself alone, and what filesystem a file is of."""

from __future__ import annotations

import os

from corelock import _ffi


def mount_detached(filesystem: str) -> int:
    """A descriptor of its root; nobody else sees it, and it ends with the descriptor.

    Raises:
        OSError: it may not be mounted (that takes CAP_SYS_ADMIN), or there is none.
        LibraryError: see :mod:`corelock.errors`.
    """
    descriptor = int(_ffi.library()[1].corelock_mount_detached(os.fsencode(filesystem)))
    if descriptor < 0:
        raise OSError(-descriptor, os.strerror(-descriptor))
    return descriptor


def makes_up_devices(fd: int) -> bool:
    """Whether the device of an open file may be another one than ``/proc/PID/maps`` shows.

    Raises:
        OSError: it cannot be told.
        LibraryError: see :mod:`corelock.errors`.
    """
    result = int(_ffi.library()[1].corelock_makes_up_devices(fd))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return bool(result)
