"""Where the path of a file leads, on this host or as a process sees it."""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple, Optional

from corelock.errors import UnusableFile

_MOST_LINKS = 40
_DELETED = " (deleted)"
_OF_PROCESS = r"/proc/(\d+)(?:/task/\d+)?"
_ROOT = re.compile(f"{_OF_PROCESS}/root")
_MAPPED = re.compile(f"{_OF_PROCESS}/map_files/[^/]+")
# These lead to the very file, whatever has become of the name that they show.
_STRAIGHT = re.compile(rf"{_MAPPED.pattern}|{_OF_PROCESS}/(?:cwd|exe|fd/\d+)")


class Way(NamedTuple):
    """``path`` below ``root``, without links but those of /proc that lead straight to a file."""

    root: str
    path: str

    @property
    def whole(self) -> str:
        """What to open."""
        return self.root + self.path

    @property
    def mapped_by(self) -> Optional[int]:
        """The process whose mapping it is, in ``map_files``: to look at it takes its mmap_lock."""
        found = _MAPPED.fullmatch(self.path)
        return None if found is None else int(found[1])


def follow(path: str, root: str = "", pid: Optional[int] = None) -> Way:
    """Where ``path`` leads below ``root``; ``/proc/self`` is that of process ``pid``.

    Opened as it is, a symbolic link with an absolute path would lead out of another root, and
    ``/proc/self`` to ourselves.

    Raises:
        UnusableFile: it goes on forever.
    """
    own, links = "", 0
    parts = path.split("/")[::-1]
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            own = f"{own}/.." if _is_left_to_the_kernel(own) else own.rpartition("/")[0]
            continue
        if own == "/proc" and part in ("self", "thread-self") and pid is not None:
            # Ours, whose pids are ours: its own, if it has one, may count them otherwise.
            root, own = "", f"/proc/{pid}" if part == "self" else f"/proc/{pid}/task/{pid}"
            continue
        folder, own = own, f"{own}/{part}"
        if _ROOT.fullmatch(own):
            root, own = root + own, ""
            continue
        if _is_left_to_the_kernel(own):
            continue
        try:
            aim = os.readlink(root + own)
        except OSError:  # no link; that there is no such file is said when it is opened
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UnusableFile(f"cannot use {path}: {os.strerror(errno.ELOOP)}", "Give another.")
        own = "" if aim.startswith("/") else folder
        parts += aim.split("/")[::-1]
    return Way(root, own or "/")


def _is_left_to_the_kernel(path: str) -> bool:
    return _STRAIGHT.fullmatch(path) is not None or path.endswith("/..")


def shown_by_proc(way: Way) -> str:
    """The name of the file, which it may not have any more, that a link of /proc shows."""
    if _STRAIGHT.fullmatch(way.path) is None:
        return way.path
    try:
        return without_deleted(os.readlink(way.whole))
    except OSError:  # it is said when it is opened
        return way.path


def without_deleted(path: str) -> str:
    """A path that /proc shows, as it was before the file was deleted."""
    return path[: -len(_DELETED)] if path.endswith(_DELETED) else path


def is_same_file(path: str, other: str) -> bool:
    """Whether both are there, and one."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
