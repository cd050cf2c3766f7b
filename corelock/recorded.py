"""Whether what a recording says has, and can be, what ``docs/format.md`` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Points in time are below this; so are sums of two below 2^63, which is what formats take.
TIMES_BELOW_NS = 1 << 62
#: The kernel's PID_MAX_LIMIT.
PIDS_BELOW = 1 << 22

_Check = Callable[[Any], bool]


def check_header(value: Any) -> None:
    """Raise ValueError if ``value`` is no header."""
    if not _HEADER(value):
        raise ValueError("no header")


def check_footer(value: Any) -> None:
    """Raise ValueError if ``value`` is no footer."""
    if not _FOOTER(value):
        raise ValueError("no footer")


def _below(limit: int) -> _Check:
    # True is an int, and 1.
    return lambda value: type(value) is int and 0 <= value < limit


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _maybe(check: _Check) -> _Check:
    """Null or not there will do, too."""
    return lambda value: value is None or check(value)


def _object(**members: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(
        check(value.get(name)) for name, check in members.items()
    )


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_count, value.values()))


_count = _below(1 << 63)
_pid = _below(PIDS_BELOW)
_time = _below(TIMES_BELOW_NS)
_clock = _object(monotonic_ns=_time, realtime_ns=_time, boottime_ns=_time)
_HEADER = _object(
    id=_text,
    start_ns=_time,
    clock=_clock,
    host=_object(kernel=_text, arch=_text, hostname=_text, boot_id=_maybe(_text)),
    target=_maybe(_object(pid=_pid, comm=_text, host_pid=_maybe(_pid))),
    cgroup=_maybe(_object(path=_text, id=_count, container=_maybe(_text))),
    slow_ns=_maybe(_count),
)
_FOOTER = _object(
    end_ns=_time,
    clock=_clock,
    ended_by=_text,
    cycles=_object(written=_count, lost=_counts),
    stacks=_object(lost=_counts),
    totals=_object(waits=_count, holds=_count, downgrades=_count, failures=_count),
    accounting=_object(
        events=_counts, paired=_count, held_at_start=_count, held_at_end=_count,
        unmatched=_counts, lost=_counts, slow_recorded=_count, slow_lost=_counts,
        children_not_followed=_count, self=_count, hooks_missed=_maybe(_count),
        charges_full=_maybe(_count), open_waits=_maybe(_count), attached_by=_maybe(_text),
    ),
)  # fmt: skip
