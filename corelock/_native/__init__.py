"""The only package that calls libcorelock: call, check, convert."""

from __future__ import annotations

from corelock._native.lock_reader import LockReader
from corelock._native.session import SLOW_BATCH_BYTES, Session, take_locks
from corelock._native.values import HostFacts, Options, RecordingStatus, SlowRecord

__all__ = [
    "HostFacts", "LockReader", "Options", "RecordingStatus", "SLOW_BATCH_BYTES", "Session",
    "SlowRecord", "take_locks",
]  # fmt: skip
