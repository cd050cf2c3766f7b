"""Events one by one, with their fields and arguments: :class:`EventTrace`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional, Union

from corelock._native.convert import UserStack
from corelock._native.hits import MOST_VALUES, Hit, HitProbes, Sent
from corelock._native.probes import prototypes
from corelock.arguments import check_range, check_text, check_texts
from corelock.errors import InvalidArgument
from corelock.events import Event, EventAccounting
from corelock.matching import MAX_PROBES, finding, match
from corelock.names import kernel_name
from corelock.probe_session import ProbeSession
from corelock.probes import arguments
from corelock.probes.filters import compile_filter
from corelock.probes.finding import Finder, Matched
from corelock.probes.operands import TEXT_BYTES
from corelock.probes.places import Field, Place
from corelock.probes.values import Value, choose
from corelock.symbolize.syscalls import operation_name

LEAST_RING_BYTES, MOST_RING_BYTES = 1 << 12, 1 << 30

#: How often the ring is looked at.
LOOK_S = 0.05

_NO_USER_STACK = UserStack((), False, None, None)


class EventTrace(ProbeSession[HitProbes]):
    """Hits of functions, tracepoints and static probes, one by one. A context manager.

    Args:
        patterns: as of ``corelock trace``: ``t:sched:sched_switch``, ``u:libc:setjmp``,
            ``libc:malloc``, ``vfs_read``...
        pid, cpu, regex, max_probes: as of :class:`~corelock.counter.HitCounter`.
        fields: what is wanted of each event: ``length``, ``str(filename)``, ``hex(flags)``,
            ``s32(arg1)``. Default: all fields of a tracepoint and arguments of a static probe.
        filter: only events of which it is true: ``len > 4096 && comm == "qemu"``.
        kernel_stacks, user_stacks: take them with each event.
        ring_bytes: room for events that wait to be taken, 4 KiB to 1 GiB.

    The own process's hits are left out, and counted, unless ``pid`` is its own.

    >>> import corelock
    >>> probe = "t:syscalls:sys_enter_kill"
    >>> with corelock.EventTrace(probe, pid=os.getpid(), fields=["s32(sig)"]) as trace:
    ...     os.kill(os.getpid(), 0)
    ...     trace.stop()
    ...     [event.values for event in trace.take()]
    [{'s32(sig)': 0}]

    Raises:
        InvalidArgument: an argument makes no sense, or too many places match; on entering, that
            there is no such field, or the filter makes no sense.
        NoSuchProbe, NoSuchTarget: there is nothing of that name; on entering.
        Unsupported, MissingPrivilege, LoadError, LibraryError: on entering.
    """

    def __init__(
        self,
        *patterns: str,
        pid: Optional[int] = None,
        cpu: Optional[int] = None,
        regex: bool = False,
        max_probes: int = MAX_PROBES,
        fields: Optional[Sequence[str]] = None,
        filter: Optional[str] = None,
        kernel_stacks: bool = False,
        user_stacks: bool = False,
        ring_bytes: Optional[int] = None,
    ) -> None:
        super().__init__(pid, cpu)
        check_texts("fields", fields)
        check_text("filter", filter)
        check_range("ring_bytes", ring_bytes, LEAST_RING_BYTES, MOST_RING_BYTES)
        self._patterns = patterns
        self._regex = regex
        self._max_probes = max_probes
        self._fields = fields
        self._filter = filter
        self._kernel_stacks = kernel_stacks
        self._user_stacks = user_stacks
        self._ring_bytes = ring_bytes or 0
        self._shown: list[tuple[str, tuple[Value, ...]]] = []
        self._machine = os.uname().machine
        self._taken = 0
        self._waiting: deque[Hit] = deque()
        self._lock = threading.Lock()  # of what calls the library

    def _make(self) -> HitProbes:
        return HitProbes()

    def _load(self, probes: HitProbes) -> tuple[Sequence[Matched], Sequence[int]]:
        with finding(self._pid) as finder:
            matched = match(self._patterns, finder, regex=self._regex, max_probes=self._max_probes)
            plans = self._plans(finder, matched)
        probes.load_trace(
            [plan.registers for plan in plans] or [Sent(())],
            [plan.array for plan in plans] or [Sent(())],
            kernel_stacks=self._kernel_stacks,
            user_stacks=self._user_stacks,
            ring_bytes=self._ring_bytes,
            **self._whose,
        )
        self._shown = [(plan.label, plan.values) for plan in plans]
        return matched, range(len(plans))

    def fileno(self) -> int:
        """Polls readable when the ring is a quarter full, or with user stacks at each event.

        Look every now and then, too.
        """
        return self._open().fd()

    @property
    def shows_hex(self) -> Mapping[str, frozenset[str]]:
        """By label, the names of values that are addresses and the like."""
        return {
            label: frozenset(value.name for value in values if value.is_hex)
            for label, values in self._shown
        }

    def take(self) -> Iterator[Event]:
        """The events that wait now, nearly in order of time.

        While tracing goes on, what comes for ``LOOK_S`` seconds: it may never be all. What is
        not taken, the next call has.
        """
        deadline = time.monotonic() + LOOK_S
        while True:
            while self._waiting:
                self._taken += 1
                yield self._event(self._waiting.popleft())
            if not self.end_ns and time.monotonic() > deadline:
                return
            with self._lock:
                self._waiting.extend(self._open().hits())
            if not self._waiting:
                return

    def __iter__(self) -> Iterator[Event]:
        """Events as they come, until :meth:`stop` and all has been taken.

        Whoever stops it, in another thread, waits for this one before leaving the block.
        """
        while True:
            last = self.end_ns > 0
            yield from self.take()
            if last:
                return
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Stop; what waits can still be taken. May be repeated. Leaving the block detaches."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """Detach and free, as leaving the block does. Repeating it does nothing."""
        with self._lock:
            super().close()

    def accounting(self) -> EventAccounting:
        """Where every hit went so far; the sum is right once stopped and taken."""
        with self._lock:
            probes = self._open()
            totals, counts = probes.totals(), probes.hit_counts()
        ring_full: dict[str, int] = {}
        for (label, _), one in zip(self._shown, counts):
            if one.ring_full:
                ring_full[label] = ring_full.get(label, 0) + one.ring_full
        return EventAccounting(
            hits=sum(one.hits for one in counts),
            taken=self._taken,
            filtered=sum(one.filtered for one in counts),
            ring_full=ring_full,
            missed=totals.missed,
            unread=totals.faults,
            self_hits=totals.self_hits,
            main_thread_ended=totals.main_thread_ended,
        )

    # --- before and after -------------------------------------------------------------

    def _plans(self, finder: Finder, matched: Sequence[Matched]) -> list[_Plan]:
        """What is sent of each candidate, in their order."""
        fields = list(_fields_of_all(finder, matched))
        by_registers = choose(self._fields, [each.registers for each in fields])
        by_array = choose(self._fields, [each.array for each in fields])
        plans = []
        for each, values, others in zip(fields, by_registers, by_array):
            if len(values) > MOST_VALUES:
                raise InvalidArgument(
                    f"{each.label} has {len(values)} fields, and {MOST_VALUES} is the most",
                    "Name those that matter: fields, --fields.",
                )
            registers = self._sent(each.label, each.registers, values)
            array = self._sent(each.label, each.array, others)
            plans.append(_Plan(each.label, values, registers, array))
        return plans

    def _sent(self, label: str, fields: Sequence[Field], values: Sequence[Value]) -> Sent:
        operands = {field.name: field.operand for field in fields if field.operand is not None}
        tests = None if self._filter is None else compile_filter(self._filter, operands, label)
        return Sent(tuple(value.operand for value in values), tests)

    def _event(self, hit: Hit) -> Event:
        label, shown = self._shown[hit.probe]
        comm = kernel_name(hit.comm)
        values: dict[str, Union[int, str, None]] = {}
        unread: list[str] = []
        cut: list[str] = []
        for number, (value, raw) in enumerate(zip(shown, hit.values)):
            if (hit.unread | hit.null) >> number & 1:
                values[value.name] = None
                if hit.unread >> number & 1:
                    unread.append(value.name)
            elif isinstance(raw, bytes):
                text = raw.partition(b"\0")[0]
                values[value.name] = text.decode(errors="backslashreplace")
                if len(text) == TEXT_BYTES - 1:
                    cut.append(value.name)
            else:
                values[value.name] = raw
        failed = (self._kernel_stacks and hit.kernel_stack is None) or (
            self._user_stacks and hit.user is None
        )
        return Event(
            label, hit.time_ns, hit.cpu, comm, hit.pid, hit.tid, hit.host_pid, hit.host_tid,
            values, tuple(unread), tuple(cut), hit.kernel_stack or (),
            operation_name(hit.operation, comm, self._machine) if self._user_stacks else "",
            hit.user or _NO_USER_STACK, failed,
        )  # fmt: skip


class _Fields(NamedTuple):
    """The fields of a place: where they are in a record or registers, or in an array."""

    label: str
    registers: Sequence[Field]
    array: Sequence[Field]


class _Plan(NamedTuple):
    """What is sent of a place, and how it is shown."""

    label: str
    values: tuple[Value, ...]
    registers: Sent
    array: Sent


def _fields_of_all(finder: Finder, matched: Iterable[Matched]) -> Iterator[_Fields]:
    """The fields of each candidate, in their order."""
    for one in matched:
        places = [candidate.place for candidate in one.candidates]
        kind = one.pattern.kind
        known = prototypes(place.name for place in places) if kind == "FUNCTION" else {}
        for place in places:
            if kind == "TRACEPOINT":
                fields = finder.tracepoints.fields(*place.label.split(":", 1))
                yield _Fields(place.label, fields, fields)
            elif kind == "STATIC":
                yield _Fields(place.label, place.fields, place.fields)
            else:
                # A module's function may be called like one of the kernel's own.
                own = place.label == place.name
                yield _fields_of_function(place, known.get(place.name) if own else None)


def _fields_of_function(place: Place, known: Optional[Sequence[arguments.Argument]]) -> _Fields:
    label, offsets = place.label, arguments.register_offsets()
    if known is None:
        fields = arguments.untyped(offsets, of_user=place.kind == "USER")
        return _Fields(label, fields, fields)
    known = known[: len(offsets)]
    return _Fields(
        label,
        arguments.typed(known, offsets),
        arguments.typed(known, arguments.array_offsets(len(known))),
    )
