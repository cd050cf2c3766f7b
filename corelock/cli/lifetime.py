"""When what is traced has ended: a process, a thread, a cgroup."""

from __future__ import annotations

import errno
import os
from typing import Optional

from corelock.errors import NoSuchTarget
from corelock.model import Cgroup


class Lifetime:
    """Tells when a process, or one thread, has ended; without an id, never."""

    #: PIDFD_THREAD, for a thread that leads no process. Since Linux 6.9.
    _THREAD = os.O_EXCL

    def __init__(self, id_: Optional[int], *, thread: bool = False) -> None:
        self.id = id_
        #: Readable once it has ended; None where the kernel offers no such descriptor.
        self.fd: Optional[int] = None
        self._was_there = True
        if id_ is None:
            return
        try:
            self.fd = os.pidfd_open(id_, self._THREAD if thread else 0)
        except ProcessLookupError:
            self._was_there = False
        except OSError as error:
            if not thread or error.errno != errno.EINVAL:
                raise

    def check(self) -> None:
        """Make sure that there was something to trace.

        Raises:
            NoSuchTarget: it had ended before this was made.
        """
        if not self._was_there:
            raise NoSuchTarget(
                f"{self.id} exited before it could be traced", "Trace a living process."
            )

    def is_gone(self) -> bool:
        """Whether it has ended, where no descriptor tells."""
        return self.fd is None and self.id is not None and not os.path.exists(f"/proc/{self.id}")

    def close(self) -> None:
        """Give back the descriptor."""
        if self.fd is not None:
            os.close(self.fd)


class CgroupLifetime(Lifetime):
    """Tells when a cgroup has been removed; until then processes may come."""

    def __init__(self, cgroup: Cgroup) -> None:
        super().__init__(None)
        self.id = cgroup.id
        self._path = cgroup.path
        self._file: Optional[int] = None
        try:
            folder = os.open(cgroup.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._was_there = False
            return
        try:
            self._was_there = os.fstat(folder).st_ino == cgroup.id
            # Every cgroup has it, and nothing needs to be counted to read it.
            self._file = os.open("cgroup.controllers", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            self._was_there = False
        finally:
            os.close(folder)

    def check(self) -> None:
        """Make sure that there was something to trace.

        Raises:
            NoSuchTarget: it had been removed before this was made.
        """
        if not self._was_there:
            raise NoSuchTarget(
                f"cgroup {self._path} was removed before it could be traced",
                "Trace one that is there.",
            )

    def is_gone(self) -> bool:
        """Whether it has been removed."""
        if self._file is None:
            return True
        try:
            os.pread(self._file, 1, 0)
        except OSError as error:
            return error.errno == errno.ENODEV
        return False

    def close(self) -> None:
        """Give back the descriptor."""
        if self._file is not None:
            os.close(self._file)
