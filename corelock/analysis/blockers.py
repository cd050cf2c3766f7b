"""Which hold kept each wait longest."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from corelock.analysis.overlaps import LONG_WAIT_NS, Overlaps, overlaps
from corelock.analysis.periods import CYCLES, Progress
from corelock.recording import Recording

__all__ = ["LONG_WAIT_NS", "blocking_holds"]


def blocking_holds(
    recording: Recording, progress: Optional[Progress] = None, cycles: int = CYCLES
) -> Any:
    """Which hold kept each wait longest: the numbers of cycles, an int64 array by cycle.

    Cycles are numbered in the order in which iterating ``recording`` yields them. -1: the cycle
    has no wait, or one that was not contended (see ``LONG_WAIT_NS``), that did not get the lock,
    or that no hold on record is due for. Of holds that kept it equally long, the last.
    """
    blocker = np.full(sum(map(len, recording)), -1)
    for each in overlaps(recording, None, progress, cycles):
        if not len(each.wait):
            continue
        piece, ns, stretch = _longest(each)
        wait = each.wait[piece]
        order = np.lexsort((each.stretches.left_ns[stretch], ns, wait))
        last = order[np.flatnonzero(np.diff(wait[order], append=-1))]
        blocker[each.waits.cycle[wait[last]]] = each.stretches.cycle[stretch[last]]
    return blocker


def _longest(of: Overlaps) -> tuple[Any, Any, Any]:
    """Pieces with the stretches that overlap them most, as piece, ns and stretch.

    The first and the last stretch of a piece may reach out of it; those in between are
    searched as they are.
    """
    length = of.stretch_end - of.stretch_begin
    by_length = np.argsort(length, kind="stable")
    rank = np.empty(len(length), np.int64)
    rank[by_length] = np.arange(len(length))
    pieces = np.arange(len(of.first))
    inner = np.flatnonzero(of.last - of.first > 2)
    inner = inner[np.argsort(of.first[inner], kind="stable")]  # so that gaps are short
    ends = np.stack((of.first[inner] + 1, of.last[inner] - 1), axis=1).ravel()
    highest = np.maximum.reduceat(rank, ends)[::2] if len(ends) else ends
    piece = np.concatenate((pieces, pieces, inner))
    stretch = np.concatenate((of.first, of.last - 1, by_length[highest]))
    ns = np.minimum(of.stretch_end[stretch], of.end[piece])
    return piece, ns - np.maximum(of.stretch_begin[stretch], of.begin[piece]), stretch
