"""Who holds which mmap_lock now: :func:`holders`, and :class:`HolderSampler` to ask repeatedly."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Literal, Optional

from corelock import arguments, cgroups, target
from corelock._native import LockReader
from corelock.arguments import FileName, check_text
from corelock.errors import InvalidArgument
from corelock.locks import HoldersSnapshot, LockState, LockThread, SeenLock
from corelock.model import Cgroup


def holders(
    pid: Optional[int] = None,
    *,
    cgroup: Optional[FileName] = None,
    container: Optional[str] = None,
    waiters: bool = True,
) -> HoldersSnapshot:
    """The mmap_locks that are held or waited for now, and by whom.

    Args:
        pid: only the address space of this process; default: the host's, but
            for the caller's own (``self_mms`` counts it).
        cgroup, container: only those of processes in it, as of
            :class:`~corelock.tracer.Tracer`.
        waiters: name those that wait, too, with their stacks.

    Nothing is traced, and no mmap_lock is taken, so it also works for a process
    whose lock has been held for hours.

    >>> import corelock
    >>> corelock.holders(os.getpid()).mms
    1

    Raises:
        InvalidArgument, NoSuchTarget: ``pid`` is not a living process; there is no such
            cgroup or container, or both are given.
        Unsupported, MissingPrivilege, LoadError, LibraryError: see
            :mod:`corelock.errors`.
    """
    if pid is not None:
        target.check_process(pid)
    with HolderSampler(cgroup=cgroup, container=container) as sampler:
        return sampler.snapshot(pid, waiters=waiters)


class HolderSampler:
    """Loads once what :func:`holders` needs, for many looks at little cost.

    A context manager: entering loads, leaving frees. May be used by any thread.
    ``btf`` is as of :class:`~corelock.tracer.Tracer`, and so are ``cgroup`` and
    ``container``: with one of them, all looks are at processes in it.

    Raises:
        InvalidArgument: ``cgroup`` and ``container`` are both given, or no names.
        NoSuchTarget: there is no such cgroup or container; on entering.
        Unsupported, MissingPrivilege, LoadError, LibraryError: on entering.
    """

    def __init__(
        self,
        *,
        btf: Optional[FileName] = None,
        cgroup: Optional[FileName] = None,
        container: Optional[str] = None,
    ) -> None:
        if cgroup is not None and container is not None:
            raise InvalidArgument("name one cgroup", "Give cgroup or container.")
        check_text("container", container)
        self._btf = arguments.file_name("btf", btf)
        self._cgroup_path = arguments.file_name("cgroup", cgroup)
        self._container = container
        #: What looks are limited to, once entered.
        self.cgroup: Optional[Cgroup] = None
        self._lock = threading.Lock()
        self._reader: Optional[LockReader] = None

    def __enter__(self) -> HolderSampler:
        with self._lock:
            if self._reader is None:
                target.check_proc()
                self.cgroup = cgroups.find(self._cgroup_path, self._container)
                reader = LockReader(self._btf, self.cgroup.id if self.cgroup else 0)
                try:
                    reader.load()
                except BaseException:
                    reader.close()
                    raise
                self._reader = reader
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free everything. Repeating it does nothing."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()

    def _open(self) -> LockReader:
        if self._reader is None:
            raise InvalidArgument("this sampler is not open", "Use it as a context manager.")
        return self._reader

    def snapshot(self, pid: Optional[int] = None, *, waiters: bool = True) -> HoldersSnapshot:
        """As :func:`holders`, but a process that is not there is no error: ``mms`` is 0 then."""
        if pid is not None:
            target.check_positive(pid)
        own = os.getpid()
        with self._lock:
            return self._open().snapshot(pid or 0, 0 if pid == own else own, waiters)

    def lock_is_held(self, pid: int) -> bool:
        """Whether asking for this process's mmap_lock now would mean to wait.

        True if it is held for writing or anybody waits for it. Cheap: looks at
        that process only, and takes no lock. False for one that has gone.
        """
        target.check_positive(pid)
        with self._lock:
            return self._open().is_held(pid)


_Same = Optional[Literal["exact", "likely"]]


class HoldWatch:
    """Tells from successive snapshots how long each lock has been seen held."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, SeenLock]] = {}

    def add(self, snapshot: HoldersSnapshot) -> list[SeenLock]:
        """Every held lock of ``snapshot``, those first that have been held for longest.

        One that is only waited for is in nobody's hands, and not among them.
        """
        seen = {}
        for lock in snapshot.locks:
            if lock.mode is None:
                continue
            first_ns, before = self._seen.get(lock.mm_key, (lock.taken_ns, None))
            same = _same_hold(before.lock, lock) if before else None
            if before is None or same is None:
                seen[lock.mm_key] = lock.taken_ns, SeenLock(lock, 0, 1, None)
                continue
            # A chain is as strong as its weakest link.
            if before.same_hold == "likely":
                same = "likely"
            held_ns = lock.taken_ns - first_ns
            seen[lock.mm_key] = first_ns, SeenLock(lock, held_ns, before.samples + 1, same)
        self._seen = seen
        return sorted((each for _, each in seen.values()), key=lambda each: -each.held_ns)


def _same_hold(before: LockState, now: LockState) -> _Same:
    """Why a lock that is held in both is held by the same hold, or None when it is not.

    Addresses of address spaces are used again, so the processes must be the same, too.
    """
    same_place = before.mode == now.mode and before.processes == now.processes
    if not same_place or before.sequence != now.sequence:
        return None
    if _identity(before.holder.thread) != _identity(now.holder.thread):
        return None
    numbered = now.mode == "write" and now.sequence is not None
    return "exact" if numbered and before.consistent and now.consistent else "likely"


def _identity(thread: Optional[LockThread]) -> Optional[tuple[int, int]]:
    return None if thread is None else (thread.tid, thread.start_ns)
