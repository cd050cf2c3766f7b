"""Histograms of events as JSON; ``docs/json.md`` describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Optional, TextIO

from corelock.distribution import Distribution
from corelock.export.fields import target_fields, well_formed
from corelock.export.jsonout import write_object
from corelock.measured import HistAccounting, HistogramsSnapshot, Measured
from corelock.model import Host, Target
from corelock.probes.measures import Measure

SCHEMA = "corelock.hist/1"


def write_hist_json(
    stream: TextIO, host: Host, target: Optional[Target], snapshot: HistogramsSnapshot
) -> None:
    """Write one object and a line end."""
    write_object(stream, _members(host, target, snapshot))


def _members(
    host: Host, target: Optional[Target], snapshot: HistogramsSnapshot
) -> Iterator[tuple[str, Any]]:
    yield "schema", SCHEMA
    yield "host", asdict(host)
    yield "target", target_fields(target)
    yield "start_ns", snapshot.start_ns
    yield "duration_ns", snapshot.duration_ns
    yield (
        "histograms",
        (
            {
                **_measure_fields(measured.measure),
                "key": {
                    name: well_formed(part) if isinstance(part, str) else part
                    for name, part in zip(snapshot.by, key)
                },
                **_distribution_fields(distribution),
            }
            for measured in snapshot.measures
            for key, distribution in measured.histograms.items()
        ),
    )
    yield "accounting", map(_accounting_fields, snapshot.measures)
    yield "self_hits", snapshot.self_hits
    yield "missed", snapshot.missed
    yield "faults", snapshot.faults


def _measure_fields(measure: Measure) -> dict[str, Any]:
    return {
        "event": measure.event,
        "field": measure.field or None,
        "start_event": measure.start or None,
        "unit": measure.unit or None,
    }


def _distribution_fields(distribution: Distribution) -> dict[str, Any]:
    p50, p99 = distribution.quantiles(0.5, 0.99)
    return {
        "count": distribution.count,
        "sum": distribution.sum,
        "mean": distribution.mean,
        "p50": p50,
        "p99": p99,
        "min": distribution.min,
        "max": distribution.max,
        "lost": distribution.lost,
        "buckets": [asdict(bucket) for bucket in distribution.buckets],
    }


def _accounting_fields(measured: Measured) -> dict[str, Any]:
    one = measured.accounting
    fields = {
        **_measure_fields(measured.measure),
        "seen": one.seen,
        "counted": one.counted,
        "filtered": one.filtered,
        "lost": dict(one.lost),
        "unaccounted": one.unaccounted,
    }
    return {**fields, **_start_fields(one)} if measured.measure.start else fields


def _start_fields(one: HistAccounting) -> dict[str, Any]:
    return {
        "without_start": one.without_start,
        "starts": {
            "seen": one.starts_seen,
            "ended": one.starts_ended,
            "replaced": one.starts_replaced,
            "lost": one.starts_lost,
            "open": one.starts_open,
        },
    }
