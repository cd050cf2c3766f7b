"""Reading recordings, as ``docs/format.md`` describes them.

Needs numpy (``pip install 'corelock[report]'``), and knows nothing of BPF.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Optional, TypeVar

from corelock.arguments import FileName, file_name
from corelock.blockfile import BLOCK_MAGIC, MAGIC, VERSION, BlockFile, Damage, NotARecording
from corelock.cycles import (
    ABORTED,
    CONTENDED,
    DOWNGRADED,
    ENDING,
    FAILED,
    HOLDING,
    NO_WAIT,
    RELEASED,
    U8,
    U32,
    U64,
    WAITING,
    Block,
)  # fmt: skip
from corelock.extras import needs
from corelock.recorded import PIDS_BELOW, check_footer, check_header

with needs("report", "numpy"):
    import numpy as np

__all__ = [
    "ABORTED", "BLOCK_MAGIC", "Block", "CONTENDED", "CYCLES", "Clocks", "DOWNGRADED", "Damage",
    "ENDING", "FAILED", "FOOTER", "HEADER", "HOLDING", "MAGIC", "NO_WAIT", "NotARecording",
    "PROCESSES", "PROCESS_TYPE", "RELEASED", "ROWS", "ROW_TYPE", "Recording", "STACKS",
    "StackFrames", "U32", "U64", "U8", "VERSION", "WAITING", "open_recording",
]  # fmt: skip

HEADER, PROCESSES, ROWS, CYCLES, STACKS, FOOTER = range(1, 7)

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
# What is as large as this cannot be.
_PROCESS_LIMITS = dict.fromkeys(("pid", "host_pid"), PIDS_BELOW)
_ROW_LIMITS = {
    "row": 1 << 23, "mode": 2, **dict.fromkeys(("pid", "tid", "host_pid", "host_tid"), PIDS_BELOW)
}  # fmt: skip

_Frame = tuple[int, Optional[str], Optional[int], Optional[str]]
_Made = TypeVar("_Made")


class StackFrames(NamedTuple):
    """One distinct stack: frames as (address, name, offset, module), innermost first."""

    kernel: tuple[_Frame, ...]
    user: tuple[_Frame, ...]
    note: Optional[str]


class Clocks(NamedTuple):
    """What the other clocks had more than ``CLOCK_MONOTONIC`` when that was ``monotonic_ns``."""

    monotonic_ns: int
    realtime_offset_ns: int
    boottime_offset_ns: int


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
        self._file = BlockFile(name)
        self._checked: set[int] = set()
        header = self._first(HEADER, check_header)
        if header is None:
            self.close()
            raise NotARecording(
                f"{self.path}: the recording's header cannot be read", "Record it again."
            )
        self.header: dict[str, Any] = header
        self.footer: Optional[dict[str, Any]] = self._first(FOOTER, check_footer)

    def _read(self, type_: int, read: Callable[[memoryview], _Made]) -> Iterator[_Made]:
        """What is made of the blocks of a type; those that make no sense are counted."""
        for payload in self._file.payloads(type_):
            try:
                made = read(payload.data)
            except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
                self._file.leave_out(payload.at)
            else:
                yield made

    def _first(self, type_: int, check: Callable[[Any], None]) -> Optional[dict[str, Any]]:
        def read(payload: memoryview) -> dict[str, Any]:
            value = json.loads(bytes(payload))
            check(value)
            return dict(value)

        return next(self._read(type_, read), None)

    @property
    def damage(self) -> Damage:
        """What could not be read so far; complete once all blocks were iterated."""
        return self._file.damage(cut=self.footer is None)

    @property
    def cycles_bytes(self) -> int:
        """Bytes of all blocks of cycles, as their heads say."""
        return self._file.bytes_of(CYCLES)

    @cached_property
    def processes(self) -> Any:
        """Address spaces: an array of ``PROCESS_TYPE``, one entry for each ``mm``."""
        return self._table(PROCESSES, PROCESS_TYPE, "mm", _PROCESS_LIMITS)

    @cached_property
    def rows(self) -> Any:
        """What cycles name by ``row``: an array of ``ROW_TYPE``, one entry for each."""
        return self._table(ROWS, ROW_TYPE, "row", _ROW_LIMITS)

    def _table(self, type_: int, dtype: Any, key: str, limits: Mapping[str, int]) -> Any:
        def read(payload: memoryview) -> Any:
            entries = np.frombuffer(payload, dtype) if payload else np.empty(0, dtype)
            for name, limit in limits.items():
                if (entries[name] >= limit).any():
                    raise ValueError(f"{name} is {entries[name].max()}")
            return entries

        parts = [np.empty(0, dtype), *self._read(type_, read)]
        entries = np.concatenate(parts)[::-1]
        return entries[np.unique(entries[key], return_index=True)[1]]

    @cached_property
    def stacks(self) -> Mapping[int, StackFrames]:
        """The stacks that cycles name, by id."""
        tables = _StackTables()
        for _ in self._read(STACKS, tables.add):
            pass
        return tables.ids

    def __iter__(self) -> Iterator[Block]:
        for payload in self._file.payloads(CYCLES):
            try:
                block = Block(payload.data)
                if payload.at not in self._checked:
                    block.check()
                    self._checked.add(payload.at)
            except ValueError:
                self._file.leave_out(payload.at)
            else:
                yield block

    @cached_property
    def clocks(self) -> tuple[Clocks, ...]:
        """The clocks at the beginning, whenever a block was written, and at the end."""
        said = [_clocks(self.header["clock"])]
        said += (
            Clocks(block.last_ns, block.realtime_offset_ns, block.boottime_offset_ns)
            for block in self
        )
        if self.footer is not None:
            said.append(_clocks(self.footer["clock"]))
        return tuple(sorted(said))

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back, or leave that to the last array of a block that is in use."""
        self._file.close()


class _StackTables:
    """The strings, frames and stacks of all blocks, by number."""

    def __init__(self) -> None:
        self._strings: dict[int, str] = {}
        self._frames: dict[int, _Frame] = {}
        self._stacks: dict[int, StackFrames] = {}
        self.ids: dict[int, StackFrames] = {}

    def add(self, payload: memoryview) -> None:
        block = json.loads(bytes(payload))
        first = block["first"]
        self._strings.update(enumerate(map(_text, block["strings"]), _index(first["strings"])))
        for at, frame in enumerate(block["frames"], _index(first["frames"])):
            address, name, offset, module = map(int, frame)
            if not 0 <= address < 1 << 64:
                raise ValueError(f"no address: {address}")
            self._frames[at] = (
                address, self._strings.get(name), None if offset < 0 else offset,
                self._strings.get(module),
            )  # fmt: skip
        for at, (kernel, user, note) in enumerate(block["stacks"], _index(first["stacks"])):
            self._stacks[at] = self._stack(kernel, user, note)
        for id_, at in block["ids"]:
            if at in self._stacks:
                self.ids[_index(id_)] = self._stacks[at]

    def _stack(self, kernel: list[int], user: list[int], note: Optional[int]) -> StackFrames:
        # Up to a frame of a block that is missing: what comes after it was not called by it.
        some = [self._known(kernel), self._known(user)]
        why = None if note is None else self._strings.get(note)
        if [len(part) for part in some] != [len(kernel), len(user)]:
            why = "frames lost with a part of the recording"
        return StackFrames(some[0], some[1], why)

    def _known(self, numbers: list[int]) -> tuple[_Frame, ...]:
        known = []
        for number in numbers:
            if number not in self._frames:
                break
            known.append(self._frames[number])
        return tuple(known)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no string: {value!r}")
    return value


def _index(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"no index: {value!r}")
    return value


def _clocks(said: Mapping[str, int]) -> Clocks:
    now = said["monotonic_ns"]
    return Clocks(now, said["realtime_ns"] - now, said["boottime_ns"] - now)


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
