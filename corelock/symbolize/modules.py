"""The files that processes have mapped, and the functions in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Callable, Optional, TypeVar, Union

from corelock.symbolize.cache import Cache
from corelock.symbolize.counts import Counts
from corelock.symbolize.files import open_regular, why
from corelock.symbolize.maps import Region
from corelock.symbolize.patience import Patience, TimedOut
from corelock.symbolize.process import below_root

if TYPE_CHECKING:
    from corelock.symbolize.cfi import ElfFrames
    from corelock.symbolize.elf import ElfSymbols

# Bounds what a tracer that runs for weeks keeps.
_FILES = 64
#: Reading the largest takes a second or two; a file system that hangs takes forever.
_FILE_TIMEOUT_S = 10.0

#: Why a deleted file has no names.
DELETED = "the file was deleted"

Key = TypeVar("Key")
Value = TypeVar("Value")


_Key = tuple[str, int, str]


class Modules:
    """Symbols and call frame information of mapped files, each read once.

    A file is looked for as its process sees it, and as we do, below
    ``host_root``; it is taken only if it is the very file that was mapped.
    Bad debug files count in ``problems``.
    """

    def __init__(self, proc: str, host_root: str, cache: Optional[Cache], problems: Counts) -> None:
        self._proc = proc
        self._host_root = host_root.rstrip("/")
        self._cache = cache
        self._problems = problems
        self._patience = Patience(_FILE_TIMEOUT_S)
        #: Whether some file was refused us.
        self.denied = False
        self._symbols: dict[_Key, Union[ElfSymbols, str]] = {}
        self._frames: dict[_Key, Union[ElfFrames, str]] = {}

    def of(self, pid: int, region: Region) -> Union[ElfSymbols, str]:
        """The symbols of the file of ``region``, or in words why there are none."""
        return self._once(self._symbols, region, lambda: self._load(pid, region))

    def frames_of(self, pid: int, region: Region) -> Union[ElfFrames, str]:
        """Likewise its call frame information, which it may have none of."""
        return self._once(self._frames, region, lambda: self._load_frames(pid, region))

    def _once(
        self,
        files: dict[_Key, Union[Value, str]],
        region: Region,
        load: Callable[[], Union[Value, str]],
    ) -> Union[Value, str]:
        key = (region.device, region.inode, region.path)
        kept = files.get(key)
        if kept is not None:
            return kept
        try:
            loaded = self._patience.call(key, load)
        except TimedOut:
            return "the file cannot be read: it takes too long"
        except OSError as error:
            self.denied |= isinstance(error, PermissionError)
            # Not kept: another process may show the same file.
            return why(error)
        except ValueError as error:  # such as a path that cannot be one
            return str(error)
        except ImportError as error:
            return f"pyelftools cannot be used ({error})"
        except Exception as error:
            # Whatever it is, such as a lack of memory: the trace is worth more than names.
            return f"the file cannot be read ({type(error).__name__})"
        keep(files, key, loaded, _FILES)
        return loaded

    def _load(self, pid: int, region: Region) -> Union[ElfSymbols, str]:
        # pyelftools is slow to import, and not needed until now.
        from corelock.symbolize.debugfiles import separate_table
        from corelock.symbolize.elf import BadElf, ElfSymbols

        roots = (f"{self._proc}/{pid}/root", self._host_root)
        path = below_root(roots[0], os.path.join(os.path.dirname(region.path), region.module))
        try:
            with self._open(pid, region) as file:
                symbols = ElfSymbols(
                    file,
                    self._cache,
                    lambda elf: separate_table(elf, path, roots, self._problems, self._cache),
                )
        except BadElf as error:
            return str(error)
        if symbols.problem:
            self._problems.add(f"{region.module}: {symbols.problem}")
        return symbols

    def _load_frames(self, pid: int, region: Region) -> Union[ElfFrames, str]:
        from corelock.symbolize.cfi import ElfFrames
        from corelock.symbolize.elf import BadElf

        try:
            with self._open(pid, region) as file:
                return ElfFrames(file)
        except BadElf as error:
            self._problems.add(f"{region.module}: {error}")
            return str(error)

    def _open(self, pid: int, region: Region) -> BinaryIO:
        """The mapped file.

        Not by way of ``/proc/PID/map_files``, which takes the mmap_lock. The
        program itself can be had even when it is deleted, by ``/proc/PID/exe``.

        Raises:
            OSError: there is none, or another one in its place.
        """
        paths, root = [f"{self._proc}/{pid}/exe"], f"{self._proc}/{pid}/root"
        if not region.deleted:
            inside = below_root(root, region.path)
            paths[:0] = [root + inside, self._host_root + region.path]
        reasons = []
        for path in paths:
            try:
                file = open_regular(path)
            except OSError as error:
                reasons.append(error)
                continue
            if is_mapped_in(os.fstat(file.fileno()), region):
                return file
            file.close()
            if path != paths[-1]:
                reasons.insert(0, OSError("the file of that name is another one now"))
        raise OSError(DELETED) if region.deleted else reasons[0]


def is_mapped_in(status: os.stat_result, region: Region) -> bool:
    """Whether a file is the one that is mapped there.

    On btrfs and overlayfs, whose device numbers are made up, what maps shows may
    be another one than fstat's: then the inode decides. Real devices must agree.
    """
    if status.st_ino != region.inode:
        return False
    major, minor = (int(number, 16) for number in region.device.split(":"))
    if os.makedev(major, minor) == status.st_dev:
        return True
    return 0 in (major, os.major(status.st_dev))


def keep(cache: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    """Put it there as the newest, and drop the oldest if there are too many."""
    cache.pop(key, None)
    while len(cache) >= limit:
        del cache[next(iter(cache))]
    cache[key] = value
