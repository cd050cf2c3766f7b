"""Filesystems mounted for oneself alone."""

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
