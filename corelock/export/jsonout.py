"""A report as one JSON object on one line; ``docs/json.md`` describes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Optional, TextIO

from corelock.export.fields import (
    cgroup_fields,
    host_fields,
    row_fields,
    target_fields,
    times_fields,
    well_formed,
)  # fmt: skip
from corelock.model import Accounting, Frame, Report, ResolvedSlowEvent, Row

SCHEMA = "corelock.hold-times/1"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def write_json(stream: TextIO, report: Report) -> None:
    """Write ``report`` and a line end, row by row: 40,000 rows make no giant string."""
    write_object(stream, (("schema", SCHEMA), *report_members(report)))


def write_object(stream: TextIO, members: Iterable[tuple[str, Any]]) -> None:
    """Write an object and a line end, member by member; a value may be an iterator of values."""
    opening = "{"
    for key, value in members:
        stream.write(f'{opening}"{key}":')
        if isinstance(value, Iterator):
            _write_array(stream, value)
        else:
            stream.write(_encode(value))
        opening = ","
    stream.write("}\n")


def hold_times_object(report: Report) -> dict[str, Any]:
    """What :func:`write_json` writes, as Python values."""
    return {key: plain(value) for key, value in (("schema", SCHEMA), *report_members(report))}


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value


def _write_array(stream: TextIO, values: Iterator[Any]) -> None:
    opening = "["
    for value in values:
        stream.write(opening + _encode(value))
        opening = ","
    stream.write("]" if opening == "," else "[]")


def report_members(report: Report) -> Iterator[tuple[str, Any]]:
    """What is said of a report, in order; an array that may be long is an iterator."""
    yield "host", asdict(report.host)
    yield "target", target_fields(report.target)
    yield "cgroup", cgroup_fields(report.cgroup)
    yield "start_ns", report.start_ns
    yield "duration_ns", report.duration_ns
    yield "rows", map(_row, report.rows)
    yield "slow", map(slow_fields, report.slow)
    if report.blame is not None:
        from corelock.export.blame import blame_members

        yield "blame", {key: plain(value) for key, value in blame_members(report.blame)}
    yield "accounting", accounting_fields(report.accounting)


def _row(row: Row) -> dict[str, Any]:
    times = {"wait_ns": times_fields(row.wait), "hold_ns": times_fields(row.hold)}
    return {**row_fields(row), **times}


def slow_fields(slow: ResolvedSlowEvent) -> dict[str, Any]:
    """A wait or hold with its stacks."""
    event = slow.event
    return {
        "kind": event.kind,
        "ts_ns": event.start_ns,
        "mm_pid": event.mm_pid,
        "pid": event.pid,
        "tid": event.tid,
        "comm": well_formed(event.comm),
        "foreign": event.foreign,
        "mode": event.mode,
        "operation": event.operation,
        **host_fields(event),
        "duration_ns": event.duration_ns,
        "kernel_stack": [frame_fields(frame) for frame in slow.kernel_stack],
        "user_stack": [user_frame_fields(frame) for frame in slow.user_stack],
    }


def frame_fields(frame: Frame) -> dict[str, Any]:
    """A frame in the kernel."""
    return {"name": _name(frame.name), "offset": frame.offset, "address": frame.address}


def user_frame_fields(frame: Frame) -> dict[str, Any]:
    """A frame in a program, or one of its libraries."""
    return {**frame_fields(frame), "module": _name(frame.module)}


def _name(name: Optional[str]) -> Optional[str]:
    return name and well_formed(name)


def accounting_fields(accounting: Optional[Accounting]) -> Optional[dict[str, Any]]:
    """Where every event went, None if that is not known."""
    if accounting is None:
        return None
    return {
        "events": dict(accounting.events),
        "paired": accounting.paired,
        "held_at_start": accounting.held_at_start,
        "held_at_end": accounting.held_at_end,
        "open_waits": accounting.open_waits,
        "unmatched": dict(accounting.unmatched),
        "lost": dict(accounting.lost),
        "slow_recorded": accounting.slow_recorded,
        "slow_lost": dict(accounting.slow_lost),
        "children_not_followed": accounting.children_not_followed,
        "hooks_missed": accounting.hooks_missed,
        "charges_full": accounting.charges_full,
        "self": accounting.self_events,
        "unaccounted": accounting.unaccounted,
        "attached_by": accounting.attached_by,
    }
