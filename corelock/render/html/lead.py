"""What is to be seen within five seconds: who held, who waited, how bad, when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from corelock.analysis.source import NO_TIMES, Source
from corelock.model import Report, Row, RowKey, Times
from corelock.render.grouping import group
from corelock.render.html.gather import Gathered
from corelock.render.html.lanes import thread_name
from corelock.render.html.sections import clock_time
from corelock.render.html.shading import WAIT
from corelock.render.units import count, duration

#: A moment is so much of what is shown.
_MOMENTS = 100


@dataclass(frozen=True)
class Answer:
    """One question, its answer in few words, and some lines of detail."""

    kind: str  # a class of the style sheet: hold, wait or ""
    question: str
    answer: str
    lines: tuple[str, ...]


def lead(sources: Sequence[Source], reports: Sequence[Report], gathered: Gathered) -> list[Answer]:
    """The four answers."""
    several = len(sources) > 1

    def named(at: int, row: Row) -> str:
        return thread_name(row) + (f" on {sources[at].label}" if several else "")

    return [
        _who_held(reports, named),
        _who_waited(reports, named),
        _how_bad(reports),
        _when(gathered),
    ]


_Named = Callable[[int, Row], str]


def _what(row: Row) -> str:
    return f"{row.operation}, for {'writing' if row.mode == 'write' else 'reading'}"


def _who_held(reports: Sequence[Report], named: _Named) -> Answer:
    charged: dict[tuple[int, RowKey], int] = defaultdict(int)
    rows: dict[tuple[int, RowKey], tuple[int, Row]] = {}
    for at, report in enumerate(reports):
        for charge in report.blame.blame.charges if report.blame else ():
            key = (at, charge.holder.key)
            rows[key] = at, charge.holder
            charged[key] += charge.charged_ns
    question = "Who was in the way"
    if not charged:
        return Answer("hold", question, "nobody", ("no wait was charged to a hold",))
    worst = max(charged, key=lambda each: charged[each])
    at, row = rows[worst]
    waited = sum(each.wait.total_ns for report in reports for each in report.rows)
    share = f" ({100 * charged[worst] / waited:.0f}%)" if waited else ""
    return Answer(
        "hold", question, named(at, row),
        (
            _what(row) + (", another process" if row.foreign else ""),
            f"others waited {duration(charged[worst])} for it{share}",
            f"longest of its holds {duration(row.hold.max_ns)}",
        ),
    )  # fmt: skip


def _who_waited(reports: Sequence[Report], named: _Named) -> Answer:
    rows = [(at, row) for at, report in enumerate(reports) for row in report.rows]
    question = "Who waited most"
    if not any(row.wait.total_ns for _, row in rows):
        return Answer("wait", question, "nobody", ())
    at, row = max(rows, key=lambda each: each[1].wait.total_ns)
    return Answer(
        "wait", question, named(at, row),
        (
            _what(row),
            f"{duration(row.wait.total_ns)} in {count(row.wait.count)} waits",
            f"longest {duration(row.wait.max_ns)}",
        ),
    )  # fmt: skip


def all_times(reports: Sequence[Report]) -> tuple[Times, Times]:
    """All waits and all holds together."""
    rows = [row for report in reports for row in report.rows]
    if not rows:
        return NO_TIMES, NO_TIMES
    together = group(rows, ())[0]
    return together.wait, together.hold


def _how_bad(reports: Sequence[Report]) -> Answer:
    wait, hold = all_times(reports)
    p99, hold_p99 = wait.quantile(0.99), hold.quantile(0.99)
    return Answer(
        "", "How bad", f"{duration(wait.max_ns)} longest wait",
        (
            f"{count(wait.count)} waits: {duration(wait.total_ns)}, 99% within {duration(p99)}",
            f"{count(hold.count)} holds: {duration(hold.total_ns)}, 99% within "
            f"{duration(hold_p99)}",
            f"longest hold {duration(hold.max_ns)}",
        ),
    )  # fmt: skip


def _when(gathered: Gathered) -> Answer:
    waiting = gathered.busy.total_ns[WAIT, 0]
    if not waiting.any():
        return Answer("", "When", "-", ("nobody waited",))
    # The worst moment is one that lasts: some columns of the charts together.
    size = max(1, len(waiting) // _MOMENTS)
    sums = np.convolve(waiting, np.ones(size), "valid")
    at = int(sums.argmax())
    column = gathered.clock.span_ns / len(waiting)
    begin, width = at * column, size * column
    threads, average = sums[at] / width, waiting.sum() / gathered.clock.span_ns
    wall = clock_time(gathered.clock.wall_ns + round(begin))
    return Answer(
        "", "When", f"worst at +{begin / 1e9:.3f}s",
        (
            wall,
            f"{threads:.1f} threads waiting, for {duration(round(width))}",
            f"{average:.1f} on average over {duration(gathered.clock.span_ns)}",
        ),
    )  # fmt: skip
