"""Opening files whose names somebody else may have given to something else."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO


def open_regular(path: str, *, follow: bool = True) -> BinaryIO:
    """The regular file of that name, for reading.

    With ``follow`` False the name itself must not be a symbolic link.

    Raises:
        OSError: there is none, it may not be read, or the name is of something else.
    """
    # A handle first: to open a FIFO or a device does something, to look at it does not.
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("not a regular file")
        # O_NONBLOCK: somebody's lease on the file is not waited for.
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(handle)
    return os.fdopen(fd, "rb")


def why(error: OSError) -> str:
    """The error in words that name no path, to count by."""
    return error.strerror or str(error)
