"""Rows merged by thread, operation and mode, or by fewer of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from corelock.histogram import Histogram
from corelock.model import Mode, Row, Times

BY_FIELDS = ("thread", "operation", "mode")
HOST = "host"


class Name(NamedTuple):
    """A process or thread: its name, and its pid or tid as of :func:`shown_id`."""

    comm: str
    id: int


def shown_id(id_: int, host_id: int) -> int:
    """A pid or tid, or, of what is outside of the tracer's pid namespace, minus that on the host.

    Like pids, of two processes it is never the same.
    """
    return id_ or -host_id


@dataclass(frozen=True)
class Group:
    """Rows that agree in the chosen fields, added up.

    A field that was not chosen is None. ``process`` (whose address space was
    locked) goes with ``thread``: without it a group spans all of them.
    """

    host: Optional[str]
    process: Optional[Name]
    thread: Optional[Name]
    foreign: bool
    operation: Optional[str]
    mode: Optional[Mode]
    downgrades: int
    trylock_failures: int
    aborted_waits: int
    wait: Times
    hold: Times

    @property
    def acquisitions(self) -> int:
        """Locks obtained by asking for them (not by downgrading)."""
        return self.wait.count

    @property
    def holds(self) -> int:
        """Holds that ended."""
        return self.hold.count


def group(
    rows: Iterable[Row], by: Sequence[str], hosts: Optional[Mapping[int, str]] = None
) -> list[Group]:
    """Merge ``rows`` that agree in the fields ``by``, in order of first appearance.

    Threads are told apart by identity, not by tid, and apart per address space
    they locked. ``hosts`` has the host of each row by its ``process_key``, if rows are of
    several; then ``by`` may have ``HOST``, too.

    Raises:
        ValueError: ``by`` names something that is not in ``BY_FIELDS``.
    """
    fields = BY_FIELDS if hosts is None else (HOST, *BY_FIELDS)
    unknown = [field for field in by if field not in fields]
    if unknown:
        raise ValueError(f"cannot group by {unknown[0]!r}, only by {', '.join(fields)}")
    members: dict[tuple[object, ...], list[Row]] = {}
    of_host = hosts if hosts and HOST in by else {}
    for row in rows:
        host = of_host.get(row.process_key)
        members.setdefault((host, *_key(row, by)), []).append(row)
    return [_merge(alike, by, of_host.get(alike[0].process_key)) for alike in members.values()]


def several_processes(groups: Iterable[Group]) -> bool:
    """Whether the groups have to be told apart by process."""
    return len({(g.host, g.process) for g in groups if g.process}) > len({g.host for g in groups})


def _key(row: Row, by: Sequence[str]) -> tuple[object, ...]:
    return (
        (row.process_key, row.thread_key) if "thread" in by else None,
        row.operation if "operation" in by else None,
        row.mode if "mode" in by else None,
    )


def _merge(rows: list[Row], by: Sequence[str], host: Optional[str]) -> Group:
    first = rows[0]
    by_thread = "thread" in by
    return Group(
        host=host,
        process=Name(first.mm_comm, shown_id(first.mm_pid, first.mm_host_pid))
        if by_thread
        else None,
        thread=Name(first.comm, shown_id(first.tid, first.host_tid)) if by_thread else None,
        foreign=by_thread and first.foreign,
        operation=first.operation if "operation" in by else None,
        mode=first.mode if "mode" in by else None,
        downgrades=sum(row.downgrades for row in rows),
        trylock_failures=sum(row.trylock_failures for row in rows),
        aborted_waits=sum(row.aborted_waits for row in rows),
        wait=_sum([row.wait for row in rows]),
        hold=_sum([row.hold for row in rows]),
    )


def _sum(times: list[Times]) -> Times:
    if len(times) == 1:
        return times[0]
    # Not Times.plus one by one: that packs a histogram anew for each of 10,000 threads.
    counts: dict[int, int] = {}
    for one in times:
        for index, count in one.histogram:
            counts[index] = counts.get(index, 0) + count
    return Times(
        sum(one.count for one in times),
        sum(one.total_ns for one in times),
        max(one.max_ns for one in times),
        max(one.recent_max_ns for one in times),
        Histogram.from_counts(counts),
    )
