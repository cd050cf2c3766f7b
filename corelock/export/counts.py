"""Counts of hits as JSON; ``docs/json.md`` describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Optional, TextIO

from corelock.attaching import Coverage
from corelock.counter import Hits
from corelock.export.fields import target_fields, well_formed
from corelock.export.jsonout import write_object
from corelock.model import Host, Target

SCHEMA = "corelock.count/1"


def write_counts_json(
    stream: TextIO, host: Host, target: Optional[Target], hits: Hits, coverage: Coverage
) -> None:
    """Write one object and a line end."""
    write_object(stream, _members(host, target, hits, coverage))


def _members(
    host: Host, target: Optional[Target], hits: Hits, coverage: Coverage
) -> Iterator[tuple[str, Any]]:
    yield "schema", SCHEMA
    yield "host", asdict(host)
    yield "target", target_fields(target)
    yield "start_ns", hits.start_ns
    yield "duration_ns", hits.duration_ns
    yield "counts", ({"name": well_formed(n), "count": c} for n, c in hits.counts.items() if c)
    yield "probes", probe_fields(coverage)
    yield "self_hits", hits.self_hits
    yield "missed", hits.missed
    yield "main_thread_ended", hits.main_thread_ended


def probe_fields(coverage: Coverage) -> dict[str, Any]:
    """What is attached to and how, and what is not and why."""
    return {
        "attached": {way.lower(): count for way, count in coverage.ways.items()},
        "refused": {
            reason: [well_formed(label) for label in labels]
            for reason, labels in coverage.refused.items()
        },
    }
