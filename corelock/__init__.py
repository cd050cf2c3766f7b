"""corelock: who waits for mmap_lock, who holds it, for how long, doing what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corelock.errors import (
    CommandError,
    CorelockError,
    InvalidArgument,
    LibraryError,
    LoadError,
    MissingPrivilege,
    NoSuchTarget,
    Unsupported,
)
from corelock.histogram import Histogram
from corelock.model import Accounting, Cgroup, Row, SlowEvent, Snapshot, Times
from corelock.tracer import Tracer
from corelock.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from corelock.blame import Blame, Charge, Contention
    from corelock.checks import doctor
    from corelock.diagnosis import Check, Diagnosis
    from corelock.locks import (
        Holder,
        HoldersSnapshot,
        LockState,
        LockThread,
        Process,
        SeenLock,
        Waiter,
    )
    from corelock.recorder import Recorder, RecordingResult, record
    from corelock.recording import NotARecording, Recording, open_recording
    from corelock.sampler import HolderSampler, holders

__all__ = [
    "Accounting", "Blame", "Cgroup", "Charge", "Check", "CommandError", "Contention",
    "CorelockError", "Diagnosis", "Histogram", "Holder", "HolderSampler", "HoldersSnapshot",
    "InvalidArgument", "LibraryError", "LoadError", "LockState", "LockThread", "MissingPrivilege",
    "NoSuchTarget", "NotARecording", "Process", "Recorder", "Recording", "RecordingResult", "Row",
    "SeenLock", "SlowEvent", "Snapshot", "Times", "Tracer", "Unsupported", "Waiter", "doctor",
    "holders", "open_recording", "record",
]  # fmt: skip

_IN_LOCKS = (
    "Holder", "HoldersSnapshot", "LockState", "LockThread", "Process", "SeenLock", "Waiter",
)  # fmt: skip


def __getattr__(name: str) -> object:
    """Imported on first use: tracing does not pay for what it does not need."""
    if name in ("Blame", "Charge", "Contention"):
        from corelock import blame

        return getattr(blame, name)
    if name in ("Check", "Diagnosis"):
        from corelock import diagnosis

        return getattr(diagnosis, name)
    if name == "doctor":
        from corelock import checks

        return checks.doctor
    if name in _IN_LOCKS:
        from corelock import locks

        return getattr(locks, name)
    if name in ("Recorder", "RecordingResult", "record"):
        from corelock import recorder

        return getattr(recorder, name)
    if name in ("NotARecording", "Recording", "open_recording"):
        from corelock import recording

        return getattr(recording, name)
    if name in ("HolderSampler", "holders"):
        from corelock import sampler

        return getattr(sampler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
