"""corelock: who waits for mmap_lock, who holds it, for how long, doing what."""

from __future__ import annotations

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
from corelock.model import Accounting, Row, SlowEvent, Snapshot, Times
from corelock.tracer import Tracer
from corelock.version import VERSION

__version__ = VERSION

__all__ = [
    "Accounting", "CommandError", "CorelockError", "Histogram", "InvalidArgument", "LibraryError",
    "LoadError", "MissingPrivilege", "NoSuchTarget", "Row", "SlowEvent", "Snapshot", "Times",
    "Tracer", "Unsupported",
]  # fmt: skip
