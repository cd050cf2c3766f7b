"""Two recordings side by side as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, TextIO

from corelock.render import units
from corelock.render.columns import Label, fitted, name_block, number_block
from corelock.render.recorded import loss_words
from corelock.render.report import TextOptions, width_of, write_lines
from corelock.render.text import flow, printable

if TYPE_CHECKING:
    from corelock.analysis.compare import Change, Comparison, Figures

_HEADER = ["COUNT/s", "p50", "p99", "max", "TIME/s"]
_FIGURES = ("count_per_s", "p50_ns", "p99_ns", "max_ns", "total_ns_per_s")


@dataclass(frozen=True)
class Side:
    """One of the two recordings: its file's name, host, when it was made, how long it is."""

    path: str
    label: str
    when: str
    duration_ns: int


def render_diff(
    sides: Sequence[Side], comparison: Comparison, top: int, stream: TextIO,
    width: Optional[int] = None, colour: Optional[bool] = None,
) -> None:  # fmt: skip
    """Write a comparison; ``top`` 0 shows all of its changes."""
    width = width_of(TextOptions(width=width))
    write_lines(diff_lines(sides, comparison, top, width), colour, stream)


def diff_lines(
    sides: Sequence[Side], comparison: Comparison, top: int, width: int
) -> Iterator[str]:
    """The lines of :func:`render_diff`, without colour."""
    for name, side, census in zip("AB", sides, comparison.censuses):
        pieces = (
            f"{name}  {printable(side.path)}:", f"{units.duration(side.duration_ns)}",
            f"on {printable(side.label)}, {side.when},", f"{census.read:,} cycles",
        )  # fmt: skip
        yield from flow(pieces, width, indent="   ")
        words = list(loss_words(census))
        if words:
            commas = [f"{word}," for word in words[:-1]]
            yield from flow(("   INCOMPLETE:", *commas, words[-1]), width, indent="   ")
    yield from _lengths(sides)
    yield from flow(_judged(comparison), width, indent="  ")
    if not comparison.changes:
        yield "no lock was taken in either"
        return
    shown = comparison.changes[:top] if top else comparison.changes
    yield from _table(shown, width)
    if len(comparison.changes) > len(shown):
        yield f"... and {len(comparison.changes) - len(shown):,} more (use -n)"
    if comparison.unjudged is None:
        yield "(+9%): no evidence that it is more than chance; max is not judged"
    else:
        yield "(+9%): not judged"


def _lengths(sides: Sequence[Side]) -> Iterator[str]:
    shorter, longer = sorted(side.duration_ns for side in sides)
    if longer > 1.1 * shorter:
        which = "A" if sides[0].duration_ns == longer else "B"
        times = f"{longer / shorter:.1f} times as long" if shorter else "longer"
        yield f"{which} is {times}: its max had more time to come about"


def _judged(comparison: Comparison) -> Iterator[str]:
    """How it was judged, and what came out."""
    if comparison.unjudged is not None:
        yield "no evidence either way:"
        yield f"{comparison.unjudged}"
        return
    verdicts = [c.verdict(f) for c in comparison.changes for f in c.p_values]
    worse, better = verdicts.count("worse"), verdicts.count("better")
    yield f"{worse} of {comparison.comparisons} figures got worse,"
    yield f"{better} better,"
    yield "no evidence for the rest"
    left, right = comparison.slices
    yield f"(ranks of {left} + {right} slices"
    yield f"of {units.duration(comparison.slice_ns)}, permuted;"
    yield "at most 5% for any false one)"


def _table(changes: Sequence[Change], width: int) -> Iterator[str]:
    names, numbers = [], [_HEADER]
    for change in changes:
        names += [_name(change), Label(""), Label("")]
        numbers += [_numbers(change.before), _numbers(change.after), _changes(change)]
    which = [["  "], *([mark] for _ in changes for mark in ("A ", "B ", "  "))]
    block = number_block("", numbers)
    marks = number_block("", which)
    column = [Label(""), *names]
    widths = fitted([column], width - len(block[0]) - len(marks[0]) - 2)
    cells = name_block(column, widths[0])[1:]
    for cell, mark, number in zip([" " * widths[0], *cells[1:]], marks[1:], block[1:]):
        yield f"{cell} {mark} {number}".rstrip()


def _name(change: Change) -> Label:
    mode = {None: None, "read": "R", "write": "W"}[change.mode]
    words = (change.process, change.thread, change.operation, mode)
    return Label(" ".join(printable(word) for word in words if word), f" {change.kind}")


def _numbers(figures: Figures) -> list[str]:
    times = (figures.p50_ns, figures.p99_ns, figures.max_ns)
    return [
        _rate(figures.count_per_s), *map(units.duration, times),
        units.duration(round(figures.total_ns_per_s)),
    ]  # fmt: skip


def _rate(per_s: float) -> str:
    return f"{per_s:.2g}" if 0 < per_s < 10 else units.count(round(per_s))


def _changes(change: Change) -> list[str]:
    return [_percent(change, figure) for figure in _FIGURES]


def _percent(change: Change, figure: str) -> str:
    before, after = getattr(change.before, figure), getattr(change.after, figure)
    if before is None and after is None:
        return "-"
    if not before:
        said = "new" if after else "="
    elif not after:
        said = "gone"
    elif after >= 10 * before:
        said = f"x{after / before:.0f}"
    else:
        percent = round(100 * (after - before) / before)
        said = f"{percent:+}%" if percent else "="
    return said if change.verdict(figure) is not None else f"({said})"
