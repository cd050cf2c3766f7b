"""What goes to the library and comes from it, but for what ``corelock.model`` has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.model import SlowEvent


@dataclass(frozen=True)
class Options:
    """``struct corelock_options``; see ``corelock.h`` for units and defaults."""

    target: str = "ALL"
    target_id: int = 0
    target_comm: bytes = b""
    cgroup_id: int = 0
    follow: bool = False
    self_tgid: int = 0
    slow_ns: Optional[int] = None
    max_rows: int = 0
    max_mms: int = 0
    ring_bytes: int = 0
    intervals: bool = False
    charges: bool = False
    examples: bool = True
    record: bool = False
    cycle_ring_bytes: int = 0
    attach: str = "ANY"
    btf: Optional[str] = None


@dataclass(frozen=True)
class HostFacts:
    """``struct corelock_host``; ``jit`` None: not known."""

    capabilities: int
    memcg_path: bool
    jit: Optional[bool]


@dataclass(frozen=True)
class RecordingStatus:
    """``struct corelock_recording``; ``ended_ns`` None: it goes on, or was ended by us."""

    bytes: int
    cycles: int
    not_written: int
    ended_ns: Optional[int]
    sys_errno: int
    full: bool


class SlowRecord(NamedTuple):
    """A slow event, the index of its row, and the id of its stacks if cycles are recorded."""

    row: int
    stack: int
    event: SlowEvent
