"""The files that a process runs, found without waiting for its mmap_lock."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from functools import partial
from typing import Callable, NamedTuple, Optional

from corelock.errors import MissingPrivilege, NoSuchTarget, UnusableFile
from corelock.probes.paths import without_deleted
from corelock.symbolize.maps import MapsReader, Region
from corelock.symbolize.modules import DELETED, is_mapped_in
from corelock.symbolize.patience import Patience, TimedOut
from corelock.symbolize.process import below_root, look_at

_PROC = "/proc"
_PRIVILEGE = "Run as root, or with CAP_SYS_PTRACE."
#: What the paths of files begin with that memfd_create made.
IN_MEMORY = "/memfd:"
#: File systems that hang do so forever.
_TIMEOUT_S = 10.0
TRY_AGAIN = "Try again, or give the file's path."


_patience = Patience(_TIMEOUT_S)


class MappedFile(NamedTuple):
    """A file: what it is called below ``root``, how to open it, and why that cannot be, or ""."""

    own_path: str
    path_to_open: str
    root: str
    problem: str = ""


def root_of(pid: int) -> str:
    """Below what the paths of a process are; "" if they are ours.

    Raises:
        NoSuchTarget: it has gone.
    """
    process = look_at(_PROC, pid)
    if process is None:
        raise NoSuchTarget(f"process {pid} has exited", "Trace a living process.")
    return "" if process.shares_mounts else f"{_PROC}/{pid}/root"


def program_of(pid: int, root: str) -> MappedFile:
    """The program of a process: by its name if that still leads to it, so that a place has one
    name only, else by ``exe``.

    Raises:
        MissingPrivilege: we may not know.
        NoSuchTarget: it has gone.
    """
    exe = f"{_PROC}/{pid}/exe"
    try:
        # Looked up under RCU, without the lock.
        path = os.readlink(exe)
    except PermissionError:
        message = f"the files of process {pid} are not ours to look at"
        raise MissingPrivilege(message, _PRIVILEGE) from None
    except OSError:
        raise NoSuchTarget(f"process {pid} has exited", "Trace a living process.") from None
    places = _places_of(without_deleted(path), root)
    for below, own in places:
        with suppress(OSError, TimedOut):
            if _patience.call(pid, partial(os.path.samefile, below + own, exe)):
                return MappedFile(own, below + own, below)
    return MappedFile(places[0][1], exe, root)


def files_of(
    pid: int, root: str, lock_is_held: Optional[Callable[[int], bool]]
) -> list[MappedFile]:
    """The files whose code a process has mapped, each once.

    Raises:
        UnusableFile: they cannot be known now, as the process's mmap_lock is held.
        MissingPrivilege: we may not know.
        NoSuchTarget: it has gone.
    """
    maps = _reader(lock_is_held).read_all(pid)
    if maps.problem is not None:
        message = maps.problem.format(pid)
        if "exited" in message:
            raise NoSuchTarget(message, "Trace a living process.")
        if "lock is held" in message:
            raise UnusableFile(message, TRY_AGAIN)
        raise MissingPrivilege(message, _PRIVILEGE)
    files = {(each.device, each.inode): each for each in maps.regions if each.has_file}
    try:
        looked = _patience.call(pid, lambda: [_opened(pid, root, each) for each in files.values()])
    except TimedOut:
        message = f"the files of process {pid} cannot be looked at: it takes too long"
        raise UnusableFile(message, TRY_AGAIN) from None
    return looked


def _reader(lock_is_held: Optional[Callable[[int], bool]]) -> MapsReader:
    return MapsReader(_PROC, lock_is_held=lock_is_held or ask_the_kernel)


def ask_the_kernel(pid: int) -> bool:
    """Whether its mmap_lock may be waited for."""
    from corelock.lock_probe import LockProbe

    with closing(LockProbe()) as probe:
        return probe.may_be_waited_for(pid)


def _places_of(shown: str, root: str) -> list[tuple[str, str]]:
    """Where the file may be that /proc shows so: below what, and its path there.

    As the process sees it, if it does; and by our own name of it.
    """
    inside = [(root, below_root(root, shown))] if root else []
    return [*inside, ("", shown)]


def _opened(pid: int, root: str, region: Region) -> MappedFile:
    """By its name, if that still is the file that was mapped; by ``exe`` if it is the program."""
    shown = os.path.join(os.path.dirname(region.path), region.module)
    reason = DELETED if region.deleted else ""
    if shown.startswith(IN_MEMORY):
        reason = "the file was never on a disk (memfd)"
    places = _places_of(shown, root)
    _, name = places[0]
    candidates = [MappedFile(own, below + own, below) for below, own in places]
    for file in (*candidates, MappedFile(name, f"{_PROC}/{pid}/exe", root)):
        try:
            handle = os.open(file.path_to_open, os.O_PATH | os.O_CLOEXEC)
            try:
                if is_mapped_in(handle, region):
                    return file
            finally:
                os.close(handle)
            reason = reason or "the file of that name is another one now"
        except OSError as error:
            reason = reason or error.strerror or str(error)
    return MappedFile(name, "", root, reason)
