"""Open recordings with their names resolved."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np

from corelock._rows import Names, Reading
from corelock.arguments import FileName
from corelock.errors import CorelockError
from corelock.histogram import Histogram
from corelock.model import Cgroup, Host, Row, Target, Times
from corelock.names import kernel_name
from corelock.recording import U8, U32, Recording, open_recording
from corelock.symbolize.syscalls import operation_name

MODES = ("read", "write")
NO_TIMES = Times(0, 0, 0, 0, Histogram())


@dataclass(frozen=True)
class RowTable:
    """What rows are, as arrays by row number; ``known`` says whether there is such a row.

    ``pid`` and ``tid`` are the thread's, ``mm_pid`` is the process whose address space was
    locked, ``mm`` its id, ``thread`` the thread's id in the recording; ``operation`` is a
    number (see :attr:`Source.operations`), ``mode`` 0 read, 1 write.
    """

    known: Any
    pid: U32
    tid: U32
    mm_pid: U32
    mm: U32
    thread: U32
    operation: U32
    mode: U8

    def __len__(self) -> int:
        return len(self.known)


class Source:
    """One open recording. A context manager; leaving it closes.

    ``label`` is the host's name, made unique among the recordings that are looked at
    together: ``db7``, ``db7 (2)``.
    """

    def __init__(self, recording: Recording, label: Optional[str] = None) -> None:
        self.recording = recording
        host = recording.header["host"]
        self.host = Host(host["kernel"], host["arch"], host["hostname"])
        self.label = self.host.hostname if label is None else label

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.recording.close()

    @property
    def start_ns(self) -> int:
        """When counting began (``CLOCK_MONOTONIC``)."""
        return int(self.recording.header["start_ns"])

    @cached_property
    def end_ns(self) -> int:
        """When counting ended; of a recording that was cut, when its last cycle did."""
        if self.recording.footer is not None:
            return max(self.start_ns, int(self.recording.footer["end_ns"]))
        return max([self.start_ns, *(int(block.last_ns) for block in self.recording)])

    @property
    def duration_ns(self) -> int:
        """For how long was recorded."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def target(self) -> Optional[Target]:
        """The process that was asked for, if it was one."""
        said = self.recording.header.get("target")
        return said and Target(said["pid"], said["comm"], said.get("host_pid") or 0)

    @property
    def cgroup(self) -> Optional[Cgroup]:
        """The cgroup that was asked for, if it was one."""
        said = self.recording.header.get("cgroup")
        return said and Cgroup(said["path"], "", said["id"], said.get("container"))

    @cached_property
    def row_table(self) -> RowTable:
        """The rows as arrays, for filters of many cycles at once."""
        rows, mms = self.recording.rows, self.recording.processes
        size = int(rows["row"].max(initial=0)) + 1

        def column(values: Any, dtype: Any) -> Any:
            by_row = np.zeros(size, dtype)
            by_row[rows["row"]] = values
            return by_row

        mm_pid = np.zeros(len(rows), np.uint32)
        if len(mms):
            at = np.minimum(np.searchsorted(mms["mm"], rows["mm"]), len(mms) - 1)
            mm_pid = np.where(mms["mm"][at] == rows["mm"], mms["pid"][at], mm_pid)
        named = {
            name: column(rows[name], np.uint32)
            for name in ("pid", "tid", "mm", "thread", "operation")
        }
        return RowTable(
            known=column(True, bool), mm_pid=column(mm_pid, np.uint32),
            mode=column(rows["mode"], np.uint8), **named,
        )  # fmt: skip

    @cached_property
    def readings(self) -> Mapping[int, Reading]:
        """The rows by number, without times, as they were read."""
        mms = {int(entry["mm"]): entry for entry in self.recording.processes}
        return {int(entry["row"]): self._reading(entry, mms) for entry in self.recording.rows}

    def _reading(self, entry: Any, mms: Mapping[int, Any]) -> Reading:
        mm, comm = int(entry["mm"]), kernel_name(bytes(entry["comm"]))
        process = mms.get(mm)
        row = Row(
            process_key=mm,
            thread_key=int(entry["thread"]),
            mm_pid=0 if process is None else int(process["pid"]),
            mm_host_pid=0 if process is None else int(process["host_pid"]),
            mm_comm="?" if process is None else kernel_name(bytes(process["comm"])),
            pid=int(entry["pid"]),
            tid=int(entry["tid"]),
            host_pid=int(entry["host_pid"]),
            host_tid=int(entry["host_tid"]),
            comm=comm,
            mode=MODES[entry["mode"]],  # type: ignore[arg-type]
            operation=operation_name(int(entry["operation"]), comm, self.host.arch),
            downgrades=0,
            trylock_failures=0,
            aborted_waits=0,
            wait=NO_TIMES,
            hold=NO_TIMES,
        )
        start_ns = 0 if process is None else int(process["start_ns"])
        return Reading(row, int(entry["named_ns"]), start_ns, int(entry["row"]))

    @cached_property
    def names(self) -> Names:
        """What the rows are called in the end."""
        return Names(list(self.readings.values()))

    def name(self, number: int) -> Row:
        """The row of that number under its final names, without times.

        Raises:
            KeyError: there is none.
        """
        row = self._named.get(number)
        if row is None:
            row = self._named[number] = self.names.final(self.readings[number])
        return row

    @cached_property
    def _named(self) -> dict[int, Row]:
        return {}

    def rows_of(self, operation: str) -> Any:
        """Whether the rows, by number, are of the operation of that name: an array of bool."""
        chosen = np.zeros(len(self.row_table), bool)
        for number, reading in self.readings.items():
            chosen[number] = reading.row.operation == operation
        return chosen

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(reading.row.operation for reading in self.readings.values())


def labels(hostnames: Iterable[str]) -> list[str]:
    """Hosts' names, those that come again numbered.

    >>> labels(["db7", "db8", "db7"])
    ['db7', 'db8', 'db7 (2)']
    """
    seen: Counter[str] = Counter()
    unique: list[str] = []
    for name in hostnames:
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name} ({seen[name]})"
        while label in unique:
            seen[name] += 1
            label = f"{name} ({seen[name]})"
        unique.append(label)
    return unique


def open_sources(paths: Iterable[FileName]) -> list[Source]:
    """Open recordings to be looked at together, in the order given.

    Raises:
        CorelockError: one of them cannot be read, is no recording, or was named twice.
    """
    with ExitStack() as stack:
        recordings: list[Recording] = []
        for path in paths:
            recording = stack.enter_context(_opened(path))
            same = [r.path for r in recordings if r.header["id"] == recording.header["id"]]
            if same:
                raise CorelockError(
                    f"{recording.path} is the same recording as {same[0]}",
                    "Name it once: its cycles would count twice.",
                )
            recordings.append(recording)
        names = labels(recording.header["host"]["hostname"] for recording in recordings)
        stack.pop_all()
        return [Source(recording, label) for recording, label in zip(recordings, names)]


def _opened(path: FileName) -> Recording:
    try:
        return open_recording(path)
    except OSError as error:
        raise CorelockError(
            f"cannot read {os.fsdecode(path)}: {error.strerror}",
            "Name a recording that you may read.",
        ) from error
