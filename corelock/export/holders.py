"""Who holds which lock now as one JSON object on one line; ``docs/json.md`` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Optional, TextIO

from corelock.export.fields import differing, process_fields, target_fields, well_formed
from corelock.locks import HoldersReport, LockThread, SeenLock

SCHEMA = "corelock.holders/1"


def write_holders_json(stream: TextIO, report: HoldersReport) -> None:
    """Write ``report`` and a line end."""
    json.dump(holders_object(report), stream, separators=(",", ":"), allow_nan=False)
    stream.write("\n")


def holders_object(report: HoldersReport) -> dict[str, Any]:
    """What :func:`write_holders_json` writes, as Python values."""
    snapshot = report.snapshot
    return {
        "schema": SCHEMA,
        "host": asdict(report.host),
        "target": target_fields(report.target),
        "taken_ns": snapshot.taken_ns,
        "longer_than_ns": report.longer_than_ns,
        "mms": snapshot.mms,
        "tasks": snapshot.tasks,
        "self_mms": snapshot.self_mms,
        "not_kept": snapshot.not_kept,
        "whole_host": snapshot.whole_host,
        "locks": [_lock(seen, report) for seen in report.locks],
    }


def _lock(seen: SeenLock, report: HoldersReport) -> dict[str, Any]:
    lock = seen.lock
    return {
        "processes": [process_fields(p.pid, p.comm, p.host_pid) for p in lock.processes],
        "taken_ns": lock.taken_ns,
        "mode": lock.mode,
        "readers": lock.readers,
        "holder": {
            "certainty": lock.holder.certainty,
            "thread": _thread(lock.holder.thread, report),
        },
        "foreign": lock.foreign,
        "held_ns": seen.held_ns,
        "samples": seen.samples,
        "same_hold": seen.same_hold,
        "waiter_count": lock.waiter_count,
        "waiters_counted": lock.waiters_counted,
        "waiters": [
            {"mode": waiter.mode, "thread": _thread(waiter.thread, report)}
            for waiter in lock.waiters
        ],
        "consistent": lock.consistent,
    }


def _thread(thread: Optional[LockThread], report: HoldersReport) -> Optional[dict[str, Any]]:
    if thread is None:
        return None
    frames = report.symbols.get(thread.kernel_stack, ())
    return {
        "pid": thread.pid,
        "tid": thread.tid,
        **differing(host_pid=(thread.host_pid, thread.pid), host_tid=(thread.host_tid, thread.tid)),
        "comm": well_formed(thread.comm),
        "start_ns": thread.start_ns,
        "operation": thread.operation,
        "running": thread.running,
        "kernel_stack": [
            {"name": frame.name, "offset": frame.offset, "address": frame.address}
            for frame in frames
        ],
    }
