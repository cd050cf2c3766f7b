"""A second reader of recordings, written from docs/format.md alone: no numpy, nothing shared.

It is slow and trusting; it is there to be agreed with.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional


class ReadCycle(NamedTuple):
    end_ns: int
    wait_ns: int
    hold_ns: int
    row: int
    kind: int
    wait_stack: int
    hold_stack: int


@dataclass
class Contents:
    header: Optional[dict[str, Any]] = None
    footer: Optional[dict[str, Any]] = None
    processes: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    rows: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    cycles: list[ReadCycle] = field(default_factory=list)
    strings: dict[int, str] = field(default_factory=dict)
    frames: dict[int, list[int]] = field(default_factory=dict)
    stacks: dict[int, Any] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    corrupt: int = 0
    missing: int = 0
    skipped: int = 0

    def stack(self, id_: int) -> tuple[list[Any], list[Any], Optional[str]]:
        """Kernel and user frames, and why the user part ends."""
        kernel, user, note = self.stacks[self.ids[id_]]
        return (
            [self._frame(i) for i in kernel],
            [self._frame(i) for i in user],
            None if note is None else self.strings[note],
        )

    def _frame(self, number: int) -> tuple[Any, ...]:
        address, name, offset, module = self.frames[number]
        return (
            address,
            None if name < 0 else self.strings[name],
            None if offset < 0 else offset,
            None if module < 0 else self.strings[module],
        )


def read(data: bytes) -> Contents:
    """All that is in a file that begins as a recording of version 1."""
    magic, version, zero = struct.unpack_from("<8sII", data)
    assert (magic, version, zero) == (b"CORELOCK", 1, 0)
    contents = Contents()
    for type_, payload in _blocks(data, contents):
        if type_ == 1 and contents.header is None:
            contents.header = json.loads(payload)
        elif type_ == 2:
            for entry in struct.iter_unpack("<IIIIQ16s", payload):
                mm, pid, host_pid, _, start_ns, name = entry
                contents.processes[mm] = (pid, host_pid, start_ns, _name(name))
        elif type_ == 3:
            for entry in struct.iter_unpack("<10IQ16s", payload):
                number, *ids = entry[:9]
                contents.rows[number] = (*ids, entry[10], _name(entry[11]))
        elif type_ == 4:
            contents.cycles += _cycles(payload)
        elif type_ == 5:
            _stacks(json.loads(payload), contents)
        elif type_ == 6:
            contents.footer = json.loads(payload)
    return contents


def _name(raw: bytes) -> bytes:
    return raw.split(b"\0")[0]


def _blocks(data: bytes, contents: Contents) -> Iterator[tuple[int, bytes]]:
    at, expected = 16, 0
    while at < len(data):
        head = _head(data, at)
        if head is None:
            contents.skipped += min(8, len(data) - at)
            at += 8
            continue
        type_, length, sequence, crc = head
        payload = data[at + 24 : at + 24 + length]
        at += 24 + length + -length % 8
        if sequence < expected:
            contents.skipped += 24 + length + -length % 8
            continue
        contents.missing += sequence - expected
        expected = sequence + 1
        if zlib.crc32(payload) == crc:
            yield type_, payload
        else:
            contents.corrupt += 1


def _head(data: bytes, at: int) -> Optional[tuple[int, int, int, int]]:
    head = data[at : at + 24]
    if len(head) < 24 or not head.startswith(b"\x8bCLK") or at % 8:
        return None
    type_, _, length, sequence, crc, own = struct.unpack_from("<HHIIII", head, 4)
    if zlib.crc32(head[:20]) != own or at + 24 + length > len(data):
        return None
    return type_, length, sequence, crc


def _cycles(payload: bytes) -> Iterator[ReadCycle]:
    base, _, _, _, _, count, stacked, long = struct.unpack_from("<QQQqqIII", payload)
    at = 64

    def column(format_: str, many: int) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{many}{format_}", payload, at)
        at += struct.calcsize(f"<{many}{format_}")
        return values

    end, wait, hold, row = (column("I", count) for _ in range(4))
    kind = column("B", count)
    at += -at % 8
    index, wait_stack, hold_stack = (column("I", stacked) for _ in range(3))
    at += -at % 8
    long_wait, long_hold, long_index = column("Q", long), column("Q", long), column("I", long)
    at += -at % 8
    assert at == len(payload)
    stacks = dict(zip(index, zip(wait_stack, hold_stack)))
    times = dict(zip(long_index, zip(long_wait, long_hold)))
    for i in range(count):
        waited, held = times.get(i, (wait[i], hold[i]))
        yield ReadCycle(base + end[i], waited, held, row[i], kind[i], *stacks.get(i, (0, 0)))


def _stacks(block: dict[str, Any], contents: Contents) -> None:
    first = block["first"]
    contents.strings.update(enumerate(block["strings"], first["strings"]))
    contents.frames.update(enumerate(block["frames"], first["frames"]))
    contents.stacks.update(enumerate(block["stacks"], first["stacks"]))
    contents.ids.update(dict(block["ids"]))
