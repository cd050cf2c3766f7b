"""Code that must not hold mmap_lock, or wait for it, for longer than a limit: :class:`LockLimit`.

What the pytest plugin uses; it works without pytest as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from types import TracebackType
from typing import Optional, Union

from corelock.errors import CorelockError, InvalidArgument
from corelock.lock_probe import LockProbe
from corelock.model import Accounting, Row, SlowEvent, SlowKind, Times
from corelock.render.accounting import accounting_lines
from corelock.render.columns import thread_label
from corelock.render.grouping import Name, shown_id
from corelock.render.slow import event_lines
from corelock.render.units import duration
from corelock.symbolize import Symbolizer
from corelock.symbolize.syscalls import is_operation
from corelock.tracer import Tracer

_WIDTH = 76  # what pytest's margin leaves of 80


class LimitExceeded(AssertionError):
    """mmap_lock was held or waited for too long; says for how long, by whom, doing what."""


class NotMeasured(CorelockError):
    """Events were lost, so that nobody knows whether a limit was exceeded."""


class LockLimit:
    """Around code: fails if it held mmap_lock, or waited for it, for longer than a limit.

    What is measured is the mmap_lock of the process ``pid`` (default: this one), by whichever
    thread, its own or another process's. What had not ended when the code did is not judged.

    Args:
        max_hold_ms: no hold may last longer than so many ms; None: any may.
        max_wait_ms: likewise, no wait.
        operation: only holds and waits by this operation, or these: system calls' names,
            ``page-fault``, ``exit``.
        pid: the process whose lock it is.
        follow: also those of the children it forks meanwhile.

    A context manager. That the code itself failed is let through, and nothing is judged then.

    >>> import mmap
    >>> with LockLimit(max_hold_ms=1000, operation="mmap"):
    ...     region = mmap.mmap(-1, 1 << 24)
    >>> with LockLimit(max_hold_ms=0, operation="mmap"):
    ...     region = mmap.mmap(-1, 1 << 24)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    corelock.limits.LimitExceeded: a hold of mmap_lock took ..., more than 0n (1 such hold)
    hold ...  write  mmap  ...

    Raises:
        InvalidArgument: no limit is given, or an impossible one, or there is no such operation.
        LimitExceeded: on leaving.
        NotMeasured: on leaving, if none was seen to be exceeded, but events were lost.
        NoSuchTarget, Unsupported, MissingPrivilege, LoadError, LibraryError: on entering, see
            :mod:`corelock.errors`.
    """

    def __init__(
        self,
        *,
        max_hold_ms: Optional[float] = None,
        max_wait_ms: Optional[float] = None,
        operation: Union[str, Sequence[str], None] = None,
        pid: Optional[int] = None,
        follow: bool = False,
    ) -> None:
        self._limits_ns: dict[SlowKind, int] = {}
        if max_hold_ms is not None:
            self._limits_ns["hold"] = _ns("max_hold_ms", max_hold_ms)
        if max_wait_ms is not None:
            self._limits_ns["wait"] = _ns("max_wait_ms", max_wait_ms)
        if not self._limits_ns:
            raise InvalidArgument("no limit is given", "Give max_hold_ms, max_wait_ms or both.")
        self._operations = _operations(operation)
        self._tracer = Tracer(
            pid=os.getpid() if pid is None else pid,
            follow=follow,
            slow_ns=min(self._limits_ns.values()) + 1,
        )

    def __enter__(self) -> LockLimit:
        __tracebackhide__ = True  # of pytest: the caller's line is the one to see
        self._tracer.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        __tracebackhide__ = True
        with closing(self._tracer):
            if error is None:
                # Nothing else before it: when it is this process, what we do is measured, too.
                self._tracer.stop()
                self._judge()

    def _judge(self) -> None:
        __tracebackhide__ = True
        rows = [row for row in self._tracer.snapshot().rows if self._is_meant(row.operation)]
        accounting = self._tracer.accounting()
        events = [e for e in self._tracer.slow_events() if self._is_meant(e.operation)]
        all_came = not accounting.slow_lost["ring_full"]
        found: list[list[str]] = []
        for kind, limit_ns in self._limits_ns.items():
            # By the rows, which have every wait and hold; records with stacks may be lost.
            worst = max(rows, key=lambda row: _times(row, kind).max_ns, default=None)
            if worst is not None and _times(worst, kind).max_ns > limit_ns:
                found.append([*self._exceeded(kind, worst, events, all_came), ""])
        lines = accounting_lines(accounting, width=_WIDTH)
        if found:
            raise LimitExceeded("\n".join(chain(*found, lines)))
        if _incomplete(accounting):
            raise NotMeasured(
                "events of mmap_lock were lost, so it is not known whether a limit was exceeded:\n"
                + "\n".join(lines),
                "Run it again; docs/embedding.md says what loses events.",
            )

    def _is_meant(self, operation: str) -> bool:
        return not self._operations or operation in self._operations

    def _exceeded(
        self, kind: SlowKind, worst: Row, events: Sequence[SlowEvent], all_came: bool
    ) -> Iterator[str]:
        """What is said of the longest, and how many were too long."""
        limit_ns, longest_ns = self._limits_ns[kind], _times(worst, kind).max_ns
        longer = [e for e in events if e.kind == kind and e.duration_ns > limit_ns]
        what = "hold of" if kind == "hold" else "wait for"
        many = f"{len(longer):,}" if all_came else f"at least {max(len(longer), 1):,}"
        such = f"{many} such {kind}{'' if many == '1' else 's'}"
        took, limit = duration(longest_ns), duration(limit_ns)
        yield f"a {what} mmap_lock took {took}, more than {limit} ({such})"
        longest = max(longer, key=lambda event: event.duration_ns, default=None)
        if longest is None or longest.duration_ns < longest_ns:
            name = Name(worst.comm, shown_id(worst.tid, worst.host_tid))
            who = "".join(thread_label(name, worst.foreign))
            yield f"{kind} {duration(longest_ns)}  {worst.mode}  {worst.operation}  {who}"
            yield "    [no stack: there was no room for its record]"
            return
        with closing(LockProbe()) as probe:
            resolved = Symbolizer(lock_is_held=probe.may_be_waited_for).resolve(longest)
            yield from event_lines(resolved, self._tracer.start_ns, _WIDTH, with_process=False)


def _times(row: Row, kind: SlowKind) -> Times:
    return row.hold if kind == "hold" else row.wait


def _incomplete(accounting: Accounting) -> bool:
    """Whether there may have been waits or holds that are in no row."""
    return bool(
        accounting.unaccounted
        or any(accounting.lost.values())
        or any(accounting.unmatched.values())
        or accounting.children_not_followed
    )


def _ns(name: str, ms: object) -> int:
    # Python holds True to be a number, and NaN to be neither more nor less than any.
    is_number = isinstance(ms, (int, float)) and not isinstance(ms, bool)
    if not is_number or not 0 <= ms <= 1e12 or math.isnan(ms):  # type: ignore[operator, arg-type]
        raise InvalidArgument(
            f"{name} is out of range: {ms!r}", "Give a number of milliseconds, 0 or more."
        )
    return round(ms * 1e6)  # type: ignore[operator]


def _operations(given: Union[str, Sequence[str], None]) -> frozenset[str]:
    """Those that are meant; none: all. A name that is none would never exceed a limit."""
    names = frozenset([given] if isinstance(given, str) else given or ())
    for name in names:
        if not is_operation(name, os.uname().machine):
            raise InvalidArgument(
                f"no operation is called {name!r}",
                "Name a system call, page-fault or exit.",
            )
    return names


def obstacle() -> Optional[CorelockError]:
    """Why this process cannot be traced here, None if it can be: tried, in a tenth of a second."""
    try:
        with Tracer(pid=os.getpid(), slow_ns=None):
            return None
    except CorelockError as error:
        return error
