"""One of perf's counters: what another tool sees of an event while ours is attached."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

_NUMBERS = {"x86_64": 298, "aarch64": 241}
_TRACEPOINT = 2
_ATTR_BYTES = 128


@contextmanager
def counted(category: str, event: str, tid: int) -> Iterator[Callable[[], int]]:
    """How often a tracepoint was hit by a thread, as perf counts it: call what is yielded."""
    number = int(Path(f"/sys/kernel/tracing/events/{category}/{event}/id").read_text())
    # type, size, config, period, sample_type, read_format, flags
    attr = struct.pack("=IIQQQQQ", _TRACEPOINT, _ATTR_BYTES, number, 0, 0, 0, 0)
    raw = ctypes.create_string_buffer(attr.ljust(_ATTR_BYTES, b"\0"))
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    fd = syscall(_NUMBERS[platform.machine()], raw, tid, -1, -1, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    try:
        yield lambda: int.from_bytes(os.read(fd, 8), "little")
    finally:
        os.close(fd)
