"""The slowest waits and holds, with the stacks that led to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from corelock.model import Frame, Report, ResolvedSlowEvent
from corelock.render.columns import process_label, thread_label
from corelock.render.grouping import Name, shown_id
from corelock.render.text import cut, printable
from corelock.render.units import duration

_FRAMES = 24  # of each stack; deeper ones tell of the program's main loop, not of the lock
_INDENT = "    "


def slow_events(report: Report, *, top: int, width: int = 80) -> Iterator[str]:
    """Lines for the ``top`` slowest waits and the ``top`` slowest holds, longest first."""
    several = len({slow.event.mm_host_pid for slow in report.slow}) > 1
    for kind in ("wait", "hold"):
        of_kind = [slow for slow in report.slow if slow.event.kind == kind]
        of_kind.sort(key=lambda slow: (-slow.event.duration_ns, slow.event.start_ns))
        for slow in of_kind[:top]:
            yield ""
            yield from event_lines(slow, report.start_ns, width, with_process=several)


def event_lines(
    slow: ResolvedSlowEvent, start_ns: int, width: int, *, with_process: bool, host: str = ""
) -> Iterator[str]:
    """One wait or hold, and its stacks; ``host`` says where, if there are several."""
    yield _header(slow, start_ns, width, with_process=with_process, host=host)
    yield from _frames(slow, width)


def _header(
    slow: ResolvedSlowEvent, start_ns: int, width: int, *, with_process: bool, host: str
) -> str:
    event = slow.event
    thread = Name(event.comm, shown_id(event.tid, event.host_tid))
    who = "".join(thread_label(thread, event.foreign))
    if with_process or event.foreign:
        process = Name(event.mm_comm, shown_id(event.mm_pid, event.mm_host_pid))
        who += " on " + "".join(process_label(process))
    # With a sign either way: a hold may have begun before the report's time did.
    where = f"  on {printable(host)}" if host else ""
    at = f"{where}  at {(event.start_ns - start_ns) / 1e9:+.3f}s"
    what = f"{event.kind} {duration(event.duration_ns)}  {event.mode}  {event.operation}  {who}"
    return cut(what, at, width)


def _frames(slow: ResolvedSlowEvent, width: int) -> Iterator[str]:
    yield from stack_lines(slow.kernel_stack, "[{}]", width)
    yield from stack_lines(slow.user_stack, "({})", width)
    if slow.user_stack_note:
        note = printable(slow.user_stack_note)
        yield _INDENT + cut(f"[{note}", "]", width - len(_INDENT))


def stack_lines(stack: Sequence[Frame], module_format: str, width: int) -> Iterator[str]:
    """A line for each frame, innermost first, with its module as ``module_format`` says."""
    for frame in stack[:_FRAMES]:
        yield _INDENT + _frame(frame, module_format, width - len(_INDENT))
    if len(stack) > _FRAMES:
        yield f"{_INDENT}... {len(stack) - _FRAMES} more"


def _frame(frame: Frame, module_format: str, width: int) -> str:
    module = printable(os.path.basename(frame.module)) if frame.module else None
    offset = "" if frame.offset is None else f"+{frame.offset:#x}"
    if frame.name is not None:
        where = f" {module_format.format(module)}" if module else ""
        return cut(printable(frame.name), offset + where, width)
    if module and offset:
        return cut(module, offset, width)
    opening, _, closing = module_format.partition("{}")
    return (
        cut(f"{frame.address:#x} {opening}{module}", closing, width)
        if module
        else f"{frame.address:#x}"
    )
