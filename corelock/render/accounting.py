"""Where every event went, in the lines below a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

from corelock.model import Accounting
from corelock.render.text import flow


def accounting_lines(accounting: Optional[Accounting], *, width: int = 80) -> Iterator[str]:
    """One line when all is well; else also what was lost, by cause, and if the sum is wrong."""
    if accounting is None:
        yield "events: not known, as the recording was cut"
        return
    a = accounting
    sum_of = (
        f"events {a.seen:,}",
        f"= paired {a.paired:,}",
        f"+ held at start {a.held_at_start:,}",
        f"+ held at end {a.held_at_end:,}",
        f"+ unmatched {sum(a.unmatched.values()):,}",
        f"+ lost {sum(a.lost.values()):,}",
    )
    yield from flow(sum_of, width, indent="  ")
    yield from _by_name("unmatched:", a.unmatched, width)
    yield from _by_name("lost:", a.lost, width)
    yield from _by_name("slow records lost:", a.slow_lost, width)
    if a.children_not_followed:
        yield f"  children not followed: {a.children_not_followed:,}"
    if a.charges_full:
        yield f"  pieces of waits without room to be charged: {a.charges_full:,}"
    if a.hooks_missed:
        yield f"  forks, renames and exits missed: {a.hooks_missed:,}"
    if a.self_events:
        yield f"  corelock's own events, in no number above: {a.self_events:,}"
    if a.unaccounted:
        yield f"UNBALANCED by {a.unaccounted:,}: these numbers cannot be trusted"


def _by_name(title: str, counts: Mapping[str, int], width: int) -> Iterator[str]:
    parts = [f"{name} {count:,}" for name, count in counts.items() if count]
    if parts:
        commas = [f"{part}," for part in parts[:-1]]
        yield from flow([f"  {title}", *commas, parts[-1]], width, indent="    ")
