"""Making rows of readings: what is one process, and what things are called now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from corelock.model import Row, RowKey

NO_CONTENTION = (0, 0, 0, 0)


class Reading(NamedTuple):
    """One row of the kernel's table; its ``process_key`` is still the id of its mm."""

    row: Row
    named_ns: int  # when the thread's name was read
    mm_start_ns: int  # start of the mm's process
    row_index: int = 0  # in the kernel's table
    contention: tuple[int, ...] = NO_CONTENTION  # as Contention has it

    @property
    def process(self) -> tuple[int, int]:
        """What is the same for all mms that exec gave one process, and for nothing else."""
        row = self.row
        # Pid 0 is a child of fork that was not seen with its pid.
        pid = row.mm_host_pid
        return (pid, self.mm_start_ns) if pid else (0, row.process_key)


class Names:
    """What the rows of a table are called in the end."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._threads: dict[int, tuple[int, str]] = {}  # when named, name
        self._first_mm: dict[tuple[int, int], int] = {}
        self._last_mm: dict[tuple[int, int], tuple[int, str]] = {}  # id, name
        for reading in readings:
            row, process = reading.row, reading.process
            named, mm = (reading.named_ns, row.comm), (row.process_key, row.mm_comm)
            self._threads[row.thread_key] = max(self._threads.get(row.thread_key, named), named)
            self._last_mm[process] = max(self._last_mm.get(process, mm), mm)
            self._first_mm[process] = min(self._first_mm.get(process, mm[0]), mm[0])

    def final(self, reading: Reading) -> Row:
        """The reading's row under its final names."""
        row, process = reading.row, reading.process
        process_key, mm_comm = self._first_mm[process], self._last_mm[process][1]
        comm = self._threads[row.thread_key][1]
        if (process_key, mm_comm, comm) == (row.process_key, row.mm_comm, row.comm):
            return row
        return replace(row, process_key=process_key, mm_comm=mm_comm, comm=comm)


def assemble(readings: Iterable[Reading]) -> tuple[Row, ...]:
    """Rows under their final names; one where a process had several mms by exec."""
    kept = [reading for reading in readings if reading.row.is_active]
    return tuple(merged(kept, Names(kept)).values())


def merged(readings: Iterable[Reading], names: Names) -> dict[RowKey, Row]:
    """The rows of the readings under their final names, by key, alike ones added up."""
    rows: dict[RowKey, Row] = {}
    for reading in readings:
        row = names.final(reading)
        same = rows.get(row.key)
        rows[row.key] = row if same is None else same.plus(row)
    return rows
