"""The worst wait lately: whom it was due to, and the stacks that led there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from corelock.blame import Charge
from corelock.model import Frame, ResolvedSlowEvent
from corelock.render.blame import MARKS
from corelock.render.columns import process_label, thread_label
from corelock.render.grouping import Name, shown_id
from corelock.render.slow import event_lines
from corelock.render.text import cut, flow, printable
from corelock.render.units import duration
from corelock.top.lines import Line, sides
from corelock.top.picture import Picture, WorstWait

_CAUSES = 3  # holders in the small pane
_NAME = 32  # columns of a function's name there
_STACK_LINES = 2  # of each side there


def pane_lines(picture: Picture, width: int, *, large: bool) -> list[Line]:
    """A head, the wait, its causes, its stacks; ``large``: all of these, else their names."""
    worst = picture.worst
    if worst is None:
        head: Line = [(" worst wait ".center(width, "-"), "head")]
        return [head, [(f"no wait of {duration(picture.least_wait_ns)} or longer lately", "dim")]]
    stacks = _whole_stacks(picture, worst, width) if large else _short_stacks(worst, width)
    return [
        _head(picture, worst, width), *_causes(worst, width), *([(line, "")] for line in stacks)
    ]  # fmt: skip


def _head(picture: Picture, worst: WorstWait, width: int) -> Line:
    event = worst.wait.event
    who = "".join(thread_label(_thread(event.comm, event.tid, event.host_tid), event.foreign))
    if event.foreign or picture.several:
        mm = Name(event.mm_comm, shown_id(event.mm_pid, event.mm_host_pid))
        who += " on " + "".join(process_label(mm))
    ago_ns = max(0, picture.taken_ns - event.start_ns - event.duration_ns)
    what = f"worst wait {duration(event.duration_ns)} "
    rest = f"{'WR'[event.mode == 'read']} {event.operation}  {who} "
    left: Line = [("-- ", "head"), (what, "alarm"), (rest, "head")]
    return sides(left, [(f" {_ago(ago_ns)} --", "head")], width)


def _ago(ns: int) -> str:
    return "just now" if ns < 1_000_000_000 else f"{ns // 1_000_000_000}s ago"


def _causes(worst: WorstWait, width: int) -> Iterator[Line]:
    blame = worst.blame
    if blame is None:
        yield [
            ("due to ", "dim"),
            ("not asked yet: with so many charges it costs too much just now", ""),
        ]
        return
    if not blame.charges:
        yield [("due to ", "dim"), ("nobody on record", "")]
        return
    operation = worst.wait.event.operation
    title = "due to " if blame.exact else f"its {operation} waits so far: "
    left_ns = blame.wait_ns
    for charge in blame.charges[:_CAUSES]:
        if 100 * charge.charged_ns < blame.wait_ns:
            break
        numbers = _share(charge.charged_ns, blame.wait_ns)
        style = "foreign" if charge.holder.foreign else ""
        room = width - len(title) - len(numbers)
        yield [(title, "dim"), (numbers, ""), (cut(_holder(charge), "", room), style)]
        title = " " * len(title)
        left_ns -= charge.charged_ns
    if 100 * left_ns >= blame.wait_ns:
        yield [(f"{title}{_share(left_ns, blame.wait_ns)}others, and unknown", "dim")]


def _share(ns: int, of_ns: int) -> str:
    share = f"{100 * ns / of_ns:.0f}%" if of_ns else "-"
    return f"{share:>4} {duration(ns):>5}  "


def _holder(charge: Charge) -> str:
    holder = charge.holder
    who = "".join(thread_label(_thread(holder.comm, holder.tid, holder.host_tid), holder.foreign))
    mark = MARKS[charge.certainty]
    mode = "W" if holder.mode == "write" else "R"
    return f"{who}  {mode} {holder.operation}" + (f" {mark}" if mark else "")


def _short_stacks(worst: WorstWait, width: int) -> Iterator[str]:
    for title, event in ("waiter", worst.wait), ("holder", worst.hold):
        if event is not None:
            yield from _short(title, event, width)


def _short(title: str, event: ResolvedSlowEvent, width: int) -> Iterator[str]:
    """Names alone, innermost first: the user's, and of the kernel's where it was entered."""
    names = _names(event.kernel_stack)
    # The program's own are what tells apart; the kernel's say where it was entered.
    names = [*names[:1], *_names(event.user_stack)] if event.user_stack else names
    names = [cut(name, "", _NAME) for name in names]
    pieces = [f"{title} ", *(f"{name} <" for name in names[:-1]), *names[-1:]]
    lines = list(flow(pieces, width, indent=" " * 8))
    if len(lines) > _STACK_LINES:
        lines[_STACK_LINES - 1] = cut(lines[_STACK_LINES - 1], " ...", width)
    yield from lines[:_STACK_LINES]


def _names(stack: Sequence[Frame]) -> list[str]:
    return [printable(frame.name) if frame.name else f"{frame.address:#x}" for frame in stack]


def _whole_stacks(picture: Picture, worst: WorstWait, width: int) -> Iterator[str]:
    start_ns = picture.taken_ns - picture.running_ns
    events: tuple[Optional[ResolvedSlowEvent], ...] = worst.wait, worst.hold
    for event in events:
        if event is not None:
            yield ""
            yield from event_lines(event, start_ns, width, with_process=picture.several)


def _thread(comm: str, tid: int, host_tid: int) -> Name:
    return Name(comm, shown_id(tid, host_tid))
