"""Events one by one, with their fields and arguments: :class:`EventTrace`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Optional, Union

from corelock._native.hits import MOST_VALUES, Hit, HitProbes, Sent, UserStack
from corelock._native.probes import prototypes
from corelock.attaching import MAX_PROBES, Coverage, attach, finding, match
from corelock.errors import InvalidArgument
from corelock.model import UserContext
from corelock.names import kernel_name
from corelock.probe_session import check_cpu
from corelock.probes import arguments
from corelock.probes.filters import compile_filter
from corelock.probes.finding import Finder, Matched
from corelock.probes.operands import TEXT_BYTES
from corelock.probes.places import Field
from corelock.probes.values import Value, choose
from corelock.symbolize.syscalls import operation_name

#: How often the ring is looked at.
LOOK_S = 0.05

_NO_USER_STACK = UserStack((), False, None)


@dataclass(frozen=True)
class Event:
    """One event: a hit of a probe.

    ``probe`` is its label, ``time_ns`` on CLOCK_MONOTONIC. ``values`` are numbers and texts by
    name, in the order in which they were asked for; None is one that could not be read
    (``unread`` names it) or a text whose address is 0. ``cut`` names texts that are as long as
    there is room for, and may go on. Pids, tids and stacks are as of
    :class:`~corelock.model.SlowEvent`; a stack that was not asked for is empty. ``operation``,
    the system call it was in, is known with user stacks alone.
    """

    __slots__ = (
        "probe", "time_ns", "cpu", "comm", "pid", "tid", "host_pid", "host_tid", "values",
        "unread", "cut", "kernel_stack", "operation", "user", "stack_failed",
    )  # fmt: skip
    probe: str
    time_ns: int
    cpu: int
    comm: str
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    values: Mapping[str, Union[int, str, None]]
    unread: tuple[str, ...]
    cut: tuple[str, ...]
    kernel_stack: tuple[int, ...]
    operation: str
    user: UserStack
    stack_failed: bool

    # What corelock.symbolize needs besides; an event takes no time, and is its process's own.

    @property
    def start_ns(self) -> int:
        """When it was."""
        return self.time_ns

    @property
    def duration_ns(self) -> int:
        """None."""
        return 0

    @property
    def mm_pid(self) -> int:
        """The process whose address space it is of."""
        return self.pid

    @property
    def mm_comm(self) -> str:
        """Of that, as far as it is known."""
        return self.comm

    @property
    def foreign(self) -> bool:
        """It is of no other process."""
        return False

    @property
    def process_key(self) -> int:
        """Which of its address spaces is not known."""
        return 0

    @property
    def user_stack(self) -> tuple[int, ...]:
        """Addresses, as frame pointers have them."""
        return self.user.addresses

    @property
    def user_stack_full(self) -> bool:
        """Whether that was cut at the depth limit."""
        return self.user.full

    @property
    def user_context(self) -> Optional[UserContext]:
        """What callers without frame pointers are found by."""
        return self.user.context


@dataclass(frozen=True)
class EventAccounting:
    """Where every hit went.

    ``hits`` counts those of the process and CPU that are traced. Each was ``taken`` by the
    reader, ``filtered`` (the filter did not accept it), or ``ring_full``: lost, by probe. While
    tracing goes on, some wait in the ring. ``self_hits`` are the own process's and in no other
    number; ``missed`` were kept from the programs by the kernel, as one was running already.
    ``unread`` counts memory that a value or filter needed and that was not there.
    """

    hits: int
    taken: int
    filtered: int
    ring_full: Mapping[str, int]
    missed: int
    unread: int
    self_hits: int

    @property
    def unaccounted(self) -> int:
        """0 once all has been taken, or the numbers cannot be trusted."""
        return self.hits - self.taken - self.filtered - sum(self.ring_full.values())

    @property
    def losses(self) -> dict[str, int]:
        """What is missing, by cause; causes of nothing are left out."""
        losses = {
            "ring_full": sum(self.ring_full.values()),
            "missed": self.missed,
            "unread": self.unread,
            "unaccounted": self.unaccounted,
        }
        return {cause: count for cause, count in losses.items() if count}


class EventTrace:
    """Hits of functions, tracepoints and static probes, one by one. A context manager.

    Args:
        patterns: as of ``corelock trace``: ``t:sched:sched_switch``, ``u:libc:setjmp``,
            ``libc:malloc``, ``vfs_read``...
        pid, cpu, regex, max_probes: as of :class:`~corelock.counter.HitCounter`.
        fields: what is wanted of each event: ``length``, ``str(filename)``, ``hex(flags)``,
            ``s32(arg1)``. Default: all fields of a tracepoint and arguments of a static probe.
        filter: only events of which it is true: ``len > 4096 && comm == "qemu"``.
        kernel_stacks, user_stacks: take them with each event.
        ring_bytes: room for events that wait to be taken.

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
        check_cpu(cpu)
        self._patterns = patterns
        self._pid = pid
        self._cpu = cpu
        self._regex = regex
        self._max_probes = max_probes
        self._fields = fields
        self._filter = filter
        self._kernel_stacks = kernel_stacks
        self._user_stacks = user_stacks
        self._ring_bytes = ring_bytes or 0
        self._probes: Optional[HitProbes] = None
        self._shown: list[tuple[str, tuple[Value, ...]]] = []
        self._machine = os.uname().machine
        self._taken = 0
        self._waiting: deque[Hit] = deque()
        self._stopped = False
        self.coverage: Optional[Coverage] = None
        #: When it began, and when it was stopped (0: it was not), on CLOCK_MONOTONIC.
        self.start_ns = 0
        self.end_ns = 0

    def __enter__(self) -> EventTrace:
        if self._probes is not None:
            raise InvalidArgument("this trace was entered before", "Make another one.")
        with finding(self._pid) as finder:
            matched = match(self._patterns, finder, regex=self._regex, max_probes=self._max_probes)
            plans = self._plans(finder, matched)
        self._probes = probes = HitProbes()
        try:
            own = os.getpid()
            probes.load_trace(
                [plan.registers for plan in plans] or [Sent(())],
                [plan.array for plan in plans] or [Sent(())],
                kernel_stacks=self._kernel_stacks,
                user_stacks=self._user_stacks,
                ring_bytes=self._ring_bytes,
                pid=self._pid or 0,
                self_pid=0 if self._pid == own else own,
                cpu=self._cpu,
            )
            self._shown = [(plan.label, plan.values) for plan in plans]
            self.start_ns, self.coverage = attach(probes, matched, range(len(plans)))
        except BaseException:
            probes.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach and free; nothing can be read afterwards. Repeating it does nothing."""
        if self._probes is not None:
            self._probes.close()

    def _open(self) -> HitProbes:
        if self._probes is None:
            raise InvalidArgument("this trace is not open", "Use it as a context manager.")
        return self._probes

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
            if not self._stopped and time.monotonic() > deadline:
                return
            self._waiting.extend(self._open().hits())
            if not self._waiting:
                return

    def __iter__(self) -> Iterator[Event]:
        """Events as they come, until :meth:`stop`, in another thread, and all has been taken."""
        while True:
            last = self._stopped
            yield from self.take()
            if last:
                return
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Stop and detach; what waits can still be taken. May be repeated."""
        self.end_ns = self._open().detach()
        self._stopped = True

    def accounting(self) -> EventAccounting:
        """Where every hit went so far; the sum is right once stopped and taken."""
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
        )

    @property
    def counts_missed(self) -> bool:
        """Whether the kernel counts all hits that it keeps from programs."""
        return self._open().totals().counts_missed

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
                    "Name those that matter: --fields.",
                )
            registers = self._sent(each.registers, values)
            array = self._sent(each.array, others)
            plans.append(_Plan(each.label, values, registers, array))
        return plans

    def _sent(self, fields: Sequence[Field], values: Sequence[Value]) -> Sent:
        operands = {field.name: field.operand for field in fields if field.operand is not None}
        tests = None if self._filter is None else compile_filter(self._filter, operands)
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
                yield _fields_of_function(place.label, known.get(place.name))


def _fields_of_function(label: str, known: Optional[Sequence[arguments.Argument]]) -> _Fields:
    offsets = arguments.register_offsets()
    if known is None:
        fields = arguments.untyped(offsets)
        return _Fields(label, fields, fields)
    known = known[: len(offsets)]
    return _Fields(
        label,
        arguments.typed(known, offsets),
        arguments.typed(known, arguments.array_offsets(len(known))),
    )
