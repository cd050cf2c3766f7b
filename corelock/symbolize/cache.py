"""Sorted symbol tables on disk, to be found again by the next run."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Optional

from corelock.symbolize.counts import Counts
from corelock.symbolize.files import why

#: Magic, version, CRC of what follows, its length. In the machine's own byte order,
#: as are the columns that follow: another order's magic is no magic.
_HEADER = struct.Struct("=8sIIQ")
_MAGIC = b"clcksyms"
_VERSION = 1

_LIMIT_BYTES = 256 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def default_folder() -> Optional[str]:
    """``$XDG_CACHE_HOME/corelock``, else ``~/.cache/corelock``; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "corelock") if os.path.isabs(base) else None


class Cache:
    """Bytes by key, in files of ``folder``, of ``limit_bytes`` together.

    Nothing is trusted that another user owns or can write to, and no symbolic
    link is followed; ``problems`` counts what was refused. Never raises.
    """

    def __init__(
        self, folder: Optional[str], problems: Counts, limit_bytes: int = _LIMIT_BYTES
    ) -> None:
        self._path = folder
        self._problems = problems
        self._limit_bytes = limit_bytes

    def get(self, key: str) -> Optional[bytes]:
        """What was put there, or None. It counts as used now."""
        with self._counting(), self._folder() as folder:
            if folder is None:
                return None
            try:
                fd = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or not _is_ours_alone(status):
                    self._problems.add("cache: a file of another user is ignored")
                    return None
                data = _contents(file.read(self._limit_bytes + 1))
                if data is None:
                    self._problems.add("cache: a corrupt file is ignored")
                    return None
                with suppress(OSError):  # a read-only file system has its use all the same
                    os.utime(fd)
                return data
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``, and give up the least recently used for it."""
        header = _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(data), len(data))
        if len(header) + len(data) > self._limit_bytes:
            return
        with self._counting(), self._folder(create=True) as folder:
            if folder is None:
                return
            # Complete before it has the name that others look for.
            new = f".{key}.{os.urandom(8).hex()}"
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(header)
                    file.write(data)
                os.replace(new, key, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(new, dir_fd=folder)
                raise
            self._evict(folder)

    def _evict(self, folder: int) -> None:
        files = []
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                files.append((status.st_mtime_ns, status.st_size, name))
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= self._limit_bytes:
                break
            # Another run may be evicting, too.
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            total -= size

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._problems.add(f"cache: {why(error)}")

    @contextmanager
    def _folder(self, create: bool = False) -> Iterator[Optional[int]]:
        """A descriptor of the folder, or None where there is none to be trusted."""
        if self._path is None:
            yield None
            return
        if create:
            self._create(self._path)
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        try:
            trusted = _is_ours_alone(os.fstat(fd))
            if not trusted:
                self._problems.add("cache: a folder of another user is ignored")
            yield fd if trusted else None
        finally:
            os.close(fd)

    def _create(self, path: str) -> None:
        """The folder, and those above it; not in the home that sudo has left another user's."""
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        if missing and os.stat(path).st_uid != os.geteuid():
            raise OSError("its folder would be in another user's")
        for path in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)


def _is_ours_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def _contents(file: bytes) -> Optional[bytes]:
    """What follows the header, or None if it is not what was written."""
    if len(file) < _HEADER.size:
        return None
    magic, version, crc, length = _HEADER.unpack_from(file)
    data = file[_HEADER.size :]
    if (magic, version, length) != (_MAGIC, _VERSION, len(data)) or zlib.crc32(data) != crc:
        return None
    return data
