"""Places that a program can be attached to, and what is found there."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple, Optional

from corelock.probes.operands import Operand

Kind = Literal["FUNCTION", "USER", "TRACEPOINT"]

#: How a program can be attached, as of ``enum corelock_way``.
Way = Literal["KPROBE_MULTI", "FENTRY", "KPROBE", "UPROBE_MULTI", "UPROBE", "RAW_TP", "TP"]

WAYS: dict[Kind, tuple[Way, ...]] = {
    "FUNCTION": ("KPROBE_MULTI", "FENTRY", "KPROBE"),
    "USER": ("UPROBE_MULTI", "UPROBE"),
    "TRACEPOINT": ("RAW_TP", "TP"),
}

#: The ways as users know them.
WAY_NAMES: dict[str, str] = {
    "KPROBE_MULTI": "kprobe.multi",
    "FENTRY": "fentry",
    "KPROBE": "kprobe",
    "UPROBE_MULTI": "uprobe.multi",
    "UPROBE": "uprobe",
    "RAW_TP": "raw tracepoint",
    "TP": "tracepoint",
}


class Field(NamedTuple):
    """A field of an event, or an argument: its name, C type in words, and how to find it.

    ``operand`` is None where no program can, and ``why`` says why not then.
    """

    name: str
    type: str
    operand: Optional[Operand]
    why: str = ""


#: What tells a file from one that comes in its place: see :func:`version_of`.
Version = tuple[int, ...]


def version_of(path: str) -> Version:
    """Device, inode, size and time of the last change; of what cannot be looked at, nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Place(NamedTuple):
    """One place: a function's entry, a static probe's location, a tracepoint.

    ``label`` is what it is shown and counted as; several places may share one (a static probe
    with several locations). ``name`` is the kernel function's, the event's, or that of the file
    to open; ``address`` the kernel function's (0: by its name), the event's id in tracefs, or
    the offset in the file. ``semaphore`` is the offset of a static probe's semaphore in the
    file, 0 if it has none. ``fields`` are the event's or the arguments, in order. ``version`` is
    that of the file when it was looked at.
    """

    kind: Kind
    label: str
    name: str
    address: int = 0
    semaphore: int = 0
    fields: tuple[Field, ...] = ()
    version: Version = ()


class Candidate(NamedTuple):
    """A place that is to be attached to in one of ``ways``; ``doubt``: why that may fail."""

    place: Place
    ways: tuple[Way, ...]
    doubt: str = ""
