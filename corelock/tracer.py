"""The embedding API: :class:`Tracer`."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Optional, TypeVar, get_args

from corelock import arguments, target
from corelock._native import SLOW_BATCH_BYTES, Options, Session
from corelock._rows import assemble
from corelock.arguments import FileName, check_range, check_text
from corelock.errors import InvalidArgument
from corelock.model import Accounting, Cgroup, RowKey, SlowEvent, SlowKind, Snapshot

if TYPE_CHECKING:
    from corelock.activity import Activity, WaitBlame
    from corelock.blame import Blame

_Self = TypeVar("_Self", bound="Tracer")

DEFAULT_SLOW_NS = 100_000

#: How programs can get at the events.
Attach = Literal["tp_btf", "tp"]
ATTACH: tuple[Attach, ...] = get_args(Attach)

MAX_SLOW_NS = (1 << 63) - 1
MAX_ROWS = 1 << 22
MAX_RING_BYTES = 1 << 30

#: Some hundred events between two reads; and more if short ones, of which there are more, count.
_RING_BYTES = 8 << 20
_RING_BYTES_FOR_SHORT = 32 << 20
#: A copied stack takes up to 16 KiB, and a host has tens of thousands of rows.
_WHOLE_EXAMPLES = 1000
#: Slow waits of which it is remembered whose they were.
_KNOWN_WAITS = 1000
#: Holders that a single wait is charged to, the largest parts.
_CAUSES = 10
#: Rows a thread needs with room to spare: a handful of operations, two modes.
_ROWS_PER_THREAD = 4
_MIN_ROWS = 8192
#: Processes come and go on a host, and each leaves its rows.
_MIN_HOST_ROWS = 32768


class Tracer:
    """Times one target's mmap_lock from ``start`` to ``stop``, in the kernel.

    Exactly one of ``pid`` (the address space of a process, whoever locks it),
    ``tid`` (one thread, whichever address space it locks), ``comm`` (the
    address spaces of all processes of that name), ``cgroup`` (of all processes in
    that cgroup of version 2 or below it: its directory, or its path in
    ``/proc/PID/cgroup``), ``container`` (the same for the one whose id begins so),
    ``everything`` (the host's) and ``command`` (a program to start and its arguments,
    word by word, traced from its first instruction) says what is traced. Processes
    that move into a cgroup are traced from then on, those that leave it no longer.
    Files (``cgroup``, ``btf``, words of ``command``) are named by strings or path objects.

    Args:
        follow: trace the target's future children too (``pid`` or ``command``).
        slow_ns: waits and holds of at least this many ns come with stacks from
            :meth:`slow_events`; 0 is every one, None is none.
        max_rows: room for so many (address space, thread, mode, operation)
            combinations; by default sized by the threads there are now. What
            does not fit is counted in :meth:`accounting` as ``map_full``.
        intervals: snapshots can be subtracted (:meth:`Snapshot.since`), which
            costs each event a little.
        ring_bytes: room for slow events, 18 KiB each, between two reads; default
            8 MiB, or 32 MiB if ``slow_ns`` is below its own default.
        blame: charge each wait to the holds that overlapped it, for :meth:`blame`.
        examples: with ``blame``, every thread and operation sends examples of its waits and
            holds with stacks; else only what is slow comes with stacks.
        attach: how to get at the events: ``tp_btf`` (their arguments; whatever the kernel drops
            is counted) or ``tp`` (their records, by tracefs, which costs more); by default
            ``tp`` only if ``tp_btf`` is refused.
        btf: file with the kernel's BTF, where ``/sys/kernel/btf`` does not have it; needs
            CAP_SYS_ADMIN.

    A context manager: entering starts, leaving closes. It installs no signal
    handler, prints nothing, and may be used by any thread and closed by
    another. The tracing process's own locking is left out (and counted),
    unless it is the target itself. In a child that was forked meanwhile it can only be
    closed, which gives back what the child inherited: tracing goes on in the parent.

    >>> import corelock, mmap, os
    >>> with corelock.Tracer(pid=os.getpid()) as tracer:
    ...     region = mmap.mmap(-1, 1 << 24)
    ...     tracer.stop()
    ...     any(row.operation == "mmap" for row in tracer.snapshot().rows)
    ...     tracer.accounting().unaccounted
    True
    0

    Raises:
        InvalidArgument: contradictory or impossible arguments, or of a wrong type.
        NoSuchTarget: no such process, or one without an address space; no such
            cgroup or container.
        Unsupported, MissingPrivilege, LoadError, LibraryError: see
            :mod:`corelock.errors`; nothing stays attached.
    """

    def __init__(
        self,
        *,
        pid: Optional[int] = None,
        tid: Optional[int] = None,
        comm: Optional[str] = None,
        cgroup: Optional[FileName] = None,
        container: Optional[str] = None,
        everything: bool = False,
        command: Optional[Sequence[FileName]] = None,
        follow: bool = False,
        slow_ns: Optional[int] = DEFAULT_SLOW_NS,
        max_rows: Optional[int] = None,
        ring_bytes: Optional[int] = None,
        intervals: bool = False,
        blame: bool = False,
        examples: bool = True,
        attach: Optional[Attach] = None,
        btf: Optional[FileName] = None,
    ) -> None:
        for id_ in pid, tid:
            if id_ is not None:
                target.check_positive(id_)
        check_text("comm", comm)
        check_text("container", container)
        self._comm = comm
        self._container = container
        self._cgroup_path = arguments.file_name("cgroup", cgroup)
        self._btf = arguments.file_name("btf", btf)
        self._command = arguments.words(command)
        named = [given is not None for given in (pid, tid, comm, cgroup, container)]
        if sum([*named, everything, bool(self._command)]) != 1:
            raise InvalidArgument(
                "name exactly one target",
                "One of pid, tid, comm, cgroup, container, everything, command.",
            )
        if follow and pid is None and not self._command:
            raise InvalidArgument(
                "only the children of a process can be followed", "Use it with pid or command."
            )
        check_range("slow_ns", slow_ns, 0, MAX_SLOW_NS)
        check_range("max_rows", max_rows, 1, MAX_ROWS)
        check_range("ring_bytes", ring_bytes, 1, MAX_RING_BYTES)
        self._tid = tid
        self._everything = everything
        self._follow = follow
        self._slow_ns = slow_ns
        self._max_rows = max_rows
        if ring_bytes is None:
            short = slow_ns is not None and slow_ns < DEFAULT_SLOW_NS
            ring_bytes = _RING_BYTES_FOR_SHORT if short else _RING_BYTES
        self._ring_bytes = ring_bytes
        self._intervals = intervals
        self._blame = blame
        self._send_examples = examples
        if attach not in (None, *ATTACH):
            raise InvalidArgument(
                f"no such way to attach: {attach}", f"One of {', '.join(ATTACH)}."
            )
        self._attach_by = attach
        #: The traced process, once known: the one given, or the command's.
        self.pid = pid
        #: Its pid in the initial pid namespace, once started; 0 for other targets.
        self.host_pid = 0
        #: The traced cgroup, once started.
        self.cgroup: Optional[Cgroup] = None
        self._lock = threading.RLock()
        self._session: Optional[Session] = None
        self._sequence = 0
        self._start_ns = 0
        self._end_ns: Optional[int] = None
        self._room = 0
        #: Shorter waits and holds than these need not be sent, by the last slow_events().
        self._least: dict[SlowKind, int] = {"wait": 0, "hold": 0}
        #: What was taken from the ring and not yet given out.
        self._slow: deque[SlowEvent] = deque()
        self._new_examples: deque[SlowEvent] = deque()
        self._examples: dict[tuple[int, SlowKind], SlowEvent] = {}  # longest, by row index
        self._whole_examples: list[tuple[int, int, tuple[int, SlowKind]]] = []
        self._order = itertools.count()
        #: Rows of the latest slow waits, by thread and start, for :meth:`blame_of`.
        self._row_of_wait: dict[tuple[int, int], int] = {}
        self._looked_ns = 0

    def start(self) -> None:
        """Load and attach; returns when counting has begun.

        Raises:
            As the constructor's list says; also when called twice.
        """
        with self._lock:
            self._check_not_started()
            target.check_proc()
            session = Session()
            try:
                self._start(session)
            except BaseException:
                session.close()
                raise
            self._session = session

    def _check_not_started(self) -> None:
        if self._start_ns or self._session is not None:
            raise InvalidArgument("this tracer was started before", "Make a new one.")

    def _start(self, session: Session) -> None:
        if not self._command:
            self._attach(session)
            return
        self.pid = session.spawn(self._command)
        try:
            self._attach(session)
        except BaseException:
            session.abandon(self.pid)
            raise
        session.resume(self.pid)

    def _attach(self, session: Session) -> None:
        options = self._options()
        session.configure(options)
        session.load()
        self._room = options.max_rows
        self.host_pid = session.host_target_id() if self.pid is not None else 0
        self._start_ns = session.attach()

    def _options(self) -> Options:
        options = replace(
            self._target_options(),
            slow_ns=self._slow_ns,
            follow=self._follow,
            ring_bytes=self._ring_bytes,
            intervals=self._intervals,
            charges=self._blame,
            examples=self._send_examples,
            attach="ANY" if self._attach_by is None else self._attach_by.upper(),
            btf=self._btf,
        )
        return options if self._max_rows is None else replace(options, max_rows=self._max_rows)

    def _target_options(self) -> Options:
        """What is traced, with room for the threads there are now and some more."""
        own = os.getpid()
        if self._cgroup_path is not None or self._container is not None:
            from corelock import cgroups

            self.cgroup = cgroups.find(self._cgroup_path, self._container)
        if self._everything or self.cgroup is not None:
            rows = self._max_rows or 2 * _ROWS_PER_THREAD * target.host_thread_count()
            rows = max(_MIN_HOST_ROWS, rows)
            options = Options(self_tgid=own, max_rows=rows, max_mms=rows)
            if self.cgroup is None:
                return options
            return replace(options, target="CGROUP", cgroup_id=self.cgroup.id)
        if self._comm is not None:
            comm = target.check_comm(self._comm)
            return Options("COMM", target_comm=comm, self_tgid=own, max_rows=2 * _MIN_ROWS)
        if self._tid is not None:
            own_thread = target.check_thread(self._tid) == own
            return Options("THREAD", self._tid, self_tgid=0 if own_thread else own)
        assert self.pid is not None
        target.check_process(self.pid)
        rows = max(_MIN_ROWS, _ROWS_PER_THREAD * target.thread_count(self.pid))
        self_tgid = 0 if self.pid == own else own
        return Options("PROCESS", self.pid, self_tgid=self_tgid, max_rows=rows)

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def _open(self) -> Session:
        if self._session is None:
            raise InvalidArgument("this tracer is not running", "Start it, or keep it open.")
        return self._session

    @property
    def start_ns(self) -> int:
        """When counting began (``CLOCK_MONOTONIC``, ns)."""
        return self._start_ns

    @property
    def duration_ns(self) -> int:
        """How long counting has gone on, or went on, in ns."""
        end = time.monotonic_ns() if self._end_ns is None else self._end_ns
        return end - self._start_ns

    @property
    def room(self) -> int:
        """For how many rows there is room, once started; 0: for as many as the library thinks."""
        return self._room

    @property
    def attached_by(self) -> str:
        """``tp_btf`` or ``tp``.

        By ``tp``, what the kernel drops while another tracing program runs on the CPU is not,
        or (from Linux 6.7 on) not all counted.

        Raises:
            InvalidArgument: the tracer is not running.
        """
        with self._lock:
            return self._open().attached_by()

    def stop(self) -> None:
        """End the counting and detach; what was measured stays readable, and is now exact.

        Repeating it does nothing.

        Raises:
            InvalidArgument: the tracer is not running, or another process, of which this is
                a fork, started it.
        """
        with self._lock:
            self._end_ns = self._open().detach()

    def close(self) -> None:
        """Detach and free everything. Repeating it does nothing.

        In a fork of the process that started it, frees what the fork has of it.
        """
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                session.close()

    def snapshot(self) -> Snapshot:
        """All rows since the start, of every thread seen so far.

        While tracing goes on, a thread's latest event may be missing from one
        of its row's numbers; after :meth:`stop` all are exact.
        """
        with self._lock:
            rows = assemble(self._open().readings())
            self._sequence += 1
            sequence = self._sequence if self._intervals else None
            return Snapshot(sequence, self._start_ns, self.duration_ns, rows)

    def activity(self) -> Activity:
        """What was counted since the last time this was asked, by thread and by operation.

        A fraction of the cost of subtracting snapshots, and without their maxima. While
        tracing goes on, an event may be missing from one of the numbers and be in the next
        one's.
        """
        from corelock.activity import Activity

        with self._lock:
            session = self._open()
            start_ns = self._looked_ns or self._start_ns
            end_ns = time.monotonic_ns() if self._end_ns is None else self._end_ns
            session.look()
            self._looked_ns = end_ns
            whole = session.active("NOTHING")
            return Activity(
                start_ns, end_ns - start_ns, whole[0] if whole else None,
                session.active("THREAD"), session.active("OPERATION"),
            )  # fmt: skip

    def slow_events(
        self, min_wait_ns: int = 0, min_hold_ns: int = 0, *, longest_only: bool = False
    ) -> Iterator[SlowEvent]:
        """Take the slow waits and holds that have come since the last call, oldest first.

        Ends when none is left, or as many were given as the ring can hold, or
        another thread closes the tracer; :meth:`fileno` tells when there are more.
        Shorter waits than ``min_wait_ns`` and holds than ``min_hold_ns`` are
        dropped before Python sees them, and until the next call the kernel takes
        no stacks for such. ``longest_only`` leaves out more: all are of interest that are
        longer than those given before.
        """
        least: dict[SlowKind, int] = {"wait": min_wait_ns, "hold": min_hold_ns}
        with self._lock:
            self._open()
        for _ in range(self._most_batches):
            with self._lock:
                if self._session is None:
                    return
                self._least = least
                more = self._take_slow(longest_only)
                events, self._slow = self._slow, deque()
            yield from (e for e in events if e.duration_ns >= least[e.kind])
            if not more:
                return

    @property
    def _most_batches(self) -> int:
        """As many as the ring can hold: what comes meanwhile is for the next call."""
        return 1 + self._ring_bytes // SLOW_BATCH_BYTES

    def _drain(self) -> None:
        """Take what waits in the ring. The kernel goes on sending no less than was asked for."""
        for _ in range(self._most_batches):
            if not self._take_slow():
                return

    def _take_slow(self, longest_only: bool = False) -> bool:
        """Take some of what waits in the ring; whether there may be more."""
        least = self._least
        records, more = self._open().slow_batch(least["wait"], least["hold"], longest_only)
        for row, _, event in records:
            if self._slow_ns is not None and event.duration_ns >= self._slow_ns:
                self._slow.append(event)
            if self._blame and event.kind == "wait":
                self._row_of_wait[event.host_tid, event.start_ns] = row
                if len(self._row_of_wait) > _KNOWN_WAITS:
                    del self._row_of_wait[next(iter(self._row_of_wait))]
            known = self._examples.get((row, event.kind))
            if self._blame and (known is None or event.duration_ns > known.duration_ns):
                self._remember((row, event.kind), event)
                self._new_examples.append(event)
        return more

    def _remember(self, key: tuple[int, SlowKind], event: SlowEvent) -> None:
        """Keep an example, and of all but the longest not what is large."""
        self._examples[key] = event
        heapq.heappush(self._whole_examples, (event.duration_ns, next(self._order), key))
        if len(self._whole_examples) > _WHOLE_EXAMPLES:
            duration_ns, _, least = heapq.heappop(self._whole_examples)
            known = self._examples[least]
            if known.duration_ns == duration_ns:  # else a longer one has taken its place
                self._examples[least] = replace(known, user_context=None)

    def examples(self) -> Iterator[SlowEvent]:
        """Take the examples of contended waits and of holds in their way since the last call.

        Each is longer than all before of its thread, operation and mode. :meth:`blame` has
        them, too; here they can be looked at while their process lives.

        Raises:
            InvalidArgument: the tracer is not running or charges no waits.
        """
        self._check_blame()
        with self._lock:
            if self._session is not None:
                self._drain()
            examples, self._new_examples = self._new_examples, deque()
        return iter(examples)

    def blame(self) -> Blame:
        """Every wait since the start, charged to the holds that overlapped it.

        While tracing goes on, the latest waits may be charged in part; after
        :meth:`stop` charged and unknown are all there was.

        >>> import corelock, os
        >>> with corelock.Tracer(pid=os.getpid(), blame=True) as tracer:
        ...     tracer.stop()
        ...     blame = tracer.blame()
        >>> blame.wait_ns == blame.charged_ns + blame.unknown_ns
        True

        Raises:
            InvalidArgument: the tracer is not running or charges no waits.
        """
        from corelock._charges import assemble_charges
        from corelock.blame import Blame

        self._check_blame()
        with self._lock:
            session = self._open()
            self._drain()
            charges = session.charges()
            charged = assemble_charges(list(session.readings()), charges)
            examples: dict[tuple[RowKey, SlowKind], SlowEvent] = {}
            for (index, kind), event in self._examples.items():
                key = charged.row_of[index].key, kind
                if key not in examples or event.duration_ns > examples[key].duration_ns:
                    examples[key] = event
            return Blame(
                self._start_ns, self.duration_ns, charged.rows, charged.contentions,
                charged.charges, examples,
            )  # fmt: skip

    def blame_of(self, wait: SlowEvent) -> WaitBlame:
        """Whose holds a wait was due to that :meth:`slow_events` gave not long ago.

        Exact only until its thread has waited for the same holders again: ask soon.

        Raises:
            InvalidArgument: the tracer is not running or charges no waits.
        """
        from corelock.activity import WaitBlame
        from corelock.blame import Charge

        self._check_blame()
        with self._lock:
            session = self._open()
            index = self._row_of_wait.get((wait.host_tid, wait.start_ns))
            raw = [] if wait.kind != "wait" or index is None else session.charges(index)
            own = [one for one in raw if one.last_start_ns == wait.start_ns]
            exact = 2 * sum(one.last_ns for one in own) >= wait.duration_ns
            if exact:
                raw = [
                    one._replace(charged_ns=one.last_ns, waits=1, longest_ns=one.last_ns)
                    for one in own
                ]
            raw.sort(key=lambda one: -one.charged_ns)
            charges = tuple(
                Charge(
                    session.row(one.waiter), session.row(one.holder), one.certainty,
                    one.charged_ns, one.waits, one.longest_ns,
                )
                for one in raw[:_CAUSES]
            )  # fmt: skip
            example = self._examples.get((raw[0].holder, "hold")) if raw else None
            wait_ns = wait.duration_ns
            if not exact and index is not None:
                wait_ns = session.row(index).wait.total_ns
            return WaitBlame(charges, exact, wait_ns, example)

    def _check_blame(self) -> None:
        if not self._blame:
            raise InvalidArgument("this tracer charges no waits", "Make it with blame=True.")

    def accounting(self) -> Accounting:
        """Where every event went.

        After :meth:`stop`, ``unaccounted`` proves the sum. Before, events are in
        flight, and ``held_at_end`` is what the other numbers leave over.
        """
        with self._lock:
            return self._open().accounting()

    def losses(self) -> dict[str, int]:
        """As :attr:`Accounting.losses` but ``unaccounted``, for next to no cost."""
        with self._lock:
            return self._open().losses()

    def fileno(self) -> int:
        """A descriptor for select, poll or an event loop: readable when slow events wait."""
        with self._lock:
            return self._open().slow_fd()
