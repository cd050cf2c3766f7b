"""Blame as one JSON object on one line; ``docs/json.md`` describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

from corelock.blame import Charge, Contention, ResolvedBlame
from corelock.export.fields import cgroup_fields, identity_fields, target_fields
from corelock.export.jsonout import (
    accounting_fields,
    slow_fields,
    write_object,
)  # fmt: skip
from corelock.model import Report

SCHEMA = "corelock.blame/1"


def write_blame_json(stream: TextIO, report: Report) -> None:
    """Write the blame of ``report``, which has one, and a line end."""
    assert report.blame is not None
    write_object(stream, _members(report, report.blame))


def _members(report: Report, resolved: ResolvedBlame) -> Iterator[tuple[str, Any]]:
    yield "schema", SCHEMA
    yield "host", asdict(report.host)
    yield "target", target_fields(report.target)
    yield "cgroup", cgroup_fields(report.cgroup)
    yield "start_ns", report.start_ns
    yield "duration_ns", report.duration_ns
    yield from blame_members(resolved)
    yield "accounting", accounting_fields(report.accounting)


def blame_members(resolved: ResolvedBlame) -> Iterator[tuple[str, Any]]:
    """What is said of blame, here and within hold-times; long arrays are iterators."""
    blame = resolved.blame
    yield "wait_ns", blame.wait_ns
    yield "charged_ns", blame.charged_ns
    yield "unknown_ns", blame.unknown_ns
    yield "uncontended_ns", blame.uncontended_ns
    yield "unheld_ns", sum(each.unheld_ns for each in blame.contentions)
    yield "unaccounted_ns", blame.unaccounted_ns
    yield "missing_holds", blame.missing
    yield "waiters", map(_waiter, blame.contentions)
    yield "charges", map(_charge, blame.largest(0))
    yield "examples", map(slow_fields, resolved.examples.values())


def _waiter(contention: Contention) -> dict[str, Any]:
    return {
        **identity_fields(contention.row),
        "waits": contention.row.wait.count,
        "wait_ns": contention.row.wait.total_ns,
        "contended_waits": contention.waits,
        "contended_ns": contention.wait_ns,
        "unknown_ns": contention.unknown_ns,
        "unheld_ns": contention.unheld_ns,
    }


def _charge(charge: Charge) -> dict[str, Any]:
    return {
        "waiter": identity_fields(charge.waiter),
        "holder": {
            **identity_fields(charge.holder),
            "holds": charge.holder.holds,
            "longest_hold_ns": charge.holder.hold.max_ns,
        },
        "certainty": charge.certainty,
        "charged_ns": charge.charged_ns,
        "waits": charge.waits,
        "longest_ns": charge.longest_ns,
    }
