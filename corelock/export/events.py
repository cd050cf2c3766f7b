"""Events of probes as JSON, an object a line; ``docs/json.md`` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Optional, TextIO

from corelock.attaching import Coverage
from corelock.events import Event, EventAccounting
from corelock.export.counts import probe_fields
from corelock.export.fields import differing, target_fields, well_formed
from corelock.export.jsonout import frame_fields, user_frame_fields, write_object
from corelock.model import Frame, Host, Target

SCHEMA = "corelock.trace/1"


def write_event_json(
    stream: TextIO,
    event: Event,
    kernel: Optional[Sequence[Frame]],
    user: Optional[Sequence[Frame]],
    note: Optional[str],
) -> None:
    """One event; stacks that were not asked for are None, and left out."""
    members: dict[str, Any] = {
        "type": "event",
        "ts_ns": event.time_ns,
        "probe": well_formed(event.probe),
        "comm": well_formed(event.comm),
        "pid": event.pid,
        "tid": event.tid,
        **differing(host_pid=(event.host_pid, event.pid), host_tid=(event.host_tid, event.tid)),
        "cpu": event.cpu,
        "fields": dict(event.values),
    }
    if event.unread:
        members["unread"] = list(event.unread)
    if event.cut:
        members["cut"] = list(event.cut)
    if kernel is not None:
        members["kernel_stack"] = [frame_fields(frame) for frame in kernel]
    if user is not None:
        members["user_stack"] = [user_frame_fields(frame) for frame in user]
        members["user_stack_note"] = note
    write_object(stream, members.items())


def write_end_json(
    stream: TextIO,
    host: Host,
    target: Optional[Target],
    start_ns: int,
    end_ns: int,
    coverage: Coverage,
    accounting: EventAccounting,
    printed: int,
) -> None:
    """The last line: what was traced, and where every hit went."""
    write_object(
        stream,
        (
            ("type", "end"),
            ("schema", SCHEMA),
            ("host", asdict(host)),
            ("target", target_fields(target)),
            ("start_ns", start_ns),
            ("duration_ns", end_ns - start_ns),
            ("probes", probe_fields(coverage)),
            ("accounting", _accounting(accounting, printed)),
        ),
    )


def _accounting(accounting: EventAccounting, printed: int) -> dict[str, Any]:
    return {
        "hits": accounting.hits,
        "printed": printed,
        "filtered": accounting.filtered,
        "ring_full": sum(accounting.ring_full.values()),
        "after_last": accounting.taken - printed,
        "unaccounted": accounting.unaccounted,
        "missed": accounting.missed,
        "unread": accounting.unread,
        "self_hits": accounting.self_hits,
        "main_thread_ended": accounting.main_thread_ended,
        "ring_full_by_probe": {
            well_formed(label): count for label, count in accounting.ring_full.items()
        },
    }
