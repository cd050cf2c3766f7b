"""The chosen cycles of a recording as arrays, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from corelock.analysis.selection import Selection, skips, within
from corelock.analysis.source import Source
from corelock.recording import U8, U32, U64, Block

#: Is told, during a pass over a recording, how many bytes of how many are done.
Progress = Callable[[int, int], None]

#: No more cycles at a time: intermediate results stay small, whoever made the blocks.
_MOST = 1 << 18


@dataclass(frozen=True)
class Batch:
    """Some cycles of one recording, as arrays of equal length, in no order of time.

    Cycles ended at ``end_ns`` (uint64, ``CLOCK_MONOTONIC``). ``wait_ns`` and ``hold_ns`` are
    uint32, or uint64 where there are longer ones: convert before you add. ``row`` is a number
    for :meth:`Source.name`, and there is such a row; ``kind`` is as in ``docs/format.md``.
    Few cycles have stacks, so these are sparse: cycle ``stacked[i]`` (ascending) has those of
    the ids ``wait_stack[i]`` and ``hold_stack[i]``, 0: none. ``number`` is a cycle's position
    in the whole recording, whatever was chosen.
    Arrays may be views of the file, read-only, valid until the recording is closed.
    """

    source: Source
    end_ns: U64
    wait_ns: Any
    hold_ns: Any
    row: U32
    kind: U8
    stacked: Any
    wait_stack: Any
    hold_stack: Any
    number: Any

    def __len__(self) -> int:
        return len(self.row)

    @property
    def start_ns(self) -> U64:
        """When each lock was asked for, a new array."""
        start: U64 = self.end_ns - self.hold_ns - self.wait_ns
        return start


def batches(
    source: Source, selection: Selection, progress: Optional[Progress] = None
) -> Iterator[Batch]:
    """The cycles of ``source`` that ``selection`` chooses; nothing is copied that is chosen whole.

    Cycles whose row is in no sound block are left out; :class:`corelock.analysis.census.Census`
    counts them.
    """
    bounds, rows = selection.bounds(source), selection.rows(source)
    done, total = 0, source.recording.cycles_bytes
    cycles = 0
    for block in source.recording:
        if not skips(block, bounds):
            mask = _mask(block, bounds, rows, selection.min_ns)
            whole = _whole(source, block, cycles)
            if mask is not None:
                whole = _chosen(whole, mask)
            yield from _slices(whole)
        done += block.nbytes
        cycles += len(block)
        if progress is not None:
            progress(done, total)
    if progress is not None:
        progress(total, total)


def chooser(source: Source, selection: Selection) -> Callable[[Block], Optional[Any]]:
    """What says which cycles of a block of ``source`` are chosen, an array of bool; None: all."""
    bounds, rows = selection.bounds(source), selection.rows(source)
    return lambda block: _mask(block, bounds, rows, selection.min_ns)


def _mask(block: Block, bounds: tuple[int, int], rows: Any, min_ns: int) -> Optional[Any]:
    """Which cycles of a block are chosen, an array of bool; None: all."""
    masks = []
    if len(block) and block.row.max() >= len(rows):
        masks.append(block.row < len(rows))
    of_rows = rows[np.minimum(block.row, len(rows) - 1)] if masks else rows[block.row]
    if not of_rows.all():
        masks.append(of_rows)
    in_time = within(block, bounds)
    if in_time is not None:
        masks.append(in_time)
    if min_ns > 0:
        masks.append(np.maximum(block.wait_ns, block.hold_ns) >= min_ns)
    return np.logical_and.reduce(masks) if masks else None


def _whole(source: Source, block: Block, first: int) -> Batch:
    return Batch(
        source, block.end_ns, block.wait_ns, block.hold_ns, block.row, block.kind,
        block.stacked_index, block.wait_stack, block.hold_stack,
        np.arange(first, first + len(block)),
    )  # fmt: skip


def _chosen(batch: Batch, mask: Any) -> Batch:
    stacked = mask[batch.stacked]
    return Batch(
        batch.source, batch.end_ns[mask], batch.wait_ns[mask], batch.hold_ns[mask],
        batch.row[mask], batch.kind[mask],
        (np.cumsum(mask) - 1)[batch.stacked[stacked]],
        batch.wait_stack[stacked], batch.hold_stack[stacked], batch.number[mask],
    )  # fmt: skip


def _slices(batch: Batch) -> Iterator[Batch]:
    if len(batch) <= _MOST:
        if len(batch):
            yield batch
        return
    for first in range(0, len(batch), _MOST):
        part = slice(first, first + _MOST)
        stacked = slice(*np.searchsorted(batch.stacked, (first, first + _MOST)))
        yield Batch(
            batch.source, batch.end_ns[part], batch.wait_ns[part], batch.hold_ns[part],
            batch.row[part], batch.kind[part], batch.stacked[stacked] - first,
            batch.wait_stack[stacked], batch.hold_stack[stacked], batch.number[part],
        )  # fmt: skip
