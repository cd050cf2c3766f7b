"""The cycles of a recording in periods of time, whatever the order in which they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional

import numpy as np

from corelock.recording import Block, Recording

#: About so many cycles are in memory at a time, however long the recording.
CYCLES = 1 << 18

#: Is told how many cycles of how many are done.
Progress = Callable[[int, int], None]
#: Which cycles of a block are looked at, an array of bool; None: all.
Chosen = Callable[[Block], Optional[Any]]

_SAMPLED = 64  # one cycle of so many says when cycles ended


class Period(NamedTuple):
    """The cycles that ended after ``after_ns`` and in no later period, in no order.

    Times are int64 (``CLOCK_MONOTONIC``), ``cycle`` numbers the cycles of the recording in
    the order in which it yields them, ``chosen`` says which are looked at.
    """

    after_ns: int
    end_ns: Any
    wait_ns: Any
    hold_ns: Any
    row: Any
    kind: Any
    cycle: Any
    chosen: Any


def periods(
    recording: Recording,
    chosen: Optional[Chosen] = None,
    progress: Optional[Progress] = None,
    cycles: int = CYCLES,
) -> Iterator[Period]:
    """All cycles, the latest first, about ``cycles`` at a time."""
    blocks = [block for block in recording if len(block)]
    firsts = np.cumsum([0, *map(len, blocks)])
    done, total = 0, int(firsts[-1])
    before_ns = 2**63 - 1
    for after_ns in (*_cuts(blocks, cycles), -1):
        parts = [
            _part(block, int(first), after_ns, before_ns, chosen)
            for block, first in zip(blocks, firsts)
            if block.last_ns > after_ns and block.first_ns <= before_ns
        ]
        if parts:
            columns = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts))
            period = Period(after_ns, *columns)
            yield period
            done += len(period.cycle)
        if progress is not None:
            progress(done, total)
        before_ns = after_ns


def _cuts(blocks: list[Block], cycles: int) -> list[int]:
    """Moments between which about so many cycles ended, the latest first."""
    if not blocks:
        return []
    step = max(1, min(_SAMPLED, cycles))
    ends = np.concatenate(
        [np.sort(block.end)[step - 1 :: step] + np.uint64(block.base_ns) for block in blocks]
    )
    ends = np.sort(ends)[::-1]
    each = max(1, cycles // step)
    return [int(end) for end in np.unique(ends[each::each])[::-1]]


def _part(
    block: Block, first: int, after_ns: int, before_ns: int, chosen: Optional[Chosen]
) -> tuple[Any, ...]:
    end = block.end_ns.view(np.int64)
    cycle = np.arange(first, first + len(block))
    mask = None if chosen is None else chosen(block)
    columns = (
        end, block.wait_ns, block.hold_ns, block.row, block.kind, cycle,
        np.ones(len(block), bool) if mask is None else mask,
    )  # fmt: skip
    if after_ns < block.first_ns and block.last_ns <= before_ns:
        within: Any = slice(None)
    else:
        within = (end > after_ns) & (end <= before_ns)
    end, wait, hold, *rest = (column[within] for column in columns)
    return (end, wait.astype(np.int64), hold.astype(np.int64), *rest)
