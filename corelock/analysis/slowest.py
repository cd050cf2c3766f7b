"""The longest waits and holds of a recording, with their stacks where it has them."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple, Optional

import numpy as np

from corelock.analysis.batches import Batch
from corelock.analysis.source import Source
from corelock.model import Frame, ResolvedSlowEvent, SlowEvent, SlowKind
from corelock.recording import StackFrames

_NO_STACK = StackFrames((), (), None)
_NOT_TAKEN = "no stack was taken"
_LOST = "its stack was lost"


class _Entry(NamedTuple):
    duration_ns: int
    earlier: int  # minus when it began: of equal ones the earlier counts as longer
    row: int
    stack: int


class Slowest:
    """Keeps the ``size`` longest of one kind."""

    def __init__(self, source: Source, kind: SlowKind, size: int) -> None:
        self._source = source
        self._kind: SlowKind = kind
        self._size = size
        self._kept: list[_Entry] = []

    def add(self, batch: Batch, which: Any) -> None:
        """Take those of a batch at the indices ``which`` that are long enough."""
        if not self._size:
            return
        durations = (batch.wait_ns if self._kind == "wait" else batch.hold_ns)[which]
        if len(self._kept) == self._size:
            long = durations >= self._kept[0].duration_ns
            which, durations = which[long], durations[long]
        if len(durations) > self._size:
            # All that are as long as the last that fits, as the earlier ones count.
            at = len(durations) - self._size
            long = durations >= np.partition(durations, at)[at]
            which, durations = which[long], durations[long]
        begin = batch.end_ns[which] - batch.hold_ns[which]
        if self._kind == "wait":
            begin = begin - batch.wait_ns[which]
        if len(which) > 4 * self._size:
            order = np.lexsort((begin, np.iinfo(np.uint64).max - durations.astype(np.uint64)))
            which, begin = which[order[: self._size]], begin[order[: self._size]]
            durations = durations[order[: self._size]]
        for index, duration, began in zip(which.tolist(), durations.tolist(), begin.tolist()):
            stack = self._stack(batch, index)
            self._keep(_Entry(duration, -began, int(batch.row[index]), stack))

    def _stack(self, batch: Batch, index: int) -> int:
        at = int(np.searchsorted(batch.stacked, index))
        if at == len(batch.stacked) or batch.stacked[at] != index:
            return 0
        return int((batch.wait_stack if self._kind == "wait" else batch.hold_stack)[at])

    def _keep(self, entry: _Entry) -> None:
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def events(self) -> list[ResolvedSlowEvent]:
        """They, the longest first."""
        return [self._event(entry) for entry in sorted(self._kept, reverse=True)]

    def _event(self, entry: _Entry) -> ResolvedSlowEvent:
        row = self._source.name(entry.row)
        stack, note = self._frames(entry.stack)
        event = SlowEvent(
            self._kind, -entry.earlier, entry.duration_ns, row.mm_pid, row.mm_host_pid,
            row.mm_comm, row.pid, row.tid, row.host_pid, row.host_tid, row.comm, row.mode,
            row.operation, tuple(frame[0] for frame in stack.kernel),
            tuple(frame[0] for frame in stack.user), False, False, None, row.process_key, None,
        )  # fmt: skip
        kernel, user = (tuple(Frame(*f) for f in part) for part in (stack.kernel, stack.user))
        return ResolvedSlowEvent(event, kernel, user, note)

    def _frames(self, stack: int) -> tuple[StackFrames, Optional[str]]:
        if not stack:
            return _NO_STACK, _NOT_TAKEN
        found = self._source.recording.stacks.get(stack)
        return (_NO_STACK, _LOST) if found is None else (found, found.note)
