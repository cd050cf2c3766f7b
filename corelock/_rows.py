"""Making rows of readings: what is one process, and what things are called now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from corelock.model import Row


class Reading(NamedTuple):
    """One row of the kernel's table; its ``process_key`` is still the id of its mm."""

    row: Row
    named_ns: int  # when the thread's name was read
    mm_start_ns: int  # start of the mm's process

    @property
    def process(self) -> tuple[int, int]:
        """What is the same for all mms that exec gave one process, and for nothing else."""
        row = self.row
        # Pid 0 is a child of fork that was not seen with its pid.
        return (row.mm_pid, self.mm_start_ns) if row.mm_pid else (0, row.process_key)


def assemble(readings: Iterable[Reading]) -> tuple[Row, ...]:
    """Rows under their final names; one where a process had several mms by exec."""
    kept = [reading for reading in readings if reading.row.is_active]
    threads: dict[int, tuple[int, str]] = {}  # when named, name
    first_mm: dict[tuple[int, int], int] = {}
    last_mm: dict[tuple[int, int], tuple[int, str]] = {}  # id, name
    for reading in kept:
        row, process = reading.row, reading.process
        named, mm = (reading.named_ns, row.comm), (row.process_key, row.mm_comm)
        threads[row.thread_key] = max(threads.get(row.thread_key, named), named)
        last_mm[process] = max(last_mm.get(process, mm), mm)
        first_mm[process] = min(first_mm.get(process, mm[0]), mm[0])

    rows: dict[tuple[int, int, str, str], Row] = {}
    for reading in kept:
        row, process = reading.row, reading.process
        names = (first_mm[process], last_mm[process][1], threads[row.thread_key][1])
        if names != (row.process_key, row.mm_comm, row.comm):
            row = replace(row, process_key=names[0], mm_comm=names[1], comm=names[2])
        same = rows.get(row.key)
        rows[row.key] = row if same is None else same.plus(row)
    return tuple(rows.values())
