"""The first and the last block of a recording, and what it came to."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Optional

from corelock._native import RecordingStatus
from corelock.export.fields import cgroup_fields, target_fields, well_formed
from corelock.export.jsonout import accounting_fields
from corelock.model import Accounting, Cgroup, Host, Target
from corelock.version import VERSION

#: What can end a recording.
EndedBy = Literal["duration", "signal", "target_exit", "max_size", "no_space", "error", "stop"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class RecordingResult:
    """What a recording came to.

    ``cycles`` are in the file, which has ``bytes``. Of the ``cycles_lost``, ``ring_full`` came
    faster than they could be written, ``not_written`` came when the file could not be written
    on. ``stacks`` is how many ids of stacks are in the file, ``stacks_lost`` how many stacks are
    not, by cause. ``error`` is why the file could not be written on, None if it could.
    """

    ended_by: EndedBy
    duration_ns: int
    bytes: int
    cycles: int
    cycles_lost: dict[str, int]
    stacks: int
    stacks_lost: dict[str, int]
    error: Optional[str]

    @property
    def complete(self) -> bool:
        """Whether every cycle and every stack is in the file."""
        return not (any(self.cycles_lost.values()) or any(self.stacks_lost.values()) or self.error)


def result_of(
    status: RecordingStatus,
    accounting: Accounting,
    stacks: int,
    duration_ns: int,
    ended_by: EndedBy,
) -> RecordingResult:
    """What a recording that has ended came to, but for its last blocks."""
    return RecordingResult(
        ended_by=_ended_by(status, ended_by),
        duration_ns=duration_ns,
        bytes=status.bytes,
        cycles=status.cycles,
        cycles_lost={"ring_full": accounting.cycles_lost, "not_written": status.not_written},
        stacks=stacks,
        stacks_lost={**accounting.slow_lost, "table_full": accounting.stacks_full},
        error=os.strerror(status.sys_errno) if status.sys_errno else None,
    )


def _ended_by(status: RecordingStatus, given: EndedBy) -> EndedBy:
    if status.full:
        return "max_size"
    if status.sys_errno:
        return "no_space" if status.sys_errno in _NO_SPACE else "error"
    return given


def header(
    *,
    start_ns: int,
    boot_id: str,
    target: Optional[Target],
    cgroup: Optional[Cgroup],
    command: Sequence[str],
    attached_by: str,
    slow_ns: Optional[int],
) -> bytes:
    """The header, as ``docs/format.md`` has it, of this host and moment."""
    return _as_json(
        {
            "format": "corelock recording",
            "corelock": VERSION,
            "id": uuid.uuid4().hex,
            "start_ns": start_ns,
            "clock": _clocks(),
            "host": {**asdict(Host.this()), "boot_id": boot_id},
            "target": target_fields(target),
            "cgroup": cgroup_fields(cgroup),
            "command": [well_formed(word) for word in command] or None,
            "attached_by": attached_by,
            "slow_ns": slow_ns,
        }
    )


def footer(
    result: RecordingResult, end_ns: int, totals: dict[str, int], accounting: Accounting
) -> bytes:
    """The footer; ``totals`` is what the kernel counted apart from the cycles."""
    return _as_json(
        {
            "end_ns": end_ns,
            "clock": _clocks(),
            "ended_by": result.ended_by,
            "cycles": {"written": result.cycles, "lost": result.cycles_lost},
            "stacks": {"ids": result.stacks, "lost": result.stacks_lost},
            "totals": totals,
            "accounting": accounting_fields(accounting),
        }
    )


def _as_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _clocks() -> dict[str, int]:
    """What the clocks say, as near to one moment as can be."""
    return {
        "monotonic_ns": time.monotonic_ns(),
        "realtime_ns": time.time_ns(),
        "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }
