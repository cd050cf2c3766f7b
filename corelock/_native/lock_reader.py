"""A look at locks as they are."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Optional

from corelock import _ffi
from corelock._native.failures import c_path, exception_of
from corelock.names import kernel_name

if TYPE_CHECKING:
    from corelock.locks import HoldersSnapshot


class LockReader:
    """One ``corelock_holders``. Not thread-safe.

    Every method raises a :class:`~corelock.errors.CorelockError` on failure.
    """

    def __init__(self, btf: Optional[str] = None, cgroup_id: int = 0) -> None:
        self._ffi, self._lib = _ffi.library()
        self._holders = self._lib.corelock_holders_new()
        if self._holders == self._ffi.NULL:
            raise MemoryError("corelock_holders_new")
        self._free = weakref.finalize(self, self._lib.corelock_holders_free, self._holders)
        self._machine = os.uname().machine
        if btf is not None:
            self._check(self._lib.corelock_holders_use_btf(self._holders, c_path(self._ffi, btf)))
        self._lib.corelock_holders_use_cgroup(self._holders, cgroup_id)

    def load(self) -> None:
        """Load what snapshots need; after a failure only ``close`` may be called."""
        self._check(self._lib.corelock_holders_load(self._holders))

    def close(self) -> None:
        """Free; afterwards only ``close`` may be called."""
        self._free()
        self._holders = self._ffi.NULL

    def _check(self, result: int) -> int:
        if result < 0:
            raise exception_of(self._ffi, self._lib.corelock_holders_last_error(self._holders))
        return result

    def is_held(self, pid: int) -> bool:
        """Whether a process's lock is held for writing or waited for."""
        return bool(self._check(self._lib.corelock_holders_is_held(self._holders, pid)))

    def snapshot(self, pid: int, self_tgid: int, waiters: bool) -> HoldersSnapshot:
        """The locks in use, of all processes or (not 0) of ``pid``."""
        # Not at the top: tracing does not pay for it.
        from corelock._locks import convert

        held = self._ffi.new("struct corelock_held *")
        self._check(
            self._lib.corelock_holders_snapshot(self._holders, pid, self_tgid, waiters, held)
        )
        return convert(held, waiters, self._lib, kernel_name, self._machine)
