"""The longest cycles of recordings, for what can show only so many of them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source

CYCLE_TYPE = np.dtype(
    [
        ("end_ns", "u8"), ("wait_ns", "u8"), ("hold_ns", "u8"), ("number", "u8"), ("row", "u4"),
        ("wait_stack", "u4"), ("hold_stack", "u4"), ("kind", "u1"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Timeline:
    """Single cycles of some recordings: an array of ``CYCLE_TYPE`` for each, in no order.

    ``left_out`` cycles are not among them, ``longest_left_out_ns`` is the longest of these, its
    wait and its hold together; both 0 if all are here.
    """

    cycles: tuple[Any, ...]
    left_out: int
    longest_left_out_ns: int


def longest_cycles(
    sources: Sequence[Source],
    selection: Selection,
    most: int,
    progress: Optional[Progress] = None,
) -> Timeline:
    """Of all chosen cycles the ``most`` that took longest, wait and hold together."""
    kept = [np.empty(0, CYCLE_TYPE) for _ in sources]
    count = longest = 0
    for at, source in enumerate(sources):
        parts, pending = [kept[at]], 0
        for batch in batches(source, selection, progress):
            count += len(batch)
            parts.append(_cycles(batch))
            pending += len(batch)
            if pending > most:
                kept[at] = np.concatenate(parts)
                longest = max(longest, _drop_shortest(kept, most))
                parts, pending = [kept[at]], 0
        kept[at] = np.concatenate(parts)
        longest = max(longest, _drop_shortest(kept, most))
    return Timeline(tuple(kept), count - sum(map(len, kept)), longest)


def _cycles(batch: Batch) -> Any:
    cycles = np.zeros(len(batch), CYCLE_TYPE)
    for name in ("end_ns", "wait_ns", "hold_ns", "number", "row", "kind"):
        cycles[name] = getattr(batch, name)
    cycles["wait_stack"][batch.stacked] = batch.wait_stack
    cycles["hold_stack"][batch.stacked] = batch.hold_stack
    return cycles


def _drop_shortest(kept: list[Any], most: int) -> int:
    """Keep ``most`` cycles in all; returns the length of the longest that was dropped, or 0."""
    lengths = [cycles["wait_ns"] + cycles["hold_ns"] for cycles in kept]
    together = np.concatenate(lengths)
    over = len(together) - most
    if over <= 0:
        return 0
    order = np.argpartition(together, over - 1)
    stays = np.ones(len(together), bool)
    stays[order[:over]] = False
    at = 0
    for i, cycles in enumerate(kept):
        kept[i] = cycles[stays[at : at + len(cycles)]]
        at += len(cycles)
    return int(together[order[over - 1]])
