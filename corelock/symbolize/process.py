"""What is to be known of a process to read its symbols; nothing here takes its mmap_lock."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional


class Process(NamedTuple):
    """``ns_pid`` is the pid it knows itself by, ``uid`` its effective user.

    ``shares_mounts``: its paths mean what ours mean. ``elf_class``: 1 for 32 bits, 2 for 64,
    0 if unknown.
    """

    ns_pid: int
    uid: int
    shares_mounts: bool
    elf_class: int


def look_at(proc: str, pid: int) -> Optional[Process]:
    """What ``/proc/PID`` says, or None when it has exited or is not ours to look into."""
    try:
        with open(f"{proc}/{pid}/status", "rb", buffering=0) as file:
            fields = _fields(file.read())
        # NSpid has one number per nested namespace, the innermost last.
        ns_pid = int(fields.get(b"NSpid", [b"%d" % pid])[-1])
        return Process(ns_pid, int(fields[b"Uid"][1]), _shares_mounts(proc, pid), _class(proc, pid))
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _fields(status: bytes) -> dict[bytes, list[bytes]]:
    pairs = (line.partition(b":") for line in status.splitlines())
    return {name: value.split() for name, _, value in pairs}


def _shares_mounts(proc: str, pid: int) -> bool:
    """Whether it is in our mount namespace, with the same root."""
    try:
        own, other = f"{proc}/self", f"{proc}/{pid}"
        return os.path.samefile(f"{own}/ns/mnt", f"{other}/ns/mnt") and os.path.samefile(
            f"{own}/root", f"{other}/root"
        )
    except OSError:
        return False


def _class(proc: str, pid: int) -> int:
    """EI_CLASS of the program it runs. ``exe`` is looked up under RCU, without the lock."""
    try:
        with open(f"{proc}/{pid}/exe", "rb", buffering=0) as file:
            header = file.read(5)
    except OSError:
        return 0
    return header[4] if header[:4] == b"\x7fELF" else 0


def below_root(root: str, shown: str) -> str:
    """The path below ``root``, a process's, of what /proc shows as ``shown``; the same if outside.

    What is shown begins at the root of the mounts, wherever in them that of the process is.
    """
    try:
        top = os.readlink(root).rstrip("/")
    except OSError:  # it has gone, or is not ours to look at: so are its files
        return shown
    return shown[len(top) :] if shown.startswith(f"{top}/") else shown


class Identity(NamedTuple):
    """What tells one program from the next of the same pid: both are new after exec.

    ``started`` is in clock ticks; ``stack_start`` is random, 0 if it is hidden or gone.
    """

    started: int
    code_start: int
    stack_start: int


def identify(proc: str, pid: int) -> Optional[Identity]:
    """By ``/proc/PID/stat``, or None when it has exited."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:
            # The name, in parentheses, may have blanks and parentheses in it.
            fields = file.read().rpartition(b")")[2].split()
        return Identity(int(fields[19]), int(fields[23]), int(fields[25]))
    except (OSError, ValueError, IndexError):
        return None


def thread_name(proc: str, pid: int, tid: int) -> Optional[str]:
    """What a thread calls itself, or None when it is gone."""
    try:
        with open(f"{proc}/{pid}/task/{tid}/comm", "rb", buffering=0) as file:
            return file.read().rstrip(b"\n").decode(errors="backslashreplace")
    except OSError:
        return None
