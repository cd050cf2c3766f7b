"""Two recordings side by side: what changed, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np

from corelock.analysis.batches import Progress
from corelock.analysis.census import Census, take_census
from corelock.analysis.evidence import FEWEST, LEVEL, p_values
from corelock.analysis.sliced import HOLD, WAIT, Sliced, slice_up
from corelock.analysis.source import Source
from corelock.model import Mode, Row, SlowKind

COMPARE_BY = ("process", "thread", "operation", "mode")
#: What is judged of each group's waits and holds.
JUDGED = ("count_per_s", "p50_ns", "p99_ns", "total_ns_per_s")

_SLICES = 30  # of the shorter recording
_MOST_SLICES = 300
_KINDS: tuple[SlowKind, ...] = ("wait", "hold")

Verdict = Literal["worse", "better"]
#: As ``COMPARE_BY``.
_Key = tuple[Optional[str], Optional[str], Optional[str], Optional[Mode]]


@dataclass(frozen=True)
class Figures:
    """A group's waits or holds in one recording; quantiles and maximum are None without any."""

    count: int
    count_per_s: float
    p50_ns: Optional[int]
    p99_ns: Optional[int]
    max_ns: Optional[int]
    total_ns_per_s: float


@dataclass(frozen=True)
class Change:
    """A group's waits or holds, before and after.

    ``process``, ``thread`` and ``operation`` are names, ``None`` what it is not grouped by.
    ``p_values`` has for each of ``JUDGED`` how likely a change as large is by chance, corrected
    for the number of comparisons; None: it was not judged.
    """

    process: Optional[str]
    thread: Optional[str]
    operation: Optional[str]
    mode: Optional[Mode]
    kind: SlowKind
    before: Figures
    after: Figures
    p_values: dict[str, Optional[float]]

    def verdict(self, figure: str) -> Optional[Verdict]:
        """Whether there is evidence that the figure changed, and which way; more is worse."""
        p = self.p_values.get(figure)
        before, after = getattr(self.before, figure), getattr(self.after, figure)
        if p is None or p > LEVEL or before is None or after is None or before == after:
            return None
        return "worse" if after > before else "better"

    @property
    def verdicts(self) -> set[Optional[Verdict]]:
        """Of all its figures."""
        return {self.verdict(figure) for figure in JUDGED}

    @property
    def added_ns_per_s(self) -> float:
        """How much more time went there."""
        return self.after.total_ns_per_s - self.before.total_ns_per_s


@dataclass(frozen=True)
class Comparison:
    """All changes, what got worse first.

    ``slices`` are the numbers of slices of ``slice_ns`` of both recordings; ``unjudged`` says why
    nothing was judged, None if it was. ``comparisons`` is how many figures were.
    """

    changes: tuple[Change, ...]
    slices: tuple[int, int]
    slice_ns: int
    comparisons: int
    unjudged: Optional[str]
    censuses: tuple[Census, Census]


def compare(
    before: Source, after: Source, by: Sequence[str], progress: Optional[Progress] = None
) -> Comparison:
    """Compare two recordings, groups by their names.

    Raises:
        ValueError: ``by`` names something that is not in ``COMPARE_BY``.
    """
    unknown = [field for field in by if field not in COMPARE_BY]
    if unknown:
        raise ValueError(f"cannot group by {unknown[0]!r}, only by {', '.join(COMPARE_BY)}")
    sources = before, after
    groups: dict[_Key, int] = {}
    of_row = [_groups_of_rows(source, by, groups) for source in sources]
    slice_ns = _slice_ns(before.duration_ns, after.duration_ns)
    numbers = before.duration_ns // slice_ns, after.duration_ns // slice_ns
    measured = []
    for source, rows, slices in zip(sources, of_row, numbers):
        # What is left after the last whole slice is in one more, which is not judged.
        edges = [source.start_ns + at * slice_ns for at in range(slices + 1)] + [source.end_ns]
        measured.append(slice_up(source, rows, len(groups), edges, progress))
    censuses = take_census(before), take_census(after)
    why = _unjudged(numbers, censuses)
    p = np.full((len(groups), len(_KINDS), len(JUDGED)), np.nan)
    if why is None and len(groups):
        tables = (_table(of, slices) for of, slices in zip(measured, numbers))
        p = p_values(*tables).reshape(p.shape)
    figures = [_figures(of, source.duration_ns) for of, source in zip(measured, sources)]
    changes = [
        _change(key, kind, figures[0][at][k], figures[1][at][k], p[at, k].tolist())
        for key, at in groups.items()
        for k, kind in enumerate(_KINDS)
        if figures[0][at][k].count or figures[1][at][k].count
    ]
    comparisons = sum(value is not None for c in changes for value in c.p_values.values())
    return Comparison(
        tuple(sorted(changes, key=_worst_first)), numbers, slice_ns, comparisons, why, censuses
    )


def _groups_of_rows(source: Source, by: Sequence[str], groups: dict[_Key, int]) -> Any:
    of_row = np.zeros(len(source.row_table), np.int64)
    for number in source.readings:
        of_row[number] = groups.setdefault(_key(source.name(number), by), len(groups))
    return of_row


def _key(row: Row, by: Sequence[str]) -> _Key:
    return (
        row.mm_comm if "process" in by else None,
        row.comm if "thread" in by else None,
        row.operation if "operation" in by else None,
        row.mode if "mode" in by else None,
    )


def _slice_ns(before_ns: int, after_ns: int) -> int:
    """Slices are as long in both, so that their figures scatter alike."""
    shorter, longer = sorted((before_ns, after_ns))
    return max(1, shorter // _SLICES, longer // _MOST_SLICES)


def _unjudged(slices: tuple[int, int], censuses: tuple[Census, Census]) -> Optional[str]:
    """Why figures of these recordings tell nothing of the load, None if they do."""
    for name, census in zip("AB", censuses):
        damage = census.damage
        lost = sum(census.lost.values()) + max(census.unread or 0, 0) + census.nameless
        if damage.corrupt_blocks or damage.missing_blocks or damage.skipped_bytes:
            return f"{name} is damaged"
        if lost * 100 > census.read + lost:
            return f"{100 * lost / (census.read + lost):.1f} % of the cycles of {name} were lost"
    if min(slices) < FEWEST:
        return f"one is too short: {min(slices)} slices, {FEWEST} are needed"
    return None


def _table(of: Sliced, slices: int) -> Any:
    """``JUDGED`` of each group and kind, a line each, by slice."""
    figures = of.count, of.quantile(0.5), of.quantile(0.99), of.total_ns
    table = np.stack([each[:, :, :slices].astype(np.float64) for each in figures], axis=2)
    return table.reshape(-1, slices)


def _figures(of: Sliced, duration_ns: int) -> list[list[Figures]]:
    """By group and kind."""
    seconds = max(duration_ns, 1) / 1e9
    count, total = of.count.sum(axis=2), of.total_ns.sum(axis=2)
    p50, p99 = of.whole_quantile(0.5), of.whole_quantile(0.99)

    def figures(at: tuple[int, int]) -> Figures:
        some = int(count[at])
        low, high, most = (int(q[at]) if some else None for q in (p50, p99, of.max_ns))
        return Figures(some, some / seconds, low, high, most, int(total[at]) / seconds)

    return [[figures((group, kind)) for kind in (WAIT, HOLD)] for group in range(len(count))]


def _change(
    key: _Key, kind: SlowKind, before: Figures, after: Figures, p: Sequence[float]
) -> Change:
    process, thread, operation, mode = key
    judged = (None if math.isnan(value) else value for value in p)
    return Change(
        process, thread, operation, mode, kind, before, after, dict(zip(JUDGED, judged))
    )  # fmt: skip


def _worst_first(change: Change) -> tuple[object, ...]:
    names = (change.process, change.thread, change.operation, change.mode)
    tie = tuple(name or "" for name in names), change.kind
    if "worse" in change.verdicts:
        # Waits first: they are what a program feels.
        return 0, change.kind != "wait", -change.added_ns_per_s, tie
    return 1 if "better" in change.verdicts else 2, False, -abs(change.added_ns_per_s), tie
