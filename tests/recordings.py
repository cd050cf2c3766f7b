"""Recordings made by hand, by docs/format.md: for tests of what reads them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

LONG = 0xFFFFFFFF
START_NS = 5_000_000_000_000
#: Of the wall clock and of the monotonic one. The host was never suspended.
REALTIME_OFFSET_NS = 1_750_000_000_000_000_000


@dataclass(frozen=True)
class Cycle:
    """One cycle. Times in ns; ``end_ns`` counts from ``START_NS``."""

    row: int
    end_ns: int
    wait_ns: int = 0
    hold_ns: int = 0
    kind: int = 0
    wait_stack: int = 0
    hold_stack: int = 0


def file_head(version: int = 1) -> bytes:
    return b"CORELOCK" + struct.pack("<II", version, 0)


def block(type_: int, sequence: int, payload: bytes) -> bytes:
    head = struct.pack(
        "<4sHHIII", b"\x8bCLK", type_, 0, len(payload), sequence, zlib.crc32(payload)
    )
    return head + struct.pack("<I", zlib.crc32(head)) + padded(payload)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def process(
    mm: int, pid: int, comm: str, host_pid: Optional[int] = None, start_ns: int = 1
) -> bytes:
    host_pid = pid if host_pid is None else host_pid
    return struct.pack("<IIIIQ16s", mm, pid, host_pid, 0, start_ns, comm.encode())


def row(
    row: int, mm: int, thread: int, pid: int, tid: int, comm: str, operation: int, mode: int,
    host_pid: Optional[int] = None, host_tid: Optional[int] = None, named_ns: int = 1,
) -> bytes:  # fmt: skip
    host_pid = pid if host_pid is None else host_pid
    host_tid = tid if host_tid is None else host_tid
    return struct.pack(
        "<10IQ16s", row, mm, thread, pid, tid, host_pid, host_tid, operation, mode, 0, named_ns,
        comm.encode(),
    )  # fmt: skip


def cycles(
    some: Sequence[Cycle], realtime_offset_ns: int = REALTIME_OFFSET_NS, boottime_offset_ns: int = 0
) -> bytes:
    ends = [START_NS + c.end_ns for c in some]
    base = min(ends)
    stacked = [i for i, c in enumerate(some) if c.wait_stack or c.hold_stack]
    long = [i for i, c in enumerate(some) if max(c.wait_ns, c.hold_ns) >= LONG]

    def column(format_: str, values: Iterable[int]) -> bytes:
        listed = list(values)
        return struct.pack(f"<{len(listed)}{format_}", *listed)

    return (
        struct.pack(
            "<QQQqqIII12x", base, base, max(ends), realtime_offset_ns, boottime_offset_ns,
            len(some), len(stacked), len(long),
        )
        + column("I", (end - base for end in ends))
        + column("I", (min(c.wait_ns, LONG) for c in some))
        + column("I", (min(c.hold_ns, LONG) for c in some))
        + column("I", (c.row for c in some))
        + padded(column("B", (c.kind for c in some)))
        + padded(
            column("I", stacked)
            + column("I", (some[i].wait_stack for i in stacked))
            + column("I", (some[i].hold_stack for i in stacked))
        )
        + column("Q", (some[i].wait_ns for i in long))
        + column("Q", (some[i].hold_ns for i in long))
        + padded(column("I", long))
    )  # fmt: skip


def as_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def clock(at_ns: int, realtime_offset_ns: int = REALTIME_OFFSET_NS) -> dict[str, int]:
    """Three clocks at a moment; ``at_ns`` counts from ``START_NS``."""
    now = START_NS + at_ns
    return {
        "monotonic_ns": now, "realtime_ns": now + realtime_offset_ns, "boottime_ns": now,
    }  # fmt: skip


def header(**more: Any) -> dict[str, Any]:
    return {
        "format": "corelock recording",
        "corelock": "0.1.0",
        "id": "0" * 32,
        "start_ns": START_NS,
        "clock": clock(0),
        "host": {"kernel": "6.18.44", "arch": "x86_64", "hostname": "db7", "boot_id": "b" * 36},
        "target": {"pid": 4021, "comm": "postgres"},
        "cgroup": None,
        "command": None,
        "attached_by": "tp_btf",
        "slow_ns": 100_000,
        **more,
    }


def footer(written: int, end_ns: int, **more: Any) -> dict[str, Any]:
    """As if nothing had been lost. ``end_ns`` counts from ``START_NS``."""
    return {
        "end_ns": START_NS + end_ns,
        "clock": clock(end_ns),
        "ended_by": "duration",
        "cycles": {"written": written, "lost": {"ring_full": 0, "not_written": 0}},
        "stacks": {"ids": 0, "lost": {"ring_full": 0, "stack_failed": 0, "table_full": 0}},
        "totals": {"waits": written, "holds": written, "downgrades": 0, "failures": 0},
        "accounting": {
            "events": {
                "start_locking": written, "acquire_returned": written, "released": written,
            },
            "paired": 3 * written, "held_at_start": 0, "held_at_end": 0, "open_waits": 0,
            "unmatched": {}, "lost": {}, "slow_recorded": 0, "slow_lost": {},
            "children_not_followed": 0, "hooks_missed": 0, "charges_full": 0, "self": 0,
            "unaccounted": 0, "attached_by": "tp_btf",
        },
        **more,
    }  # fmt: skip


def write(path: Path, blocks: Iterable[tuple[int, bytes]], version: int = 1) -> Path:
    """A file of blocks, each its type and payload."""
    path.write_bytes(contents(blocks, version))
    return path


def contents(blocks: Iterable[tuple[int, bytes]], version: int = 1) -> bytes:
    """The bytes of such a file."""
    numbered = (block(type_, at, payload) for at, (type_, payload) in enumerate(blocks))
    return file_head(version) + b"".join(numbered)


@dataclass(frozen=True)
class Plan:
    """What a recording is to be made of; see ``blocks``. ``ends`` is with a footer."""

    processes: Sequence[bytes]
    rows: Sequence[bytes]
    cycles: Sequence[Sequence[Cycle]]
    stacks: Sequence[Mapping[str, Any]] = ()
    ends: bool = True

    @property
    def all_cycles(self) -> list[Cycle]:
        return [cycle for some in self.cycles for cycle in some]

    def blocks(self, **more: Any) -> list[tuple[int, bytes]]:
        """Types and payloads; ``more`` are members of the header."""
        made = [
            (1, as_json(header(**more))), (2, b"".join(self.processes)), (3, b"".join(self.rows)),
            *((4, cycles(some)) for some in self.cycles),
            *((5, as_json(some)) for some in self.stacks),
        ]  # fmt: skip
        if self.ends:
            made.append((6, as_json(fitting_footer(self.all_cycles))))
        return made

    def write(self, path: Path, **more: Any) -> Path:
        """The recording as a file."""
        return write(path, self.blocks(**more))


def fitting_footer(some: Sequence[Cycle], **more: Any) -> dict[str, Any]:
    """A footer whose totals are those of the cycles."""
    ended = [c for c in some if c.kind & 7 in (0, 1)]
    failed = [c for c in some if c.kind & 7 in (2, 3)]
    got = [c for c in some if c.kind & 7 in (0, 1, 4) and not c.kind & 8]
    totals = {
        "waits": len(got), "holds": len(ended), "failures": len(failed),
        "downgrades": sum(c.kind & 7 == 1 for c in some),
    }  # fmt: skip
    last = max((c.end_ns for c in some), default=0)
    return footer(len(some), last, **{"totals": totals, **more})
