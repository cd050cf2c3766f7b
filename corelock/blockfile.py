"""The blocks of a recording's file: where they lie, which are sound, what is missing.

See ``docs/format.md``; what is in the blocks is the business of :mod:`corelock.recording`.
"""

from __future__ import annotations

import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, Optional

from corelock.errors import CorelockError

MAGIC = b"CORELOCK"
VERSION = 1
BLOCK_MAGIC = b"\x8bCLK"

_FILE_HEAD = Struct("<8sII")
_BLOCK_HEAD = Struct("<4sHHIIII")


class NotARecording(CorelockError, ValueError):
    """The file is no recording, or one that this version cannot read."""


@dataclass(frozen=True)
class Damage:
    """What of a file could not be read.

    ``cut``: recording did not end, or the file's end is missing. ``corrupt_blocks`` were left
    out, as were ``missing_blocks`` by the numbering, and ``skipped_bytes`` that were no block.
    """

    cut: bool
    corrupt_blocks: int
    missing_blocks: int
    skipped_bytes: int

    def __bool__(self) -> bool:
        return bool(self.cut or self.corrupt_blocks or self.missing_blocks or self.skipped_bytes)


class Payload(NamedTuple):
    """What is in a block, and where in the file that lies."""

    at: int
    data: memoryview


class _Found(NamedTuple):
    type: int
    at: int
    bytes: int
    crc: int


class BlockFile:
    """The blocks of a file, mapped into memory.

    Raises:
        NotARecording: it is no such file, is empty, or is of a newer version.
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mapping = self._map()
        self._view = memoryview(self._mapping)
        self._sound: set[int] = set()
        self._corrupt: set[int] = set()
        self._missing = 0
        self._skipped = 0
        self._blocks = list(self._find())

    def _map(self) -> mmap.mmap:
        with open(self.path, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise self._is_none(f"{self.path} is no regular file")
            head = file.read(_FILE_HEAD.size)
            if not head:
                raise NotARecording(f"{self.path} is empty", "Record it again.")
            if len(head) < _FILE_HEAD.size or not head.startswith(MAGIC):
                raise self._is_none(f"{self.path} is no recording of corelock")
            version = _FILE_HEAD.unpack(head)[1]
            if version > VERSION:
                raise NotARecording(
                    f"{self.path} is of version {version} of the format, and this corelock reads "
                    f"up to {VERSION}",
                    "Use a newer corelock: pip install -U corelock",
                )
            if version < 1:
                raise self._is_none(f"{self.path} is of no version of the format: {version}")
            return mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_READ)

    @staticmethod
    def _is_none(message: str) -> NotARecording:
        return NotARecording(message, "Make one by: corelock record -o FILE")

    def _find(self) -> Iterator[_Found]:
        at, expected, size = _FILE_HEAD.size, 0, len(self._view)
        while at < size:
            head = self._head(at)
            if head is None:
                found = self._next_head(at + 8)
                self._skipped += found - at
                at = found
                continue
            type_, length, sequence, crc = head
            end = _aligned(at + _BLOCK_HEAD.size + length)
            if sequence < expected:
                # Of another recording, whose rows have nothing to do with those of this one.
                self._skipped += min(end, size) - at
            else:
                self._missing += sequence - expected
                expected = sequence + 1
                yield _Found(type_, at + _BLOCK_HEAD.size, length, crc)
            at = end

    def _head(self, at: int) -> Optional[tuple[int, int, int, int]]:
        """Type, bytes, sequence and CRC of the block there, if a sound and whole one begins."""
        if at + _BLOCK_HEAD.size > len(self._view):
            return None
        magic, type_, _, length, sequence, crc, own_crc = _BLOCK_HEAD.unpack_from(self._view, at)
        if magic != BLOCK_MAGIC or zlib.crc32(self._view[at : at + 20]) != own_crc:
            return None
        if at + _BLOCK_HEAD.size + length > len(self._view):
            return None
        return type_, length, sequence, crc

    def _next_head(self, at: int) -> int:
        while True:
            at = self._mapping.find(BLOCK_MAGIC, at)
            if at < 0:
                return len(self._view)
            if at % 8 == 0 and self._head(at) is not None:
                return at
            at += 1

    def payloads(self, type_: int) -> Iterator[Payload]:
        """The sound blocks of a type; the others are counted."""
        for block in self._blocks:
            if block.type != type_ or block.at in self._corrupt:
                continue
            data = self._view[block.at : block.at + block.bytes]
            if block.at not in self._sound:
                if zlib.crc32(data) != block.crc:
                    self.leave_out(block.at)
                    continue
                self._sound.add(block.at)
            yield Payload(block.at, data)

    def leave_out(self, at: int) -> None:
        """Count the block whose payload lies there as corrupt: it makes no sense."""
        self._corrupt.add(at)

    def bytes_of(self, type_: int) -> int:
        """Payloads of that type together."""
        return sum(block.bytes for block in self._blocks if block.type == type_)

    def damage(self, *, cut: bool) -> Damage:
        """What could not be read so far."""
        return Damage(cut, len(self._corrupt), self._missing, self._skipped)

    def close(self) -> None:
        """Give the file back, or leave that to the last view of a payload that is in use."""
        with suppress(BufferError):
            self._view.release()
            self._mapping.close()


def _opener(path: str, flags: int) -> int:
    # Opening a pipe that nobody writes to would never return.
    return os.open(path, flags | os.O_NONBLOCK)


def _aligned(at: int) -> int:
    return (at + 7) & ~7
