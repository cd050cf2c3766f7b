"""Which hold kept each wait longest."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np

from corelock.analysis.overlaps import LONG_WAIT_NS, Overlaps, overlaps
from corelock.analysis.periods import CYCLES, Progress
from corelock.recording import Recording

__all__ = ["LONG_WAIT_NS", "Blockers", "blockers", "blocking_holds"]


class Blockers(NamedTuple):
    """The hold that kept each wait longest, arrays by cycle.

    ``cycle`` (int64) is the number of the holder's cycle, in the order in which iterating the
    recording yields them, ``ns`` (int64) for how long it kept the wait. -1 and 0: the cycle has no
    wait, or one that was not contended (see ``LONG_WAIT_NS``), that did not get the lock, or that
    no hold on record is due for. Of holds that kept it equally long, the last.
    """

    cycle: Any
    ns: Any


def blocking_holds(
    recording: Recording, progress: Optional[Progress] = None, cycles: int = CYCLES
) -> Any:
    """``blockers(...).cycle``."""
    return blockers(recording, progress, cycles).cycle


def blockers(
    recording: Recording, progress: Optional[Progress] = None, cycles: int = CYCLES
) -> Blockers:
    """Which hold kept each wait of a recording longest, and for how long."""
    count = sum(map(len, recording))
    blocker, kept_ns = np.full(count, -1), np.zeros(count, np.int64)
    for each in overlaps(recording, None, progress, cycles):
        if not len(each.wait):
            continue
        piece, ns, stretch = _longest(each)
        wait = each.wait[piece]
        order = np.lexsort((each.stretches.left_ns[stretch], ns, wait))
        last = order[np.flatnonzero(np.diff(wait[order], append=-1))]
        kept = each.waits.cycle[wait[last]]
        blocker[kept] = each.stretches.cycle[stretch[last]]
        kept_ns[kept] = ns[last]
    return Blockers(blocker, kept_ns)


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
