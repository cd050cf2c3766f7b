"""Asking /proc about a target, only through files that never take an mmap_lock.

``stat``, ``status``, ``comm`` and the listing of ``task`` are safe in that
sense; ``maps``, ``smaps``, ``environ`` and the arguments are not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Union

from corelock.arguments import is_whole
from corelock.errors import (
    InvalidArgument,
    MissingPrivilege,
    NoSuchTarget,
    Unsupported,
    UnusableFile,
)
from corelock.names import kernel_name

PROC = Path("/proc")
_PF_KTHREAD = 0x00200000
_COMM_MAX = 15


def _status_field(pid: Union[int, str], field: str) -> str:
    for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return ""


def check_proc() -> None:
    """Make sure that /proc is there and has the pids that we go by.

    Raises:
        Unsupported: there is no /proc, or it is that of another pid namespace.
    """
    try:
        # One number for each pid namespace, from that of the mounted /proc down to our own.
        numbers = _status_field("self", "NSpid").split()
    except (FileNotFoundError, ProcessLookupError):
        raise Unsupported(
            "/proc is not mounted, or that of another pid namespace", "mount -t proc proc /proc"
        ) from None
    if len(numbers) > 1:
        raise Unsupported(
            f"/proc is that of another pid namespace: process {os.getpid()} is {numbers[0]} there",
            "Mount one's own (unshare --mount-proc, or mount -t proc proc /proc), "
            "or enter all namespaces (nsenter --all --target PID).",
        )


#: What lets one see a process that /proc hides.
HIDEPID_REMEDY = (
    "Give corelock CAP_SYS_PTRACE, or run it as the process's user, or in the group of the mount "
    "option gid= of /proc (not with ptraceable)."
)


def hidepid() -> str:
    """How /proc hides other users' processes, as its mount option says; "" if it does not."""
    found = re.search(r"[ ,]hidepid=(\w+)", mounted_at(str(PROC)))
    return found[1] if found and found[1] not in ("0", "off") else ""


def mounted_at(folder: str) -> str:
    """What is mounted there: filesystem, source and options; "" if nothing is, or not known."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    # Of several mounts in one place the last is seen.
    mounts = [line.partition(" - ")[2] for line in lines if line.split()[4] == folder]
    return mounts[-1] if mounts else ""


def _lives(tid: int) -> bool:
    try:
        os.kill(tid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def check_thread(tid: int) -> int:
    """The pid of the process that thread ``tid`` belongs to.

    Raises:
        InvalidArgument: not a positive number.
        NoSuchTarget: no such thread, or one without an address space.
        MissingPrivilege: there is one, and /proc hides it.
        Unsupported: there is no /proc.
    """
    return _check(tid, whole_process=False)


def check_positive(pid: int) -> None:
    """Make sure that ``pid`` can be a pid at all.

    Raises:
        InvalidArgument: not a positive number of 32 bits.
    """
    if not (is_whole(pid) and 0 < pid < 1 << 31):
        raise InvalidArgument(f"not a pid: {pid!r}", "Pids are positive numbers.")


def _check(tid: int, *, whole_process: bool, of_locks: bool = True) -> int:
    check_positive(tid)
    check_proc()
    try:
        stat = (PROC / str(tid) / "stat").read_text(errors="replace")
        tgid = int(_status_field(tid, "Tgid"))
    except (OSError, ValueError):
        if _lives(tid):
            value = hidepid()
            option = f": it is mounted with hidepid={value}" if value else ""
            raise MissingPrivilege(
                f"{tid} exists, but /proc hides it{option}", HIDEPID_REMEDY
            ) from None
        raise NoSuchTarget(f"no process or thread has the id {tid}", "See ps -eLf.") from None
    # The name, in parentheses, may hold anything; what follows it has no ')'.
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    # A process whose leader has ended lives on in its other threads.
    if fields[0] in "ZX" and not (whole_process and thread_count(tid) > 1):
        raise NoSuchTarget(
            f"{tid} ({name}) is a zombie: it has exited and has no address space",
            "Its parent has not yet waited for it. Trace a living process.",
        )
    if int(fields[6]) & _PF_KTHREAD:
        raise NoSuchTarget(
            f"{tid} ({name}) is a kernel thread: it has no address space",
            "Its locking of processes shows up there: trace one of them, or all (--all)."
            if of_locks
            else "Leave out the pid (-p): what it does is seen with what all others do.",
        )
    return tgid


def check_process(pid: int, *, of_locks: bool = True) -> None:
    """Make sure that ``pid`` is a living user process; ``of_locks``: whose locks are traced.

    Raises:
        InvalidArgument: not a positive number, or a thread's id.
        NoSuchTarget: no such process, or one without an address space.
        MissingPrivilege: there is one, and /proc hides it.
    """
    tgid = _check(pid, whole_process=True, of_locks=of_locks)
    if tgid != pid:
        thread = f", or --tid {pid} for the thread" if of_locks else ""
        raise InvalidArgument(
            f"{pid} is a thread of process {tgid}", f"Use --pid {tgid} for the process{thread}."
        )


def main_thread_has_ended(pid: int) -> bool:
    """Whether a process lives on in its other threads alone (pthread_exit in ``main``)."""
    try:
        return _status_field(pid, "State")[:1] in ("Z", "X") and thread_count(pid) > 1
    except OSError:
        return False


def check_main_thread(pid: int) -> None:
    """Make sure that the files of a process can be told, and be probed for it.

    /proc has none of it once its main thread has ended, and to the kernel a uprobe's process is
    that of its main thread.

    Raises:
        UnusableFile: its main thread has ended.
    """
    if main_thread_has_ended(pid):
        raise UnusableFile(
            f"the files of process {pid} cannot be told: its main thread has ended",
            "Leave out the pid (-p), and give the file's path (/path:func); of a trace, the filter "
            f"takes this process alone: --filter 'pid == {pid}'.",
        )


def check_comm(name: str) -> bytes:
    """A process name as the kernel keeps it, padded with zeros to 16 bytes.

    Raises:
        InvalidArgument: empty, or longer than the kernel keeps.
    """
    raw = os.fsencode(name)
    if not raw:
        raise InvalidArgument("the process name is empty", "Give a name as in ps -eo comm.")
    if len(raw) > _COMM_MAX:
        raise InvalidArgument(
            f"no process can be named {name}",
            f"The kernel keeps {_COMM_MAX} bytes: use {os.fsdecode(raw[:_COMM_MAX])}.",
        )
    return raw.ljust(_COMM_MAX + 1, b"\0")


def comm_of(pid: int) -> str:
    """The name of a process, safe to print; "" if it has gone."""
    try:
        return kernel_name((PROC / str(pid) / "comm").read_bytes().removesuffix(b"\n"))
    except OSError:
        return ""


def thread_count(pid: int) -> int:
    """How many threads a process has now, 0 if it has gone."""
    try:
        return int(_status_field(pid, "Threads") or 0)
    except OSError:
        return 0


def host_thread_count() -> int:
    """How many threads the host has now, 0 if /proc only shows processes (``subset=pid``)."""
    try:
        return int((PROC / "loadavg").read_text().split()[3].partition("/")[2])
    except OSError:
        return 0


def boot_id() -> str:
    """What no other boot of any host has, "" if /proc does not say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
