"""User stacks: addresses to functions of the files a process has mapped."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import BinaryIO, Optional, TypeVar

from corelock.model import Frame, SlowEvent
from corelock.symbolize.elf import BadElf, ElfSymbols
from corelock.symbolize.maps import Maps, MapsReader, Region
from corelock.symbolize.probes import return_probes

_ENTRY = re.compile(
    r"main|_start|__libc_start_main.*|__libc_start_call_main"
    r"|(__)?clone3?|start_thread|thread_start"
    r"|runtime\.(goexit|mstart|rt0_go)(\.abi0)?"
)
_LIBC = re.compile(r"libc[.-]|libpthread[.-]|ld-musl-")

_NO_FRAME_POINTER = "stack truncated (no frame pointer)"

# Bounds what a tracer that runs for weeks keeps.
_PROCESSES = 256
_FILES = 64

Key = TypeVar("Key")
Value = TypeVar("Value")


class UserSymbols:
    """Resolves user stacks; ``problems`` counts by reason what could not be read.

    Never waits for a lock of the traced process, and never raises over the
    state of a process or a file.
    """

    def __init__(self, proc: str, reader: MapsReader) -> None:
        self.problems: dict[str, int] = {}
        self._proc = proc
        self._reader = reader
        self._maps: dict[int, Maps] = {}
        self._files: dict[tuple[str, int, str], Optional[ElfSymbols]] = {}

    def observe(self, event: SlowEvent) -> None:
        """Read the mappings of the event's process if the ones known miss its innermost frame."""
        if event.user_stack:
            self._maps_for(event, event.user_stack[:1])

    def resolve(self, event: SlowEvent) -> tuple[tuple[Frame, ...], Optional[str]]:
        """The frames of the user stack, and in words what is missing from it, or None."""
        stack = event.user_stack
        if not stack:
            # A kernel thread's operation is its name; it has no user stack to miss.
            return (), None if event.operation == event.comm else "no user stack"
        probes = return_probes(stack)
        maps = self._maps_for(event, probes)
        frames = [self._frame(event.pid, *pair, maps) for pair in zip(stack, probes)]
        notes = [maps.problem] if maps.problem else []
        if event.user_stack_full:
            notes.append("stack truncated (depth limit)")
        elif maps.regions and not notes and maps.find(stack[0]) is None:
            # The innermost address was being executed: these are not the
            # mappings it was executed in.
            notes.append(f"process {event.pid} has changed its mappings since")
        elif maps.regions:
            garbage = _garbage(probes, maps)
            del frames[len(frames) - garbage :]
            if garbage or not _reaches_entry(frames):
                notes.append(_NO_FRAME_POINTER)
        return tuple(frames), "; ".join(notes) or None

    def _maps_for(self, event: SlowEvent, probes: Sequence[int]) -> Maps:
        """The mappings of the event's process, read again if they may miss something newer."""
        known = self._maps.get(event.pid)
        if known is not None:
            older = known.read_ns < event.start_ns + event.duration_ns
            if not older or all(known.find(probe) for probe in probes):
                return known
        maps = self._reader.read(event.pid)
        if known is not None and not maps.regions:
            maps = maps._replace(regions=known.regions)
        _keep(self._maps, event.pid, maps, _PROCESSES)
        return maps

    def _frame(self, pid: int, address: int, probe: int, maps: Maps) -> Frame:
        region = maps.find(probe)
        if region is None:
            return Frame(address, None, None, None)
        file_offset = probe - region.start + region.offset
        symbols = self._symbols(pid, region)
        linked = None if symbols is None else symbols.address_of(file_offset)
        if symbols is None or linked is None:
            return Frame(address, None, file_offset + address - probe, region.module)
        linked_address = linked + address - probe
        found = symbols.find(linked)
        if found is None:
            return Frame(address, None, linked_address, region.module)
        name, start = found
        return Frame(address, name, linked_address - start, region.module)

    def _symbols(self, pid: int, region: Region) -> Optional[ElfSymbols]:
        key = (region.device, region.inode, region.path)
        if key in self._files:
            return self._files[key]
        if not region.has_file:
            if region.deleted:
                self._count(f"{region.module}: no file to read symbols from")
            return None
        symbols = None
        try:
            with self._open(pid, region) as file:
                symbols = ElfSymbols(file)
        except BadElf as error:
            self._count(f"{region.module}: {error}")
        except OSError as error:
            # Not kept: another process may show the same file.
            self._count(f"{region.module}: {error.strerror or error}")
            return None
        _keep(self._files, key, symbols, _FILES)
        return symbols

    def _open(self, pid: int, region: Region) -> BinaryIO:
        """The mapped file, as the process sees it if it still runs.

        Not by way of ``/proc/PID/map_files``, which takes the mmap_lock.

        Raises:
            OSError: there is none, or another one in its place.
        """
        try:
            return _open_regular(f"{self._proc}/{pid}/root{region.path}")
        except OSError:
            # Exited, or not ours to look into. Without its root the path may
            # lead to another container's file: hence the inode.
            return _open_regular(region.path, region.inode)

    def _count(self, problem: str) -> None:
        self.problems[problem] = self.problems.get(problem, 0) + 1


def _open_regular(path: str, inode: Optional[int] = None) -> BinaryIO:
    # O_NONBLOCK: what now has that name may be a FIFO that nobody writes to.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and inode in (None, status.st_ino):
        return os.fdopen(fd, "rb")
    os.close(fd)
    raise OSError("the file of that name is another one now")


def _garbage(probes: Sequence[int], maps: Maps) -> int:
    """How many outermost addresses are no code: what a walk without frame pointers picks up."""
    count = 0
    for probe in reversed(probes[1:]):
        if maps.problem or maps.find(probe) is not None:
            break
        count += 1
    return count


def _reaches_entry(frames: Sequence[Frame]) -> bool:
    """Whether the stack goes back to where a process or a thread begins."""
    outermost = next((frame for frame in reversed(frames) if frame.name is not None), None)
    if outermost is not None and outermost.name is not None and _ENTRY.fullmatch(outermost.name):
        return True
    # A stripped libc names neither start_thread nor __libc_start_call_main.
    # They are what calls code outside of libc with nothing further out.
    in_libc = [bool(_LIBC.match(frame.module or "")) for frame in frames[-2:]]
    return in_libc == [False, True] and frames[-1].name is None


def _keep(cache: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    cache.pop(key, None)
    while len(cache) >= limit:
        del cache[next(iter(cache))]
    cache[key] = value
