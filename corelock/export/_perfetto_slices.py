"""The waits and holds of one recording as slices on tracks of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from corelock.analysis.batches import Progress
from corelock.analysis.source import Source
from corelock.export._perfetto_trace import TraceWriter
from corelock.export._perfetto_tracks import Lanes, Tracks
from corelock.export.fields import well_formed
from corelock.export.samples import stack_frames
from corelock.model import Row
from corelock.recording import (
    ABORTED,
    CONTENDED,
    DOWNGRADED,
    ENDING,
    FAILED,
    HOLDING,
    NO_WAIT,
    RELEASED,
    WAITING,
)

_SLICES_AT_A_TIME = 4096  # between two looks at how far it is
_COLUMNS = ("wait_ns", "hold_ns", "row", "wait_stack", "hold_stack", "kind")
_WAIT, _HOLD, _TRYLOCK = "wait", "hold", "trylock"
#: What is unusual about how a wait ended, and a hold.
_WAIT_ENDED = {FAILED: "failed", ABORTED: "aborted", WAITING: "not when recording did"}
_HOLD_ENDED = {DOWNGRADED: "downgraded", HOLDING: "not when recording did"}


class _Slice(NamedTuple):
    thread: int
    begin_ns: int
    end_ns: int
    cycle: int
    is_hold: bool


class Slices:
    """Cycles of one recording, to be written; ``cycles`` is an array of ``CYCLE_TYPE``.

    ``blockers`` has for each of them the index of the one whose hold kept its wait longest, -1:
    none is known. ``shift_ns`` is added to all times; flows are numbered from ``first_flow`` on,
    one for each cycle at most.
    """

    def __init__(
        self, source: Source, cycles: Any, blockers: Any, shift_ns: int, first_flow: int
    ) -> None:
        self._source = source
        self._cycles = cycles
        self._columns = {name: cycles[name].tolist() for name in _COLUMNS}
        self._blockers = blockers.tolist()
        self._shift_ns = shift_ns
        self._first_flow = first_flow
        self._stacks: dict[int, Optional[str]] = {}
        self._flows: dict[int, list[int]] = {}
        for waiter, holder in enumerate(self._blockers):
            if holder >= 0:
                self._flows.setdefault(holder, []).append(first_flow + waiter)

    def write(
        self, writer: TraceWriter, tracks: Tracks, progress: Optional[Progress] = None
    ) -> None:
        """Write all slices, thread by thread."""
        thread: Optional[int] = None
        lanes = Lanes(writer, 0)
        for at, slice_ in enumerate(self._in_order()):
            if progress is not None and at % _SLICES_AT_A_TIME == 0:
                progress(at, 2 * len(self._cycles))
            if slice_.thread != thread:
                lanes.close()
                thread, lanes = slice_.thread, Lanes(writer, tracks.thread(self._row(slice_.cycle)))
            track = lanes.track(slice_.begin_ns, slice_.end_ns)
            self._write(writer, track, slice_)
        lanes.close()

    def _in_order(self) -> Iterator[_Slice]:
        """Slices by thread and beginning; of those that begin together, the outer ones first."""
        cycles = self._cycles
        waited = np.flatnonzero(cycles["kind"] & NO_WAIT == 0)
        held = np.flatnonzero(np.isin(cycles["kind"] & ENDING, (RELEASED, DOWNGRADED, HOLDING)))
        end = cycles["end_ns"].astype(np.int64) + self._shift_ns
        had = end - cycles["hold_ns"].astype(np.int64)
        asked = had - cycles["wait_ns"].astype(np.int64)
        begins = np.concatenate((asked[waited], had[held]))
        ends = np.concatenate((had[waited], end[held]))
        cycle = np.concatenate((waited, held))
        thread = self._source.row_table.thread[cycles["row"][cycle]]
        # What takes no time comes before what begins with it: it has ended by then.
        order = np.lexsort((-ends, ends > begins, begins, thread))
        columns = thread, begins, ends, cycle, np.arange(len(cycle)) >= len(waited)
        yield from map(_Slice._make, zip(*(column[order].tolist() for column in columns)))

    def _row(self, cycle: int) -> Row:
        return self._source.name(self._columns["row"][cycle])

    def _write(self, writer: TraceWriter, track: int, slice_: _Slice) -> None:
        cycle, row = slice_.cycle, self._row(slice_.cycle)
        ending = self._columns["kind"][cycle] & ENDING
        category = _HOLD if slice_.is_hold else _TRYLOCK if ending == FAILED else _WAIT
        ended_flows: Sequence[int] = ()
        if slice_.is_hold and self._blockers[cycle] >= 0:
            # At the hold that follows the wait: arrows go by when slices begin, and the hold that
            # kept it may have begun after the wait did.
            ended_flows = (self._first_flow + cycle,)
        writer.begin(
            track,
            slice_.begin_ns,
            category,
            f"{category} {row.mode} {row.operation}",
            self._args(slice_, row, ending),
            self._flows.get(cycle, ()) if slice_.is_hold else (),
            ended_flows,
        )

    def _args(self, slice_: _Slice, row: Row, ending: int) -> dict[str, Union[int, str]]:
        cycle = slice_.cycle
        args: dict[str, Union[int, bool, str]] = {
            "operation": well_formed(row.operation),
            "mode": row.mode,
            "wait_ns": self._columns["wait_ns"][cycle],
        }
        if slice_.is_hold:
            args["hold_ns"] = self._columns["hold_ns"][cycle]
        elif self._columns["kind"][cycle] & CONTENDED:
            args["contended"] = True
        if row.foreign:
            args["address_space"] = f"{row.mm_comm}[{row.mm_pid or row.mm_host_pid}]"
        ended = (_HOLD_ENDED if slice_.is_hold else _WAIT_ENDED).get(ending)
        if ended:
            args["ended"] = ended
        if not slice_.is_hold and self._blockers[cycle] >= 0:
            holder = self._row(self._blockers[cycle])
            args["kept_longest_by"] = (
                f"{holder.comm}[{holder.tid or holder.host_tid}] {holder.mode} {holder.operation}"
            )
        stack = self._stack(self._columns["hold_stack" if slice_.is_hold else "wait_stack"][cycle])
        if stack:
            args["stack"] = stack
        return args

    def _stack(self, number: int) -> Optional[str]:
        """That stack in one line, innermost first."""
        if number not in self._stacks:
            found = self._source.recording.stacks.get(number)
            self._stacks[number] = None
            if found is not None:
                user, kernel = stack_frames(found)
                names = [frame.name for frame in (*user, *kernel)]
                self._stacks[number] = " < ".join(reversed(names))
        return self._stacks[number]
