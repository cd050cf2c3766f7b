"""A comparison of two recordings as one JSON object on one line; ``docs/diff.md`` describes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from corelock.export.fields import well_formed
from corelock.export.jsonout import write_object

if TYPE_CHECKING:
    from corelock.analysis.compare import Change, Comparison
    from corelock.render.diff import Side

SCHEMA = "corelock.diff/1"


def write_diff_json(stream: TextIO, sides: Sequence[Side], comparison: Comparison) -> None:
    """Write a comparison and a line end."""
    write_object(stream, _members(sides, comparison))


def _members(sides: Sequence[Side], comparison: Comparison) -> Iterator[tuple[str, Any]]:
    from corelock.analysis.evidence import LEVEL, PERMUTATIONS

    yield "schema", SCHEMA
    for name, side, census, slices in zip(
        ("before", "after"), sides, comparison.censuses, comparison.slices
    ):
        yield (
            name,
            {
                "file": well_formed(side.path),
                "host": well_formed(side.label),
                "duration_ns": side.duration_ns,
                "cycles": census.read,
                "lost": dict(census.lost),
                "unread": census.unread,
                "damaged": bool(census.damage),
                "slices": slices,
            },
        )
    yield (
        "judged",
        {
            "slice_ns": comparison.slice_ns,
            "permutations": PERMUTATIONS,
            "level": LEVEL,
            "figures": comparison.comparisons,
            "why_not": comparison.unjudged,
        },
    )
    yield "changes", map(_change, comparison.changes)


def _change(change: Change) -> dict[str, Any]:
    names = ("process", "thread", "operation")
    of = {name: getattr(change, name) for name in names}
    return {
        **{name: value and well_formed(value) for name, value in of.items()},
        "mode": change.mode,
        "kind": change.kind,
        "before": asdict(change.before),
        "after": asdict(change.after),
        "p": dict(change.p_values),
        "verdict": {figure: change.verdict(figure) for figure in change.p_values},
    }
