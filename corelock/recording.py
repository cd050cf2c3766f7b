"""Reading recordings, as ``docs/format.md`` describes them.

Needs numpy (``pip install 'corelock[report]'``), and knows nothing of BPF.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from struct import Struct
from typing import Any, NamedTuple, Optional

from corelock.arguments import FileName, file_name
from corelock.errors import CorelockError
from corelock.extras import needs

with needs("report", "numpy"):
    import numpy as np
    import numpy.typing as npt

MAGIC = b"CORELOCK"
VERSION = 1
BLOCK_MAGIC = b"\x8bCLK"

HEADER, PROCESSES, ROWS, CYCLES, STACKS, FOOTER = range(1, 7)

#: How a cycle ended: the lowest three bits of its kind.
RELEASED, DOWNGRADED, FAILED, ABORTED, HOLDING, WAITING = range(6)
ENDING = 7
NO_WAIT = 8
CONTENDED = 16

_LONG = 0xFFFFFFFF
_FILE_HEAD = Struct("<8sII")
_BLOCK_HEAD = Struct("<4sHHIIII")
_CYCLES_HEAD = Struct("<QQQqqIII12x")

PROCESS_TYPE = np.dtype(
    [
        ("mm", "<u4"), ("pid", "<u4"), ("host_pid", "<u4"), ("", "<u4"), ("start_ns", "<u8"),
        ("comm", "S16"),
    ]
)  # fmt: skip
ROW_TYPE = np.dtype(
    [
        ("row", "<u4"), ("mm", "<u4"), ("thread", "<u4"), ("pid", "<u4"), ("tid", "<u4"),
        ("host_pid", "<u4"), ("host_tid", "<u4"), ("operation", "<u4"), ("mode", "<u4"),
        ("", "<u4"), ("named_ns", "<u8"), ("comm", "S16"),
    ]
)  # fmt: skip

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


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


class StackFrames(NamedTuple):
    """One distinct stack: frames as (address, name, offset, module), innermost first."""

    kernel: tuple[tuple[int, Optional[str], Optional[int], Optional[str]], ...]
    user: tuple[tuple[int, Optional[str], Optional[int], Optional[str]], ...]
    note: Optional[str]


class Block:
    """Some cycles, as columns of equal length, in no order of time.

    The columns are views of the file's mapping, read-only, valid until the recording is
    closed: ``end`` (ns since ``base_ns``), ``row`` (key of :attr:`Recording.rows`), ``kind``
    (see ``docs/format.md``), and, unless ``has_long``, ``wait_ns`` and ``hold_ns``
    (uint32; with ``has_long`` copies of uint64). ``end_ns`` is a copy. Cycles with stacks:
    ``stacked_index`` (position in the block), ``wait_stack`` and ``hold_stack`` (ids, 0: none).
    """

    def __init__(self, payload: memoryview) -> None:
        (
            self.base_ns, self.first_ns, self.last_ns, self.realtime_offset_ns,
            self.boottime_offset_ns, self.count, stacked, long,
        ) = _CYCLES_HEAD.unpack_from(payload)  # fmt: skip
        self._payload = payload
        at = _CYCLES_HEAD.size
        self.end, at = self._column("<u4", self.count, at)
        self._wait, at = self._column("<u4", self.count, at)
        self._hold, at = self._column("<u4", self.count, at)
        self.row, at = self._column("<u4", self.count, at)
        self.kind, at = self._column("u1", self.count, at)
        at = _aligned(at)
        self.stacked_index, at = self._column("<u4", stacked, at)
        self.wait_stack, at = self._column("<u4", stacked, at)
        self.hold_stack, at = self._column("<u4", stacked, at)
        at = _aligned(at)
        self._long_wait, at = self._column("<u8", long, at)
        self._long_hold, at = self._column("<u8", long, at)
        self._long_index, at = self._column("<u4", long, at)

    def _column(self, dtype: str, count: int, at: int) -> tuple[Any, int]:
        column = np.frombuffer(self._payload, dtype, count, at)
        return column, at + column.nbytes

    def __len__(self) -> int:
        return int(self.count)

    @property
    def has_long(self) -> bool:
        """Whether there are times that 32 bits do not hold."""
        return len(self._long_index) > 0

    @cached_property
    def wait_ns(self) -> Any:
        """How long each cycle waited."""
        return self._with_long(self._wait, self._long_wait)

    @cached_property
    def hold_ns(self) -> Any:
        """How long each cycle held the lock."""
        return self._with_long(self._hold, self._long_hold)

    def _with_long(self, short: U32, long: U64) -> Any:
        if not self.has_long:
            return short
        times = short.astype(np.uint64)
        times[self._long_index] = long
        return times

    @property
    def end_ns(self) -> U64:
        """When each cycle ended (``CLOCK_MONOTONIC``), a new array."""
        ends: U64 = self.end + np.uint64(self.base_ns)
        return ends


def _aligned(at: int) -> int:
    return (at + 7) & ~7


class _Found(NamedTuple):
    type: int
    at: int
    bytes: int
    crc: int


@dataclass
class _Index:
    """Where the blocks of a file lie."""

    blocks: list[_Found] = field(default_factory=list)
    missing: int = 0
    skipped: int = 0


class Recording:
    """One recording, open for reading. A context manager; leaving it closes.

    ``header`` and ``footer`` are the JSON objects of ``docs/format.md``; a recording that did
    not end has no footer (None). Iterating yields the :class:`Block`s of cycles in the order in
    which they were written.

    Raises:
        NotARecording: it is none, is empty, or is of a newer version.
        OSError: it cannot be read.
    """

    def __init__(self, path: FileName) -> None:
        name = file_name("recording", path)
        assert name is not None
        self.path: str = name
        self._mapping = self._map()
        self._view = memoryview(self._mapping)
        self._corrupt: set[int] = set()
        self._index = self._find_blocks()
        header = self._first(HEADER)
        if header is None:
            self.close()
            raise NotARecording(
                f"{self.path}: the recording's header cannot be read", "Record it again."
            )
        self.header: dict[str, Any] = header
        self.footer: Optional[dict[str, Any]] = self._first(FOOTER)

    def _map(self) -> mmap.mmap:
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_FILE_HEAD.size)
            if not head:
                raise NotARecording(f"{self.path} is empty", "Record it again.")
            if len(head) < _FILE_HEAD.size or not head.startswith(MAGIC):
                raise NotARecording(
                    f"{self.path} is no recording of corelock",
                    "Make one by: corelock record -o FILE",
                )
            version = _FILE_HEAD.unpack(head)[1]
            if version > VERSION:
                raise NotARecording(
                    f"{self.path} is of version {version} of the format, and this corelock reads "
                    f"up to {VERSION}",
                    "Use a newer corelock: pip install -U corelock",
                )
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)

    def _find_blocks(self) -> _Index:
        index, at, expected = _Index(), _FILE_HEAD.size, 0
        size = len(self._view)
        while at < size:
            head = self._head(at)
            if head is None:
                found = self._next_head(at + 8)
                index.skipped += found - at
                at = found
                continue
            type_, length, sequence, crc = head
            if sequence > expected:
                index.missing += sequence - expected
            expected = sequence + 1
            index.blocks.append(_Found(type_, at + _BLOCK_HEAD.size, length, crc))
            at = _aligned(at + _BLOCK_HEAD.size + length)
        return index

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

    def _payloads(self, type_: int) -> Iterator[memoryview]:
        for block in self._index.blocks:
            if block.type != type_:
                continue
            payload = self._view[block.at : block.at + block.bytes]
            if zlib.crc32(payload) == block.crc:
                yield payload
            else:
                self._corrupt.add(block.at)

    def _first(self, type_: int) -> Optional[dict[str, Any]]:
        for payload in self._payloads(type_):
            return dict(json.loads(bytes(payload)))
        return None

    @property
    def damage(self) -> Damage:
        """What could not be read so far; complete once all blocks were iterated."""
        return Damage(
            self.footer is None, len(self._corrupt), self._index.missing, self._index.skipped
        )

    @cached_property
    def processes(self) -> Any:
        """Address spaces: an array of ``PROCESS_TYPE``, one entry for each ``mm``."""
        return self._table(PROCESSES, PROCESS_TYPE, "mm")

    @cached_property
    def rows(self) -> Any:
        """What cycles name by ``row``: an array of ``ROW_TYPE``, one entry for each."""
        return self._table(ROWS, ROW_TYPE, "row")

    def _table(self, type_: int, dtype: Any, key: str) -> Any:
        parts = [
            np.frombuffer(payload, dtype, len(payload) // dtype.itemsize)
            for payload in self._payloads(type_)
        ]
        if not parts:
            return np.empty(0, dtype)
        entries = np.concatenate(parts)[::-1]
        return entries[np.unique(entries[key], return_index=True)[1]]

    @cached_property
    def stacks(self) -> Mapping[int, StackFrames]:
        """The stacks that cycles name, by id."""
        strings: dict[int, str] = {}
        frames: dict[int, tuple[int, Optional[str], Optional[int], Optional[str]]] = {}
        stacks: dict[int, StackFrames] = {}
        ids: dict[int, StackFrames] = {}
        for payload in self._payloads(STACKS):
            block = json.loads(bytes(payload))
            first = block["first"]
            strings.update(enumerate(block["strings"], first["strings"]))
            for at, (address, name, offset, module) in enumerate(block["frames"], first["frames"]):
                frames[at] = (
                    address, strings.get(name), None if offset < 0 else offset,
                    strings.get(module),
                )  # fmt: skip
            for at, (kernel, user, note) in enumerate(block["stacks"], first["stacks"]):
                # A frame of a block that is missing is left out.
                stacks[at] = StackFrames(
                    tuple(frames[i] for i in kernel if i in frames),
                    tuple(frames[i] for i in user if i in frames),
                    None if note is None else strings.get(note),
                )
            ids.update((id_, stacks[at]) for id_, at in block["ids"] if at in stacks)
        return ids

    def __iter__(self) -> Iterator[Block]:
        for payload in self._payloads(CYCLES):
            yield Block(payload)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back, or leave that to the last array of a block that is in use."""
        with suppress(BufferError):
            self._view.release()
            self._mapping.close()


def open_recording(path: FileName) -> Recording:
    """Open a recording made by ``corelock record`` or :func:`corelock.record`.

    Blocks come as they lie in the file, and their columns are not copied:

    >>> import corelock, mmap, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "here.corelock")
    >>> with corelock.record(path, pid=os.getpid()) as recorder:
    ...     region = mmap.mmap(-1, 1 << 24)
    >>> with corelock.open_recording(path) as recording:
    ...     longest_ns = max(int(block.hold_ns.max()) for block in recording)
    ...     longest_ns > 0, recording.damage.cut
    (True, False)

    Raises:
        NotARecording: it is none, is empty, or is of a newer version.
        OSError: it cannot be read.
    """
    return Recording(path)
