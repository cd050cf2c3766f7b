"""The longest cycles of recordings, for what can show only so many of them one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.longest import Longest
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source

CYCLE_TYPE = np.dtype(
    [
        ("end_ns", "u8"), ("wait_ns", "u8"), ("hold_ns", "u8"), ("number", "u8"), ("row", "u4"),
        ("wait_stack", "u4"), ("hold_stack", "u4"), ("kind", "u1"),
    ]
)  # fmt: skip
_AS_READ = ("end_ns", "wait_ns", "hold_ns", "number", "row", "kind")


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
    longest = Longest(most)
    for at, source in enumerate(sources):
        for batch in batches(source, selection, progress):
            longest.add({**_columns(batch), "source": np.full(len(batch), at)})
    columns = longest.columns()
    return Timeline(
        tuple(_cycles(columns, at) for at in range(len(sources))),
        max(0, longest.seen - most), longest.left_out_ns,
    )  # fmt: skip


def _columns(batch: Batch) -> dict[str, Any]:
    columns = {name: getattr(batch, name) for name in _AS_READ}
    for name in ("wait_stack", "hold_stack"):
        columns[name] = np.zeros(len(batch), CYCLE_TYPE[name])
        columns[name][batch.stacked] = getattr(batch, name)
    return columns


def _cycles(columns: Mapping[str, Any], source: int) -> Any:
    """Those of one recording, of ``CYCLE_TYPE``."""
    if not columns:
        return np.empty(0, CYCLE_TYPE)
    at = np.flatnonzero(columns["source"] == source)
    cycles = np.empty(len(at), CYCLE_TYPE)
    for name in CYCLE_TYPE.names or ():
        cycles[name] = columns[name][at]
    return cycles
