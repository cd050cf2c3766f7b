"""The executable mappings of a process, read without waiting for its mmap_lock."""

from __future__ import annotations

import os
import signal
import threading
import time
from bisect import bisect_right
from typing import NamedTuple, Optional, Union

_DELETED = " (deleted)"


class Region(NamedTuple):
    """One executable mapping ``[start, end)``; ``offset`` is that of ``start`` in its file.

    ``path`` is as in ``/proc/PID/maps``: a file, ``[vdso]`` and the like, or
    empty for anonymous memory.
    """

    start: int
    end: int
    offset: int
    device: str
    inode: int
    path: str

    @property
    def has_file(self) -> bool:
        """Whether there is still a file of that path to read symbols from."""
        return self.path.startswith("/") and self.inode != 0 and not self.deleted

    @property
    def deleted(self) -> bool:
        """Whether the file was unlinked or replaced since it was mapped."""
        return self.path.endswith(_DELETED)

    @property
    def module(self) -> str:
        """What to call it: the file's name, or the bracketed name of other memory."""
        if self.path.startswith("/"):
            return self.path.rpartition("/")[2]
        return self.path or "[anon]"


class Maps(NamedTuple):
    """What one read gave: ``regions`` in order of address, and ``problem`` if it failed.

    ``read_ns`` is on ``CLOCK_MONOTONIC``, from before the read began.
    """

    regions: tuple[Region, ...]
    read_ns: int
    problem: Optional[str] = None

    def find(self, address: int) -> Optional[Region]:
        """The region ``address`` is in, or None."""
        index = bisect_right(self.regions, (address, float("inf"))) - 1
        if index >= 0 and address < self.regions[index].end:
            return self.regions[index]
        return None


def parse_maps(text: bytes) -> tuple[Region, ...]:
    r"""The executable regions in the text of ``/proc/PID/maps``.

    Only those: code is nowhere else, and a process may have 65,530 mappings.

    >>> parse_maps(b"1000-2000 r-xp 00003000 fd:01 7   /opt/a b\n2000-3000 rw-p 0 0:0 0\n")
    (Region(start=4096, end=8192, offset=12288, device='fd:01', inode=7, path='/opt/a b'),)
    """
    regions = []
    for line in text.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) < 5 or b"x" not in fields[1]:
            continue
        start, _, end = fields[0].partition(b"-")
        # The kernel escapes nothing but newlines.
        path = fields[5].replace(b"\\012", b"\n") if len(fields) == 6 else b""
        regions.append(
            Region(
                int(start, 16),
                int(end, 16),
                int(fields[2], 16),
                fields[3].decode("ascii"),
                int(fields[4]),
                os.fsdecode(path),
            )
        )
    return tuple(regions)


class MapsReader:
    """Reads mappings in a thread that can be given up.

    Reading ``/proc/PID/maps`` takes the mmap_lock of PID (before Linux 6.17
    always), the very lock that may be held for minutes. A thread of this
    process, because what this process locks is left out of its results; one
    that is stuck ends with the process, as the wait is a killable one.
    """

    def __init__(self, proc: str = "/proc", timeout_s: float = 1.0) -> None:
        #: How many reads were begun.
        self.reads = 0
        self._proc = proc
        self._timeout_s = timeout_s
        self._stuck: dict[int, threading.Thread] = {}

    def read(self, pid: int) -> Maps:
        """The mappings of ``pid`` now; waits ``timeout_s`` seconds at most, never raises."""
        read_ns = time.monotonic_ns()
        held = Maps((), read_ns, f"mappings of {pid} not read: its mmap_lock is held")
        stuck = self._stuck.pop(pid, None)
        if stuck is not None and stuck.is_alive():
            self._stuck[pid] = stuck
            return held
        result: list[Union[bytes, OSError]] = []
        reader = threading.Thread(
            target=_read, args=(f"{self._proc}/{pid}/maps", result), daemon=True
        )
        self.reads += 1
        reader.start()
        reader.join(self._timeout_s)
        if not result:
            self._stuck[pid] = reader
            return held
        return _maps(pid, read_ns, result[0])


def _read(path: str, result: list[Union[bytes, OSError]]) -> None:
    # A signal must go to a thread that may be waiting for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with open(path, "rb", buffering=0) as file:
            result.append(b"".join(iter(lambda: file.read(1 << 16), b"")))
    except OSError as error:
        result.append(error)


def _maps(pid: int, read_ns: int, result: Union[bytes, OSError]) -> Maps:
    if isinstance(result, (FileNotFoundError, ProcessLookupError)):
        return Maps((), read_ns, f"process {pid} has exited")
    if isinstance(result, OSError):
        return Maps((), read_ns, f"mappings of {pid} not read: {result.strerror}")
    regions = parse_maps(result)
    # A zombie's mappings can be read, and there are none.
    return Maps(regions, read_ns, None if regions else f"process {pid} has exited")
