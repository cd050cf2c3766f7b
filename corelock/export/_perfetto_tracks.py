"""Tracks for processes and threads, and for what overlaps on a thread."""

from __future__ import annotations

from corelock.analysis.source import Source
from corelock.export._perfetto_trace import TraceWriter
from corelock.export.fields import well_formed
from corelock.model import Row


class Tracks:
    """The tracks of one recording, made when they are asked for.

    ``pids`` is added to all pids and tids, as viewers tell processes apart by these.
    ``prefix`` comes before the names of processes.
    """

    def __init__(self, writer: TraceWriter, source: Source, pids: int, prefix: str) -> None:
        self._writer = writer
        self._pids = pids
        self._prefix = prefix
        self._processes: dict[int, int] = {}
        self._names: dict[int, str] = {}
        for number in source.readings:
            row = source.name(number)
            # A process is called as its address space is; of one that only locked those of
            # others, we know what its threads are called.
            if not row.foreign or _pid(row) not in self._names:
                self._names[_pid(row)] = row.comm if row.foreign else row.mm_comm

    def thread(self, row: Row) -> int:
        """A new track for the thread of that row, under that of its process."""
        pid, tid = _pid(row), row.tid or row.host_tid
        if pid not in self._processes:
            name = self._prefix + well_formed(self._names[pid])
            self._processes[pid] = self._writer.process(self._pids + pid, name)
        return self._writer.thread(
            self._processes[pid], self._pids + pid, self._pids + tid, well_formed(row.comm)
        )


def _pid(row: Row) -> int:
    return row.pid or row.host_pid


class Lanes:
    """A thread's track, and more tracks within it for slices that overlap others in part.

    Slices of one track have to lie within each other or apart. Those of one thread nearly
    always do; but locks of two address spaces may be given back in the order they were taken in.
    """

    def __init__(self, writer: TraceWriter, track: int) -> None:
        self._writer = writer
        self._tracks = [track]
        self._open: list[list[int]] = [[]]

    def track(self, begin_ns: int, end_ns: int) -> int:
        """The track for the next slice, where what has ended before it is closed.

        Slices come by when they begin, outer ones before those within.
        """
        for track, ends in zip(self._tracks, self._open):
            while ends and ends[-1] <= begin_ns:
                self._writer.end(track, ends.pop())
        for track, ends in zip(self._tracks, self._open):
            if not ends or end_ns <= ends[-1]:
                ends.append(end_ns)
                return track
        self._tracks.append(self._writer.other("overlapping", self._tracks[0]))
        self._open.append([end_ns])
        return self._tracks[-1]

    def close(self) -> None:
        """End what is open."""
        for track, ends in zip(self._tracks, self._open):
            while ends:
                self._writer.end(track, ends.pop())
