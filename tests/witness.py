"""The independent witness: the kernel's own ftrace, and a second opinion on what it shows.

:class:`Ftrace` records every mmap_lock event of the host with its time in
nanoseconds; :func:`recompute` makes waits and holds of them, with no code in
common with what it is there to check.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Optional, Protocol, TypeVar

Kind = Literal["start", "acquire", "release"]
Mode = Literal["read", "write"]

TRACEFS = Path("/sys/kernel/tracing")
KINDS: dict[str, Kind] = {
    "mmap_lock_start_locking": "start",
    "mmap_lock_acquire_returned": "acquire",
    "mmap_lock_released": "release",
}


class Event(NamedTuple):
    """One tracepoint hit. ``mm`` is the kernel's address of the mm_struct."""

    ts_ns: int
    tid: int
    kind: Kind
    mm: int
    write: bool
    success: bool = True

    @property
    def mode(self) -> Mode:
        """What was asked for."""
        return "write" if self.write else "read"


# --- recording --------------------------------------------------------------------------------


class EventFormat(Protocol):
    """Makes events of records of one kind."""

    def event(self, ts_ns: int, page: bytes, position: int) -> Any:
        """The event whose record begins at ``position``."""


class FtraceInstance:
    """Records events of the whole host, in a tracing instance of its own.

    ``events`` are a category and a name each; :meth:`formats` says what becomes of their records.
    """

    _numbers = itertools.count()

    def __init__(
        self, events: Iterable[tuple[str, str]], buffer_kib_per_cpu: int = 64 << 10
    ) -> None:
        self.events = tuple(events)
        self.buffer_kib_per_cpu = buffer_kib_per_cpu
        self._cleanup = ExitStack()

    def __enter__(self: Self) -> Self:
        with ExitStack() as cleanup:
            self._tracefs = _tracefs(cleanup)
            name = f"witness-{os.getpid()}-{next(self._numbers)}"
            self.instance = self._tracefs / "instances" / name
            self.instance.mkdir()
            cleanup.callback(self.instance.rmdir)
            self._set("tracing_on", "0")
            self._set("trace_clock", "mono")
            self._set("buffer_size_kb", str(self.buffer_kib_per_cpu))
            for category, event in self.events:
                self._set(f"events/{category}/{event}/enable", "1")
            self._set("tracing_on", "1")
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._cleanup.close()

    def take(self, make: Callable[[str, str], EventFormat]) -> list[tuple[int, Any]]:
        """Stop recording, and take all events out of the buffer, each after its CPU's number.

        ``make`` makes a format of an event's name and its ``format`` file.
        """
        self._set("tracing_on", "0")
        formats = {}
        for category, name in self.events:
            text = (self._tracefs / "events" / category / name / "format").read_text()
            formats[int(re.findall(r"^ID: (\d+)$", text, re.M)[0])] = make(name, text)
        offset, size = _fields((self._tracefs / "events" / "header_page").read_text())["data"]
        events: list[tuple[int, Any]] = []
        for raw in (self.instance / "per_cpu").glob("cpu*/trace_pipe_raw"):
            cpu = int(raw.parent.name[len("cpu") :])
            for page in _pages(raw, offset + size):
                events.extend((cpu, event) for event in decode_page(page, formats))
        return events

    @property
    def lost(self) -> int:
        """Events that did not fit into the buffer. Above 0 the recording proves nothing."""
        lost = 0
        for stats in (self.instance / "per_cpu").glob("cpu*/stats"):
            counts = dict(re.findall(r"^(.+): (\d+)$", stats.read_text(), re.M))
            lost += sum(int(counts[k]) for k in ("overrun", "commit overrun", "dropped events"))
        return lost

    def _set(self, path: str, value: str) -> None:
        (self.instance / path).write_text(value)


Self = TypeVar("Self", bound=FtraceInstance)


class Ftrace(FtraceInstance):
    """Records the mmap_lock events of the whole host.

    >>> with Ftrace() as ftrace:  # doctest: +SKIP
    ...     workload.run()
    ...     events = ftrace.stop()
    ...     assert ftrace.lost == 0
    """

    def __init__(self, buffer_kib_per_cpu: int = 64 << 10) -> None:
        super().__init__([("mmap_lock", name) for name in KINDS], buffer_kib_per_cpu)

    def stop(self) -> list[Event]:
        """Stop recording, and take all events out of the buffer, in order of time."""
        taken = self.take(lambda name, text: RecordFormat(KINDS[name], text))
        # Stable: events of one CPU keep their order even at the same time.
        return sorted((event for _, event in taken), key=lambda event: event.ts_ns)


def _tracefs(cleanup: ExitStack) -> Path:
    """Where tracefs is mounted; a private mount of it where it is not."""
    if (TRACEFS / "instances").is_dir():
        return TRACEFS
    path = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tracefs-"))
    subprocess.run(["mount", "-t", "tracefs", "none", path], check=True)
    cleanup.callback(subprocess.run, ["umount", path], check=True)
    return Path(path)


def _pages(raw: Path, page_bytes: int) -> Iterator[bytes]:
    """The pages of one CPU's buffer, taken out of it."""
    fd = os.open(raw, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # An empty buffer would block.
        with suppress(BlockingIOError):
            while page := os.read(fd, page_bytes):
                yield page
    finally:
        os.close(fd)


# --- decoding: the layout that events/header_page and events/header_event describe -------------

_PAGE_HEADER = struct.Struct("<QQ")  # time in ns, bytes of data that follow
_LENGTH_MASK = (1 << 27) - 1  # the bits above it are flags
_WORD = struct.Struct("<I")
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31


def _fields(text: str) -> dict[str, tuple[int, int]]:
    """``{name: (offset, size)}`` of a format file."""
    pattern = r"field:[^;]*?(\w+);\s*offset:(\d+);\s*size:(\d+);"
    return {name: (int(offset), int(size)) for name, offset, size in re.findall(pattern, text)}


class RecordFormat:
    """Where one event's members are in its record, from its ``format`` file."""

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind = kind
        layout, end = "<", 0
        fields = _fields(text)
        for name, code in ("common_pid", "i"), ("mm", "Q"), ("write", "?"), ("success", "?"):
            if name in fields:
                offset, size = fields[name]
                layout += f"{offset - end}x{code}"
                end = offset + size
        self._struct = struct.Struct(layout)

    def event(self, ts_ns: int, page: bytes, position: int) -> Event:
        """The event whose record begins at ``position``."""
        tid, mm, *flags = self._struct.unpack_from(page, position)
        return Event(ts_ns, tid, self.kind, mm, *flags)


def decode_page(page: bytes, formats: Mapping[int, EventFormat]) -> Iterator[Any]:
    """The events of one page; ``formats`` by event id."""
    ts_ns, length = _PAGE_HEADER.unpack_from(page)
    position = _PAGE_HEADER.size
    end = position + (length & _LENGTH_MASK)
    while position < end:
        (word,) = _WORD.unpack_from(page, position)
        code, delta_ns = word & 31, word >> 5
        position += _WORD.size
        if code == _PADDING and not delta_ns:
            return
        if 0 < code < _PADDING:
            length = 4 * code
            ts_ns += delta_ns
            event_id = page[position] | page[position + 1] << 8
            yield formats[event_id].event(ts_ns, page, position)
            position += length
            continue
        (extra,) = _WORD.unpack_from(page, position)
        if code == _PADDING:
            position += extra
        elif code == _TIME_EXTEND:
            ts_ns += (extra << 27) + delta_ns
            position += _WORD.size
        elif code == _TIME_STAMP:
            ts_ns = (extra << 27) + delta_ns
            position += _WORD.size
        else:
            # Code 0 is a record too long for its length to fit in the code. None of ours is.
            raise ValueError(f"unexpected long record at byte {position} of a page")


# --- recomputing ------------------------------------------------------------------------------


@dataclass
class Totals:
    """What one thread did in one mode. Waits are of acquisitions, not of failures."""

    acquisitions: int = 0
    holds: int = 0
    downgrades: int = 0
    failures: int = 0
    wait_total_ns: int = 0
    hold_total_ns: int = 0
    wait_max_ns: int = 0
    hold_max_ns: int = 0

    def add_wait(self, wait_ns: int) -> None:
        """One acquisition, after this wait."""
        self.acquisitions += 1
        self.wait_total_ns += wait_ns
        self.wait_max_ns = max(self.wait_max_ns, wait_ns)

    def add_hold(self, hold_ns: int) -> None:
        """One hold that ended."""
        self.holds += 1
        self.hold_total_ns += hold_ns
        self.hold_max_ns = max(self.hold_max_ns, hold_ns)


@dataclass
class Account:
    """All that :func:`recompute` found, by ``(tid, mode)`` and in whole.

    ``held_at_start`` counts events that ended something of before the first
    start of their thread and mm, ``unmatched`` those that ended nothing later.
    """

    totals: dict[tuple[int, Mode], Totals] = field(default_factory=lambda: defaultdict(Totals))
    open_waits: int = 0
    open_holds: int = 0
    held_at_start: int = 0
    unmatched: Counter[Kind] = field(default_factory=Counter)

    def sum(self, mode: Mode, tids: Optional[Collection[int]] = None) -> Totals:
        """The threads' totals together (all threads: None)."""
        result = Totals()
        for (tid, its_mode), totals in self.totals.items():
            if its_mode == mode and (tids is None or tid in tids):
                for name, value in vars(totals).items():
                    combine = max if name.endswith("_max_ns") else int.__add__
                    setattr(result, name, combine(getattr(result, name), value))
        return result


class _Open:
    """What one thread has begun and not ended on one mm: times, the innermost last."""

    def __init__(self) -> None:
        self.started = False
        self.waits: dict[bool, list[int]] = {False: [], True: []}  # by write
        self.holds: dict[bool, list[int]] = {False: [], True: []}


def recompute(events: Iterable[Event]) -> Account:
    """Pair the events (in order of time) by thread and mm, the innermost first."""
    account = Account()
    open_by_key: dict[tuple[int, int], _Open] = defaultdict(_Open)

    for event in events:
        state = open_by_key[event.tid, event.mm]
        totals = account.totals[event.tid, event.mode]
        waits, holds = state.waits[event.write], state.holds[event.write]

        if event.kind == "start":
            state.started = True
            waits.append(event.ts_ns)
        elif event.kind == "release" and holds:
            totals.add_hold(event.ts_ns - holds.pop())
        elif event.kind == "acquire" and waits:
            start_ns = waits.pop()
            if event.success:
                totals.add_wait(event.ts_ns - start_ns)
                holds.append(event.ts_ns)
            else:
                totals.failures += 1
        elif event.kind == "acquire" and event.success and not event.write and state.holds[True]:
            writer = account.totals[event.tid, "write"]
            writer.downgrades += 1
            writer.add_hold(event.ts_ns - state.holds[True].pop())
            holds.append(event.ts_ns)
        elif state.started:
            account.unmatched[event.kind] += 1
        else:
            account.held_at_start += 1

    for state in open_by_key.values():
        account.open_waits += sum(map(len, state.waits.values()))
        account.open_holds += sum(map(len, state.holds.values()))
    return account


# --- choosing ---------------------------------------------------------------------------------


def by_threads(events: Iterable[Event], tids: Collection[int]) -> list[Event]:
    """The events of these threads, whichever mm they locked."""
    return [event for event in events if event.tid in tids]


def mms_of(events: Iterable[Event], tids: Collection[int]) -> list[int]:
    """The mms that these threads locked for themselves, in the order they came to them.

    More than one: there was an exec. The mm that fork makes for a child does
    not count; it is locked only inside a hold of the parent's own.
    """
    mms: dict[int, None] = {}
    held: dict[int, set[int]] = defaultdict(set)
    for event in by_threads(events, tids):
        if event.kind == "release":
            held[event.tid].discard(event.mm)
        elif event.kind == "acquire" and event.success:
            held[event.tid].add(event.mm)
        elif event.kind == "start" and not held[event.tid] - {event.mm}:
            mms[event.mm] = None
    return list(mms)


def on_process(events: Iterable[Event], tids: Collection[int], ended: bool = False) -> list[Event]:
    """The events on the mms of the process with these threads, whoever locked them.

    ``ended`` says that the process did not outlive the recording.
    """
    events = list(events)
    mms = mms_of(events, tids)
    if not mms:
        return []
    # An mm that begins or ends meanwhile has its address from, or leaves it to,
    # that of another process: it counts only while these threads use it.
    begin_ns: dict[int, int] = {}
    end_ns: dict[int, int] = {}
    for event in by_threads(events, tids):
        begin_ns.setdefault(event.mm, event.ts_ns)
        end_ns[event.mm] = event.ts_ns
    begin_ns[mms[0]] = events[0].ts_ns
    if not ended:
        end_ns[mms[-1]] = events[-1].ts_ns
    return [e for e in events if e.mm in mms and begin_ns[e.mm] <= e.ts_ns <= end_ns[e.mm]]
