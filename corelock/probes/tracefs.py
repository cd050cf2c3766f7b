"""tracefs and debugfs, wherever they are mounted, or for ourselves alone where they are not."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Optional

from corelock._native.mounts import mount_detached
from corelock.errors import MissingPrivilege, Unsupported
from corelock.target import PROC

#: What lets one read files of tracefs.
READABLE = "Run as root, with CAP_DAC_READ_SEARCH, or have it mounted with gid= of your group."

# Where debugfs mounts tracefs by itself when somebody looks.
_BELOW_DEBUGFS = "/sys/kernel/debug/tracing"


class Folder:
    """An open folder of the kernel's; paths are relative to it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; what was mounted for it alone is gone then."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, path: str) -> str:
        """A file's text; what is not UTF-8 is replaced.

        Raises:
            OSError: it cannot be read.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
        with open(descriptor, "rb") as file:
            return file.read().decode(errors="replace")


def open_tracefs() -> Folder:
    """tracefs, where it is mounted, or mounted nowhere but for us (CAP_SYS_ADMIN).

    Raises:
        MissingPrivilege: it is mounted, and may not be read.
        Unsupported: it is not, and may not be.
    """
    try:
        return _open("tracefs", [*_mounted("tracefs"), _BELOW_DEBUGFS])
    except PermissionError as error:
        if error.filename:
            raise MissingPrivilege(f"{error.filename} may not be read", READABLE) from None
        reason = os.strerror(error.errno or 0)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
    raise Unsupported(
        f"tracefs is not mounted, and cannot be: {reason}",
        "Have root do it: mount -t tracefs none /sys/kernel/tracing",
    )


def open_debugfs() -> Optional[Folder]:
    """debugfs, in the same way; None if it cannot be had."""
    try:
        return _open("debugfs", _mounted("debugfs"))
    except OSError:
        return None


def _open(kind: str, paths: list[str]) -> Folder:
    denied: Optional[PermissionError] = None
    for path in paths:
        try:
            return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except PermissionError as error:
            denied = denied or error
        except OSError:
            continue
    try:
        return Folder(mount_detached(kind))
    except OSError:
        if denied is not None:
            raise denied from None
        raise


def _mounted(kind: str) -> list[str]:
    """Where it is mounted, usually or not."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    # Blanks and the like in names are written as \040.
    return [
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4])
        for line in lines
        if line.partition(" - ")[2].startswith(f"{kind} ")
    ]
