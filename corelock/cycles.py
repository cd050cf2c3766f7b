"""Cycles of a recording as arrays: the payload of a block of ``docs/format.md``."""

from __future__ import annotations

from functools import cached_property
from struct import Struct
from typing import Any

from corelock.extras import needs
from corelock.recorded import TIMES_BELOW_NS

with needs("report", "numpy"):
    import numpy as np
    import numpy.typing as npt

#: How a cycle ended: the lowest three bits of its kind.
RELEASED, DOWNGRADED, FAILED, ABORTED, HOLDING, WAITING = range(6)
ENDING = 7
NO_WAIT = 8
CONTENDED = 16

_LONG = 0xFFFFFFFF
_HEAD = Struct("<QQQqqIII12x")

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


class Block:
    """Some cycles, as columns of equal length, in no order of time.

    The columns are views of the file's mapping, read-only, valid until the recording is
    closed: ``end`` (ns since ``base_ns``), ``row`` (key of :attr:`Recording.rows`), ``kind``
    (see ``docs/format.md``), and, unless ``has_long``, ``wait_ns`` and ``hold_ns``
    (uint32; with ``has_long`` copies of uint64). ``end_ns`` is a copy. Cycles with stacks:
    ``stacked_index`` (position in the block), ``wait_stack`` and ``hold_stack`` (ids, 0: none).

    Raises:
        ValueError: the payload contradicts itself.
    """

    def __init__(self, payload: memoryview) -> None:
        if len(payload) < _HEAD.size:
            raise ValueError("no head")
        (
            self.base_ns, self.first_ns, self.last_ns, self.realtime_offset_ns,
            self.boottime_offset_ns, self.count, stacked, long,
        ) = _HEAD.unpack_from(payload)  # fmt: skip
        self._payload = payload
        at = _HEAD.size
        self.end, at = self._column("<u4", self.count, at)
        self._wait, at = self._column("<u4", self.count, at)
        self._hold, at = self._column("<u4", self.count, at)
        self.row, at = self._column("<u4", self.count, at)
        self.kind, at = self._column("u1", self.count, at)
        at = _aligned(at)
        self.stacked_index, at = self._column("<u4", stacked, at)
        self.wait_stack, at = self._column("<u4", stacked, at)
        self.hold_stack, at = self._column("<u4", stacked, at)
        at = _aligned(at)
        self._long_wait, at = self._column("<u8", long, at)
        self._long_hold, at = self._column("<u8", long, at)
        self._long_index, at = self._column("<u4", long, at)

    def _column(self, dtype: str, count: int, at: int) -> tuple[Any, int]:
        if count == 0:
            return np.empty(0, dtype), at
        column = np.frombuffer(self._payload, dtype, count, at)
        return column, at + column.nbytes

    def check(self) -> None:
        """Make sure that indices and times are possible ones; reads all of the block.

        Raises:
            ValueError: they are not.
        """
        for index in (self.stacked_index, self._long_index):
            if len(index) and not (index[-1] < self.count and (index[1:] > index[:-1]).all()):
                raise ValueError("an index of no cycle")
        for offset_ns in (0, self.realtime_offset_ns, self.boottime_offset_ns):
            if not 0 <= self.last_ns + offset_ns < TIMES_BELOW_NS:
                raise ValueError("a clock that says what no clock says")
        if not self.count:
            return
        long = np.flatnonzero((self._wait == _LONG) | (self._hold == _LONG))
        if not np.isin(long, self._long_index).all():
            raise ValueError("a time that is said nowhere")
        ends = self.base_ns + int(self.end.min()), self.base_ns + int(self.end.max())
        if not self.first_ns <= ends[0] <= ends[1] <= self.last_ns:
            raise ValueError("ends of cycles that are not where the head says")
        # Also keeps sums of times below 2^64.
        if self.longest_ns > ends[0]:
            wait, hold = self.wait_ns.astype(np.uint64), self.hold_ns.astype(np.uint64)
            end = self.end_ns
            if (hold > end).any() or (wait > end - hold).any():
                raise ValueError("a cycle from before the clock began")

    def __len__(self) -> int:
        return int(self.count)

    @property
    def nbytes(self) -> int:
        """Bytes of it in the file."""
        return len(self._payload)

    @property
    def has_long(self) -> bool:
        """Whether there are times that 32 bits do not hold."""
        return len(self._long_index) > 0

    @property
    def longest_ns(self) -> int:
        """No cycle here took longer, its wait and its hold together."""
        longest = 2 * (_LONG - 1)
        if self.has_long:
            longest = max(longest, int(self._long_wait.max()) + int(self._long_hold.max()))
        return longest

    @cached_property
    def wait_ns(self) -> Any:
        """How long each cycle waited."""
        return self._with_long(self._wait, self._long_wait)

    @cached_property
    def hold_ns(self) -> Any:
        """How long each cycle held the lock."""
        return self._with_long(self._hold, self._long_hold)

    def _with_long(self, short: U32, long: U64) -> Any:
        if not self.has_long:
            return short
        times = short.astype(np.uint64)
        times[self._long_index] = long
        return times

    @property
    def end_ns(self) -> U64:
        """When each cycle ended (``CLOCK_MONOTONIC``), a new array."""
        ends: U64 = self.end.astype(np.uint64) + np.uint64(self.base_ns)
        return ends


def _aligned(at: int) -> int:
    return (at + 7) & ~7
