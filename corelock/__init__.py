"""corelock: who waits for mmap_lock, who holds it, for how long, doing what."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from corelock.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from corelock.aio import AsyncTracer
    from corelock.attaching import Coverage
    from corelock.blame import Blame, Charge, Contention
    from corelock.checks import doctor
    from corelock.counter import HitCounter, Hits
    from corelock.diagnosis import Check, Diagnosis
    from corelock.distribution import Bucket, Distribution
    from corelock.errors import (
        CommandError,
        CorelockError,
        InvalidArgument,
        LibraryError,
        LoadError,
        MissingPrivilege,
        NoSuchProbe,
        NoSuchTarget,
        Unsupported,
    )
    from corelock.events import Event, EventAccounting, EventTrace
    from corelock.histogram import Histogram
    from corelock.histograms import Histograms
    from corelock.locks import (
        Holder,
        HoldersSnapshot,
        LockState,
        LockThread,
        Process,
        SeenLock,
        Waiter,
    )
    from corelock.measured import HistogramsSnapshot, Measured
    from corelock.model import Accounting, Cgroup, Row, SlowEvent, Snapshot, Times
    from corelock.recordblocks import RecordingResult
    from corelock.recorder import Recorder, record
    from corelock.recording import NotARecording, Recording, open_recording
    from corelock.sampler import HolderSampler, HoldWatch, holders
    from corelock.tracer import Tracer

__all__ = [
    "Accounting", "AsyncTracer", "Blame", "Bucket", "Cgroup", "Charge", "Check", "CommandError",
    "Contention", "CorelockError", "Coverage", "Diagnosis", "Distribution", "Event",
    "EventAccounting", "EventTrace", "Histogram", "Histograms", "HistogramsSnapshot", "HitCounter",
    "Hits", "HoldWatch", "Holder", "HolderSampler", "HoldersSnapshot", "InvalidArgument",
    "LibraryError", "LoadError", "LockState", "LockThread", "Measured", "MissingPrivilege",
    "NoSuchProbe", "NoSuchTarget", "NotARecording", "Process", "Recorder", "Recording",
    "RecordingResult", "Row", "SeenLock", "SlowEvent", "Snapshot", "Times", "Tracer", "Unsupported",
    "Waiter", "doctor", "holders", "open_recording", "record",
]  # fmt: skip

#: By module, what is imported from it on first use: nobody pays for what they do not need.
_NAMES = {
    "aio": ("AsyncTracer",),
    "blame": ("Blame", "Charge", "Contention"),
    "attaching": ("Coverage",),
    "checks": ("doctor",),
    "counter": ("HitCounter", "Hits"),
    "diagnosis": ("Check", "Diagnosis"),
    "events": ("Event", "EventAccounting", "EventTrace"),
    "errors": (
        "CommandError", "CorelockError", "InvalidArgument", "LibraryError", "LoadError",
        "MissingPrivilege", "NoSuchProbe", "NoSuchTarget", "Unsupported",
    ),
    "distribution": ("Bucket", "Distribution"),
    "histogram": ("Histogram",),
    "histograms": ("Histograms",),
    "locks": (
        "Holder", "HoldersSnapshot", "LockState", "LockThread", "Process", "SeenLock", "Waiter",
    ),
    "measured": ("HistogramsSnapshot", "Measured"),
    "model": ("Accounting", "Cgroup", "Row", "SlowEvent", "Snapshot", "Times"),
    "recordblocks": ("RecordingResult",),
    "recorder": ("Recorder", "record"),
    "recording": ("NotARecording", "Recording", "open_recording"),
    "sampler": ("HoldWatch", "HolderSampler", "holders"),
    "tracer": ("Tracer",),
}  # fmt: skip
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"corelock.{_MODULES[name]}"), name)
    globals()[name] = found  # once: from here on Python finds it by itself
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
