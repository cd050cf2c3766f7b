"""Whether one process's lock is held: apart from the sampler, which takes longer to import."""

from __future__ import annotations

import time
from typing import Optional

from corelock._native import LockReader
from corelock.errors import CorelockError


class LockProbe:
    """Asks of single processes whether their lock is held; loads in milliseconds, on first use.

    For one thread at a time. ``btf`` is as of :class:`~corelock.tracer.Tracer`.
    """

    def __init__(self, btf: Optional[str] = None) -> None:
        self._btf = btf
        self._reader: Optional[LockReader] = None

    def stays_held(self, pid: int, for_s: float = 0.02) -> bool:
        """Whether the lock is held or queued for at every look for so many seconds.

        Returns as soon as it is seen free, so mostly at once.

        Raises:
            MissingPrivilege, LoadError: see :mod:`corelock.errors`.
        """
        if self._reader is None:
            self._reader = LockReader(self._btf)
        deadline = time.monotonic() + for_s
        while self._reader.is_held(pid):
            if time.monotonic() >= deadline:
                return True
            time.sleep(for_s / 10)
        return False

    def may_be_waited_for(self, pid: int) -> bool:
        """Whether to read of this process now could mean to wait for its lock.

        False if that cannot be told: then only patience helps, and reading is given up
        after a while.
        """
        try:
            return self.stays_held(pid)
        except CorelockError:
            return False

    def close(self) -> None:
        """Free everything. Repeating it does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
