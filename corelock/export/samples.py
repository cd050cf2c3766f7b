"""Waits and holds by who waited or held and with which stack: what flame graphs are made of.

Times are what the table counts: waits that got the lock, and holds that ended. Those shorter
than the recording's threshold have no stack: they stand under a frame that says so, by
operation, so that the sum is that of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Optional

import numpy as np

from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.export.fields import well_formed
from corelock.model import Row
from corelock.recording import DOWNGRADED, ENDING, HOLDING, NO_WAIT, RELEASED, StackFrames

What = Literal["wait", "hold"]

#: Instead of a stack's id: there is none, though the time was long enough.
_NOT_TAKEN = 0xFFFFFFFF


class SampleFrame(NamedTuple):
    """A function, or a word in brackets about the stack; that has no address and no module."""

    name: str
    module: Optional[str] = None
    address: int = 0


class Sample(NamedTuple):
    """The waits, or the holds, of one row with one stack. Frames are outermost first."""

    source: Source
    row: Row
    what: What
    user: tuple[SampleFrame, ...]
    kernel: tuple[SampleFrame, ...]
    cycles: int
    total_ns: int


def samples(
    sources: Sequence[Source], selection: Selection, progress: Optional[Progress] = None
) -> Iterator[Sample]:
    """The chosen waits and holds of all recordings, added up; in an order that is always the same.

    Memory goes with the number of rows and distinct stacks.
    """
    for source in sources:
        sums: dict[tuple[What, int, int], tuple[int, int]] = {}
        for batch in batches(source, selection, progress):
            _add(sums, "wait", batch, waits(batch), batch.wait_ns, batch.wait_stack)
            _add(sums, "hold", batch, holds(batch), batch.hold_ns, batch.hold_stack)
        for (what, row, stack), (count, total_ns) in sorted(sums.items()):
            of = source.name(row)
            user, kernel = _frames(source, of, stack)
            yield Sample(source, of, what, user, kernel, count, total_ns)


def waits(batch: Batch) -> Any:
    """Which cycles waited and got the lock: an array of bool."""
    ending = batch.kind & ENDING
    had = (ending == RELEASED) | (ending == DOWNGRADED) | (ending == HOLDING)
    return had & (batch.kind & NO_WAIT == 0)


def holds(batch: Batch) -> Any:
    """Which cycles held the lock and gave it back: an array of bool."""
    ending = batch.kind & ENDING
    return (ending == RELEASED) | (ending == DOWNGRADED)


def _add(
    sums: dict[tuple[What, int, int], tuple[int, int]],
    what: What, batch: Batch, chosen: Any, times_ns: Any, stacks: Any,
) -> None:  # fmt: skip
    stack = np.zeros(len(batch), np.uint64)
    slow_ns = batch.source.recording.header.get("slow_ns")
    if slow_ns is not None:
        stack[times_ns >= slow_ns] = _NOT_TAKEN
    taken = stacks != 0
    stack[batch.stacked[taken]] = stacks[taken]
    keys = (batch.row.astype(np.uint64) << np.uint64(32) | stack)[chosen]
    times = times_ns[chosen].astype(np.uint64)
    order = np.argsort(keys)
    keys, times = keys[order], times[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    if not len(first):
        return
    counts = np.diff(first, append=len(keys))
    totals = np.add.reduceat(times, first)
    for key, count, total_ns in zip(keys[first].tolist(), counts.tolist(), totals.tolist()):
        at = what, key >> 32, key & 0xFFFFFFFF
        before = sums.get(at, (0, 0))
        sums[at] = before[0] + count, before[1] + total_ns


def _frames(
    source: Source, row: Row, stack: int
) -> tuple[tuple[SampleFrame, ...], tuple[SampleFrame, ...]]:
    """User and kernel frames of that id of a stack."""
    found = source.recording.stacks.get(stack)
    if found is None:
        word = SampleFrame(f"[no stack: {_why(source, stack)}]")
        return (word,), (SampleFrame(shown(row.operation)),)
    return stack_frames(found)


def stack_frames(
    stack: StackFrames,
) -> tuple[tuple[SampleFrame, ...], tuple[SampleFrame, ...]]:
    """User and kernel frames, outermost first. If the user part ends early, a word says why."""
    note = [SampleFrame(f"[{well_formed(stack.note)}]")] if stack.note else []
    user = [_frame(frame) for frame in reversed(stack.user)]
    return (*note, *user), tuple(_frame(frame) for frame in reversed(stack.kernel))


def _why(source: Source, stack: int) -> str:
    slow_ns = source.recording.header.get("slow_ns")
    if slow_ns is None:
        return "none was recorded"
    if stack == 0:
        return f"shorter than {slow_ns / 1000:g}us"
    return "could not be taken" if stack == _NOT_TAKEN else "lost"


def _frame(frame: tuple[int, Optional[str], Optional[int], Optional[str]]) -> SampleFrame:
    address, name, offset, module = frame
    if name is None:
        known = module is not None and offset is not None
        name = f"{module}+{offset:#x}" if known else f"{address:#x}"
    return SampleFrame(shown(name), module and shown(module), address)


def shown(name: str) -> str:
    """A name that formats can take: it is well formed, and there is one."""
    return well_formed(name) or "?"
