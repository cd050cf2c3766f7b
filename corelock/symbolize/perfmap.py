"""Functions that a process made at run time, as it lists them in ``/tmp/perf-PID.map``."""

from __future__ import annotations

import heapq
import os
from bisect import bisect_right
from typing import BinaryIO, NamedTuple, Optional

from corelock.symbolize.files import open_regular

_MOST_BYTES = 256 << 20


class _State(NamedTuple):
    """What tells that the file has been written to since."""

    inode: int
    size: int
    changed_ns: int


class PerfMap:
    """The functions listed in one file.

    Lines are ``START SIZE NAME``, both numbers hexadecimal. Where code was
    replaced, the line that was written last holds.

    Raises:
        OSError: the file cannot be read, or is not to be trusted.
    """

    def __init__(self, path: str, owners: frozenset[int]) -> None:
        self._path = path
        self._owners = owners
        #: Lines that say nothing, and were skipped.
        self.bad_lines = 0
        with self._open() as file:
            self._load(file)

    def find(self, address: int) -> Optional[tuple[str, int]]:
        """Name and start of the function ``address`` is in, or None.

        Reads the file again if it was written to since, and has to be asked about
        something new.
        """
        found = self._find(address)
        if found is None and self._changed():
            found = self._find(address)
        return found

    def _find(self, address: int) -> Optional[tuple[str, int]]:
        index = bisect_right(self._edges, address) - 1
        entry = self._winners[index] if index >= 0 else -1
        if entry < 0:
            return None
        start, _, name = self._entries[entry]
        return name.decode("utf-8", "replace"), start

    def _open(self) -> BinaryIO:
        """The file, if it is one that the process or root has written: anybody may, to /tmp."""
        file = open_regular(self._path, follow=False)
        status = os.fstat(file.fileno())
        if status.st_uid in self._owners and status.st_size <= _MOST_BYTES:
            return file
        file.close()
        raise OSError("too large" if status.st_uid in self._owners else "of another user")

    def _changed(self) -> bool:
        try:
            with self._open() as file:
                if _state(file) == self._state:
                    return False
                self._load(file)
        except OSError:  # gone; what it said still holds
            return False
        return True

    def _load(self, file: BinaryIO) -> None:
        self._state = _state(file)
        lines = file.read(_MOST_BYTES).split(b"\n")
        # What follows the last newline is being written.
        self._entries, self.bad_lines = _parse(lines[:-1])
        self._edges, self._winners = _flatten(self._entries)


def _state(file: BinaryIO) -> _State:
    status = os.fstat(file.fileno())
    return _State(status.st_ino, status.st_size, status.st_mtime_ns)


_Entry = tuple[int, int, bytes]


def _parse(lines: list[bytes]) -> tuple[list[_Entry], int]:
    """``(start, end, name)`` of each good line, in order; how many were bad."""
    entries = []
    for line in lines:
        try:
            start_text, size_text, name = line.split(None, 2)
            start, size = int(start_text, 16), int(size_text, 16)
        except ValueError:
            continue
        if start >= 0 and size > 0 and start + size <= 1 << 64:
            entries.append((start, start + size, name.rstrip()))
    return entries, len(lines) - len(entries)


def _flatten(entries: list[_Entry]) -> tuple[list[int], list[int]]:
    """Edges, ascending, and the entry (or -1) that holds from each edge to the next."""
    by_start = sorted(range(len(entries)), key=lambda index: entries[index][0])
    edges = sorted({edge for start, end, _ in entries for edge in (start, end)})
    winners = []
    covering: list[int] = []  # a heap of negated indexes: the entry written last on top
    opened = 0
    for edge in edges:
        while opened < len(by_start) and entries[by_start[opened]][0] <= edge:
            heapq.heappush(covering, -by_start[opened])
            opened += 1
        while covering and entries[-covering[0]][1] <= edge:
            heapq.heappop(covering)
        winners.append(-covering[0] if covering else -1)
    return edges, winners
