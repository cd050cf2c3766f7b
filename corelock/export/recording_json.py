"""Recordings as one JSON object on one line; ``docs/exports.md`` describes it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Optional, TextIO, Union

from corelock.analysis.batches import Progress
from corelock.analysis.blame import with_blame
from corelock.analysis.census import Census, take_census
from corelock.analysis.clocks import drift, wall_ns
from corelock.analysis.selection import Selection, When
from corelock.analysis.source import Source
from corelock.analysis.summary import summarize
from corelock.export.fields import well_formed
from corelock.export.jsonout import plain, report_members, write_object
from corelock.model import Report

BINARY = False

SCHEMA = "corelock.report/1"
#: Of waits, of holds, and of charges whose sides are shown with stacks.
SLOWEST = 20


def write(
    stream: TextIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
) -> None:
    """Write an object and a line end, a recording at a time."""
    write_object(stream, _members(sources, selection, progress))


def report_object(
    sources: Sequence[Source], selection: Selection, progress: Optional[Progress] = None
) -> dict[str, Any]:
    """What :func:`write` writes, as Python values."""
    return {key: plain(value) for key, value in _members(sources, selection, progress)}


def _members(
    sources: Sequence[Source], selection: Selection, progress: Optional[Progress]
) -> Iterator[tuple[str, Any]]:
    yield "schema", SCHEMA
    yield "selection", _chosen(selection)
    yield "recordings", _recordings(sources, selection, progress)


def _chosen(selection: Selection) -> dict[str, Any]:
    return {
        "from_ns": _offset(selection.from_ns),
        "to_ns": _offset(selection.to_ns),
        "pid": selection.pid,
        "tid": selection.tid,
        "operation": selection.operation,
        "min_ns": selection.min_ns,
    }


def _offset(when: Optional[When]) -> Union[int, str, None]:
    """Nanoseconds since a recording's start, or a time of day or date as it was given."""
    return when.isoformat() if isinstance(when, (datetime.time, datetime.datetime)) else when


def _recordings(
    sources: Sequence[Source], selection: Selection, progress: Optional[Progress]
) -> Iterator[dict[str, Any]]:
    for each in sources:
        for source, report in summarize([each], selection, progress, slowest=SLOWEST):
            census = take_census(source)
            blamed = with_blame(source, report, selection, census, progress, stacks=SLOWEST)
            yield dict(_recording(source, blamed, census))


def _recording(source: Source, report: Report, census: Census) -> Iterator[tuple[str, Any]]:
    header = source.recording.header
    yield "label", well_formed(source.label)
    yield "id", header["id"]
    yield "command", header.get("command")
    yield "slow_ns", header.get("slow_ns")
    yield "start_wall_ns", wall_ns(source, report.start_ns)
    yield (
        "recorded",
        {
            "start_ns": source.start_ns,
            "duration_ns": source.duration_ns,
            "ended_by": (source.recording.footer or {}).get("ended_by"),
            **drift(source)._asdict(),
        },
    )
    yield "damage", asdict(census.damage)
    yield (
        "cycles",
        {
            "read": census.read,
            "nameless": census.nameless,
            "written": census.written,
            "lost": dict(census.lost),
            "stacks_lost": dict(census.stacks_lost),
            "unaccounted": census.unaccounted,
        },
    )
    for key, value in report_members(report):
        yield key, plain(value)
