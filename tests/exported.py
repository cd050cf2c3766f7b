"""What exports of a recording should add up to, worked out from the cycles it was made of."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from corelock.analysis.selection import Selection
from corelock.analysis.source import Source, open_sources
from corelock.export.recordings import format_named
from tests.recordings import Cycle

RELEASED, DOWNGRADED, FAILED, ABORTED, HOLDING, WAITING = range(6)
ALL = Selection()


def waits(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Those that waited and got the lock."""
    got = (RELEASED, DOWNGRADED, HOLDING)
    return [c for c in cycles if c.kind & 7 in got and not c.kind & 8]


def holds(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Those that gave the lock back."""
    return [c for c in cycles if c.kind & 7 in (RELEASED, DOWNGRADED)]


def totals(cycles: Sequence[Cycle], key: Callable[[Cycle], Any], what: str) -> dict[Any, int]:
    """Their wait or hold times by some key, without those that are 0."""
    sums: Counter[Any] = Counter()
    for cycle in waits(cycles) if what == "wait" else holds(cycles):
        sums[key(cycle)] += cycle.wait_ns if what == "wait" else cycle.hold_ns
    return {at: total for at, total in sums.items() if total}


def exported(
    format_: str, *paths: Path, selection: Selection = ALL, **options: Any
) -> tuple[Any, list[Source]]:
    """What a format makes of recordings, as text or bytes; and these, still open."""
    sources = open_sources(paths)
    chosen = format_named(format_)
    stream: Any = io.BytesIO() if chosen.BINARY else io.StringIO(newline="")
    chosen.write(stream, sources, selection, **options)
    return stream.getvalue(), sources
