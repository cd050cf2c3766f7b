"""What corelock measured, as frozen values that know nothing of BPF.

Times are integers in nanoseconds. Points in time (``start_ns``) are on
``CLOCK_MONOTONIC``, the clock of ``bpf_ktime_get_ns`` and of
:func:`time.monotonic_ns`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Optional

from corelock.histogram import Histogram

if TYPE_CHECKING:
    from corelock.blame import ResolvedBlame

Mode = Literal["read", "write"]
SlowKind = Literal["wait", "hold"]
#: Process key, thread key, mode, operation: one row within its session.
RowKey = tuple[int, int, Mode, str]


class Shown:
    """A result that a Jupyter notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        # What a value looks like is not known here, only who knows.
        from corelock.render.notebook import html

        return html(self)


@dataclass(frozen=True)
class Times:
    """Waits or holds: how many, their sum, the longest, and their distribution.

    ``count`` is what the histogram holds; ``max_ns`` and ``total_ns`` are exact.
    ``recent_max_ns`` is the longest since the snapshot before (0: none), if the
    tracer keeps ``intervals``.
    """

    __slots__ = ("count", "total_ns", "max_ns", "recent_max_ns", "histogram")
    count: int
    total_ns: int
    max_ns: int
    recent_max_ns: int
    histogram: Histogram

    def quantile(self, q: float) -> Optional[int]:
        """The nearest-rank quantile (``q`` in 0..1) in ns, or None when empty."""
        return self.quantiles(q)[0]

    def quantiles(self, *qs: float) -> tuple[Optional[int], ...]:
        """As :meth:`Histogram.quantiles`, never above the exact maximum."""
        found = self.histogram.quantiles(*qs)
        return tuple(value if value is None else min(value, self.max_ns) for value in found)

    def plus(self, other: Times) -> Times:
        """Both together."""
        return Times(
            self.count + other.count,
            self.total_ns + other.total_ns,
            max(self.max_ns, other.max_ns),
            max(self.recent_max_ns, other.recent_max_ns),
            self.histogram.plus(other.histogram),
        )

    def since(self, earlier: Times) -> Times:
        """What came after ``earlier``, the snapshot just before this one."""
        return Times(
            self.count - earlier.count,
            self.total_ns - earlier.total_ns,
            self.recent_max_ns,
            self.recent_max_ns,
            self.histogram.plus(earlier.histogram, -1),
        )


@dataclass(frozen=True)
class Row:
    """What one thread did to one process's mmap_lock, by mode and operation.

    ``mm_pid`` and ``mm_comm`` name the process whose address space was locked
    (``mm_host_pid`` 0: a child whose fork was under way and that was not seen
    again), ``pid``, ``tid`` and ``comm`` the thread that locked it.
    ``operation`` is a system call's name, ``page-fault``, ``exit`` or a kernel
    thread's name. Pids and tids are those of the tracer's own pid namespace, 0
    outside of it; ``mm_host_pid``, ``host_pid`` and ``host_tid`` are those of the
    initial one. ``wait.count`` equals ``acquisitions``; ``hold.count`` is
    the number of holds. A downgraded write lock is one write hold here
    (``downgrades`` counts it) and one read hold in the read row of the same
    operation. ``process_key`` and ``thread_key`` tell apart what reused a pid
    or a tid within the session.
    """

    __slots__ = (
        "process_key", "thread_key", "mm_pid", "mm_host_pid", "mm_comm", "pid", "tid",
        "host_pid", "host_tid", "comm", "mode", "operation", "downgrades", "trylock_failures",
        "aborted_waits", "wait", "hold",
    )  # fmt: skip
    process_key: int
    thread_key: int
    mm_pid: int
    mm_host_pid: int
    mm_comm: str
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    comm: str
    mode: Mode
    operation: str
    downgrades: int
    trylock_failures: int
    aborted_waits: int
    wait: Times
    hold: Times

    @property
    def key(self) -> RowKey:
        """What makes a row one row within its session."""
        return self.process_key, self.thread_key, self.mode, self.operation

    @property
    def foreign(self) -> bool:
        """Whether the thread belongs to another process than the address space."""
        return self.mm_host_pid not in (0, self.host_pid)

    @property
    def acquisitions(self) -> int:
        """Locks obtained by asking for them (not by downgrading)."""
        return self.wait.count

    @property
    def holds(self) -> int:
        """Holds that ended."""
        return self.hold.count

    @property
    def is_active(self) -> bool:
        """Whether anything was counted at all."""
        return bool(
            self.wait.count or self.hold.count or self.trylock_failures or self.aborted_waits
        )

    def plus(self, other: Row) -> Row:
        """This row with the numbers of ``other`` added; the names stay."""
        return Row(
            self.process_key, self.thread_key, self.mm_pid, self.mm_host_pid, self.mm_comm,
            self.pid, self.tid, self.host_pid, self.host_tid, self.comm, self.mode,
            self.operation,
            self.downgrades + other.downgrades,
            self.trylock_failures + other.trylock_failures,
            self.aborted_waits + other.aborted_waits,
            self.wait.plus(other.wait),
            self.hold.plus(other.hold),
        )  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One stack frame. ``name`` and ``offset`` are None where no symbol was found."""

    __slots__ = ("address", "name", "offset", "module")
    address: int
    name: Optional[str]
    offset: Optional[int]
    module: Optional[str]


class Program(NamedTuple):
    """Where a program lies in the memory of its process.

    That tells it from the program before and after it: where stacks start is random.
    """

    code_start: int
    code_end: int
    stack_start: int


@dataclass(frozen=True)
class UserContext:
    """A thread's user registers and a copy of its stack, for unwinding and nothing else.

    ``ip``, ``sp``, ``frame`` and ``other`` are rip, rsp, rbp and rbx of x86-64, or pc, sp,
    x29 and x30 of arm64. ``stack`` is what was in memory from ``below`` bytes below ``sp``
    on; it may hold secrets, so it is in no ``repr`` and in no export.
    """

    __slots__ = ("ip", "sp", "frame", "other", "below", "stack")
    ip: int
    sp: int
    frame: int
    other: int
    below: int
    stack: bytes

    def __repr__(self) -> str:
        return f"UserContext(ip={self.ip:#x}, {len(self.stack)} bytes of stack)"


@dataclass(frozen=True)
class SlowEvent:
    """One wait or hold at or above the threshold, with raw stacks (innermost first).

    ``start_ns`` is when it began. A hold's stacks are those of its release, a
    wait's those of the thread that waited. ``stack_failed`` says that the
    kernel could not take one of them; ``user_stack_full`` that the user stack
    was cut at the depth limit. ``user_stack`` goes by frame pointers; ``user_context``
    is what finds callers without them, None for a 32-bit thread. ``process_key`` tells
    apart the address spaces that were locked; unlike a row's, it is another one after exec.
    ``program`` is what the thread itself ran, None if it had no user stack. Pids and tids
    are as in :class:`Row`.
    """

    __slots__ = (
        "kind", "start_ns", "duration_ns", "mm_pid", "mm_host_pid", "mm_comm", "pid", "tid",
        "host_pid", "host_tid", "comm", "mode", "operation", "kernel_stack", "user_stack",
        "user_stack_full", "stack_failed", "user_context", "process_key", "program",
    )  # fmt: skip
    kind: SlowKind
    start_ns: int
    duration_ns: int
    mm_pid: int
    mm_host_pid: int
    mm_comm: str
    pid: int
    tid: int
    host_pid: int
    host_tid: int
    comm: str
    mode: Mode
    operation: str
    kernel_stack: tuple[int, ...]
    user_stack: tuple[int, ...]
    user_stack_full: bool
    stack_failed: bool
    user_context: Optional[UserContext]
    process_key: int
    program: Optional[Program]

    @property
    def foreign(self) -> bool:
        """Whether the thread belongs to another process than the address space."""
        return self.mm_host_pid not in (0, self.host_pid)


@dataclass(frozen=True)
class ResolvedSlowEvent:
    """A slow event with its stacks as symbols.

    ``user_stack_note`` says in words why the user stack ends early, or is None.
    """

    __slots__ = ("event", "kernel_stack", "user_stack", "user_stack_note")
    event: SlowEvent
    kernel_stack: tuple[Frame, ...]
    user_stack: tuple[Frame, ...]
    user_stack_note: Optional[str]


@dataclass(frozen=True)
class Symbolization:
    """What became of the stack frames that were resolved.

    ``unresolved`` counts those without a name by reason, as ``{"libfoo.so: no
    symbol": 3}``. ``problems`` counts what went wrong besides and may have cost
    names or frames: bad debug files, lines of perf maps, cache files, and why user
    stacks were not unwound to their ends.
    """

    resolved: int
    unresolved: Mapping[str, int]
    problems: Mapping[str, int]


@dataclass(frozen=True)
class Accounting(Shown):
    """Where every event went.

    ``events`` counts what reached corelock's programs by tracepoint, those
    dropped by the kernel's recursion guard included. Each is exactly one of:
    ``paired``; ``held_at_start`` (ends something that began before tracing);
    ``held_at_end`` (began something that had not ended); ``unmatched``, by
    kind; ``lost``, by cause. ``slow_lost`` counts slow *records* (and stacks
    in them) that could not be kept, which loses no event.
    ``children_not_followed`` counts processes that a full table kept from being
    followed. ``hooks_missed`` counts forks, renames and exits of threads whose
    program the kernel's recursion guard dropped. ``self_events`` are the tool's
    own and are in no other number. ``charges_full`` counts pieces of waits that
    found no room to be charged to a hold, and are unknown. ``open_waits`` is how
    many of ``held_at_end``, once tracing has ended, still waited then.
    Of a recording, ``cycles_lost`` counts cycles for which a ring had no room, and
    ``stacks_full`` stacks that found no room in the kernel's table of them; both lose no event.
    ``attached_by`` is how the programs got at the events: ``tp_btf``, or ``tp``, by
    which what the kernel dropped may be in no number.
    """

    events: Mapping[str, int]
    paired: int
    held_at_start: int
    held_at_end: int
    unmatched: Mapping[str, int]
    lost: Mapping[str, int]
    slow_recorded: int
    slow_lost: Mapping[str, int]
    children_not_followed: int
    self_events: int
    hooks_missed: int = 0
    charges_full: int = 0
    open_waits: int = 0
    attached_by: str = "tp_btf"
    cycles_lost: int = 0
    stacks_full: int = 0

    @property
    def seen(self) -> int:
        """All events."""
        return sum(self.events.values())

    @property
    def unaccounted(self) -> int:
        """Seen minus the sum of where they went: 0, or the numbers cannot be trusted."""
        return self.seen - (
            self.paired
            + self.held_at_start
            + self.held_at_end
            + sum(self.unmatched.values())
            + sum(self.lost.values())
        )

    @property
    def losses(self) -> dict[str, int]:
        """What the numbers lack, by cause; causes of nothing are left out."""
        losses = {
            **self.unmatched,
            **self.lost,
            **self.slow_lost,
            "children_not_followed": self.children_not_followed,
            "hooks_missed": self.hooks_missed,
            "charges_full": self.charges_full,
            "cycles_lost": self.cycles_lost,
            "stacks_full": self.stacks_full,
            "unaccounted": self.unaccounted,
        }
        return {cause: count for cause, count in losses.items() if count}

    @property
    def complete(self) -> bool:
        """True when nothing was lost or unmatched and the sum is right."""
        return not self.losses


@dataclass(frozen=True)
class Snapshot(Shown):
    """All rows at one moment.

    ``sequence`` numbers the snapshots of a tracer from 1, if it keeps
    ``intervals``; else it is None, as snapshots cannot be subtracted then.
    """

    sequence: Optional[int]
    start_ns: int
    duration_ns: int
    rows: tuple[Row, ...]

    def since(self, earlier: Snapshot) -> Snapshot:
        """What happened between ``earlier`` and this, its immediate successor.

        Raises:
            ValueError: the tracer keeps no ``intervals``, or the two are not
                consecutive (the maxima of the interval are unknown then).
        """
        if self.sequence is None or earlier.sequence is None:
            raise ValueError("since() needs a Tracer(intervals=True)")
        if self.sequence != earlier.sequence + 1:
            raise ValueError("since() needs the snapshot taken just before this one")
        before = {row.key: row for row in earlier.rows}
        changed = []
        for row in self.rows:
            old = before.get(row.key)
            new = row if old is None else _row_since(row, old)
            if new.is_active:
                changed.append(new)
        return Snapshot(
            self.sequence,
            earlier.start_ns + earlier.duration_ns,
            self.start_ns + self.duration_ns - earlier.start_ns - earlier.duration_ns,
            tuple(changed),
        )


def _row_since(row: Row, old: Row) -> Row:
    return Row(
        row.process_key, row.thread_key, row.mm_pid, row.mm_host_pid, row.mm_comm,
        row.pid, row.tid, row.host_pid, row.host_tid, row.comm, row.mode, row.operation,
        row.downgrades - old.downgrades,
        row.trylock_failures - old.trylock_failures,
        row.aborted_waits - old.aborted_waits,
        row.wait.since(old.wait),
        row.hold.since(old.hold),
    )  # fmt: skip


@dataclass(frozen=True)
class Host:
    """Where the trace was taken."""

    kernel: str
    arch: str
    hostname: str

    @classmethod
    def this(cls) -> Host:
        """The host that this runs on."""
        uname = os.uname()
        return cls(uname.release, uname.machine, uname.nodename)


@dataclass(frozen=True)
class Target:
    """The one process that was traced. ``host_pid`` is 0 if it is not known."""

    pid: int
    comm: str
    host_pid: int = 0


@dataclass(frozen=True)
class Cgroup:
    """The cgroup (version 2) whose processes were traced.

    ``path`` is as in ``/proc/PID/cgroup``, ``folder`` its directory here; ``id`` is the
    directory's inode, which no other cgroup ever has. ``container`` is whose it is, None
    if it was asked for by its path.
    """

    path: str
    folder: str
    id: int
    container: Optional[str] = None


@dataclass(frozen=True)
class Report:
    """Everything one run has to say; what every renderer and exporter takes.

    ``accounting`` is None where nobody knows it: of a recording that was cut.
    """

    host: Host
    target: Optional[Target]
    start_ns: int
    duration_ns: int
    rows: tuple[Row, ...]
    slow: tuple[ResolvedSlowEvent, ...]
    accounting: Optional[Accounting]
    blame: Optional[ResolvedBlame] = None
    cgroup: Optional[Cgroup] = None
