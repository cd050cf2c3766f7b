"""The executable mappings of a process, learnt without waiting for its mmap_lock."""

from __future__ import annotations

import errno
import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from corelock.symbolize.files import why
from corelock.symbolize.maps_query import Found, can_be_missing, maps_are_read_per_vma, query
from corelock.symbolize.patience import Patience, TimedOut

_DELETED = " (deleted)"
#: Stacks without frame pointers end in ever new numbers that are no addresses.
_MOST_ABSENT = 4096


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
        """Whether it is of a file that has or had a name."""
        return self.path.startswith("/") and self.inode != 0

    @property
    def deleted(self) -> bool:
        """Whether the file was unlinked or replaced since it was mapped."""
        return self.path.endswith(_DELETED)

    @property
    def module(self) -> str:
        """What to call it: the file's name, or the bracketed name of other memory."""
        if self.path.startswith("/"):
            # Deleted is what happened to the file, not a part of its name.
            name = self.path.rpartition("/")[2]
            return name[: -len(_DELETED)] if self.deleted else name
        return self.path or "[anon]"


class Maps(NamedTuple):
    """What is known: ``regions`` in order of address, and ``problem`` if reading them failed.

    ``problem`` has ``{}`` where the pid belongs. ``read_ns`` is on
    ``CLOCK_MONOTONIC``, from before the read began. If it was ``asked`` for address
    by address, other mappings may be there, too; ``absent`` are those addresses
    that lie in no executable one.
    """

    regions: tuple[Region, ...]
    read_ns: int
    problem: Optional[str] = None
    absent: frozenset[int] = frozenset()
    asked: bool = False

    def find(self, address: int) -> Optional[Region]:
        """The region ``address`` is in, or None."""
        index = bisect_right(self.regions, (address, float("inf"))) - 1
        if index >= 0 and address < self.regions[index].end:
            return self.regions[index]
        return None

    def covers(self, address: int) -> bool:
        """Whether it is known what is at ``address``, be it nothing."""
        return address in self.absent or self.find(address) is not None


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
    """Learns mappings by the least intrusive means that the kernel has.

    Where ``/proc/PID/maps`` is read under the locks of single mappings, by that;
    else one ioctl for each mapping that is asked for, which takes the mmap_lock
    for one look-up; else by ``/proc/PID/maps``, which holds it for pages of text.
    All three may have to wait while a writer holds the lock, hence the patience.
    """

    def __init__(
        self,
        proc: str = "/proc",
        timeout_s: float = 1.0,
        lock_is_held: Optional[Callable[[int], bool]] = None,
        by_query: Optional[bool] = None,
    ) -> None:
        #: How many reads were begun.
        self.reads = 0
        #: Whether the mappings of some process were refused us.
        self.denied = False
        self._proc = proc
        self._patience = Patience(timeout_s)
        self._lock_is_held = lock_is_held
        self._by_query = by_query

    def read(self, pid: int, addresses: Sequence[int], known: Optional[Maps] = None) -> Maps:
        """What ``known`` becomes by a look at ``pid`` now, with ``addresses`` in it.

        Waits ``timeout_s`` seconds at most, never raises. Of what could not be
        read, ``problem`` says why, and what was known stays known.
        """
        return self._trying(pid, addresses, known)

    def read_all(self, pid: int) -> Maps:
        """All executable mappings of ``pid`` now, likewise: where they are asked for one by one,
        an ioctl for each."""
        return self._trying(pid, None, None)

    def _trying(self, pid: int, addresses: Optional[Sequence[int]], known: Optional[Maps]) -> Maps:
        read_ns = time.monotonic_ns()
        old = known or Maps((), read_ns)
        try:
            if self._lock_is_held is not None and self._lock_is_held(pid):
                raise TimedOut
            return self._patience.call(pid, lambda: self._read(pid, addresses, old, read_ns))
        except TimedOut:
            problem = "mappings of {} not read: its mmap_lock is held"
        except FileNotFoundError:
            hidden = _lives(pid)
            self.denied |= hidden
            problem = "process {} is hidden by /proc" if hidden else "process {} has exited"
        except ProcessLookupError:
            problem = "process {} has exited"
        except PermissionError as error:
            self.denied = True
            problem = "mappings of {} not read: " + why(error)
        except OSError as error:
            problem = "mappings of {} not read: " + why(error)
        except ValueError:
            problem = "mappings of {} not read: they make no sense"
        except (MemoryError, RuntimeError) as error:  # no room for a thread, perhaps
            problem = f"mappings of {{}} not read: {type(error).__name__}"
        # With the old time: it is tried again for the next event.
        return old._replace(problem=problem)

    def _read(self, pid: int, addresses: Optional[Sequence[int]], old: Maps, read_ns: int) -> Maps:
        self.reads += 1
        path = f"{self._proc}/{pid}/maps"
        if self._by_query is None:
            self._by_query = not maps_are_read_per_vma()
        with open(path, "rb", buffering=0) as file:
            if self._by_query:
                try:
                    if addresses is not None:
                        return _queried(file.fileno(), addresses, old, read_ns)
                    regions = _all_queried(file.fileno())
                except OSError as error:
                    if not can_be_missing(error):
                        raise
                    self._by_query = False
            if not self._by_query:
                regions = parse_maps(b"".join(iter(lambda: file.read(1 << 16), b"")))
        if not regions:  # a zombie's mappings can be read, and there are none
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return Maps(regions, read_ns)


def _lives(pid: int) -> bool:
    """Whether there is such a process, of which /proc shows nothing (hidepid)."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _queried(fd: int, addresses: Sequence[int], old: Maps, read_ns: int) -> Maps:
    """``old`` with the regions of those addresses that it has not."""
    regions, absent = list(old.regions), set(old.absent)
    if len(absent) > _MOST_ABSENT:
        absent.clear()
    new: list[Region] = []
    # The innermost was executed: it is asked for again if there was nothing there.
    absent.difference_update(addresses[:1])
    for address in addresses:
        if address in absent or any(r.start <= address < r.end for r in new):
            continue
        if old.find(address) is not None:
            continue
        found = query(fd, address)
        if found is None:
            absent.add(address)
        else:
            new.append(_region(found))
    # What lies where something new is was unmapped.
    kept = [r for r in regions if not any(r.start < n.end and n.start < r.end for n in new)]
    return Maps(tuple(sorted(kept + new)), read_ns, None, frozenset(absent), True)


def _all_queried(fd: int) -> tuple[Region, ...]:
    """The regions, in order; mappings may come and go meanwhile."""
    regions = []
    found = query(fd, 0, or_next=True)
    while found is not None:
        regions.append(_region(found))
        found = query(fd, found.end, or_next=True)
    return tuple(regions)


def _region(found: Found) -> Region:
    device = f"{found.major:02x}:{found.minor:02x}"
    return Region(found.start, found.end, found.offset, device, found.inode, found.name)
