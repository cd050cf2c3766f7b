"""Columns of a table: names that may be cut, numbers that may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from corelock.render.grouping import Name
from corelock.render.text import cells, cut, pad, printable

_MIN_HEAD = 4  # of a name before its [id]: three letters and the mark of a cut
_MIN_WHOLE = 10  # of a name without one: "page-fault"


class Label(NamedTuple):
    """A name for a column; ``tail`` stays whole when it has to be cut."""

    head: str
    tail: str = ""

    @property
    def width(self) -> int:
        """Columns needed for all of it."""
        return cells(self.head) + cells(self.tail)

    @property
    def enough(self) -> int:
        """Columns needed to recognise it."""
        return min(self.width, len(self.tail) + _MIN_HEAD if self.tail else _MIN_WHOLE)


OUTSIDE_LEGEND = "[^N] outside of this pid namespace: N is its id on the host"


def thread_label(thread: Name, foreign: bool) -> Label:
    """``name[tid]``, with a star for a thread of another process.

    One outside of the tracer's pid namespace is ``name[^tid]``, by its tid on the host.
    """
    return Label(("*" if foreign else "") + printable(thread.comm), _id(thread))


def process_label(process: Name) -> Label:
    """``name[pid]``, as of a thread; a child that was never seen after fork has no pid."""
    return Label(printable(process.comm), _id(process))


def _id(name: Name) -> str:
    return f"[^{-name.id}]" if name.id < 0 else f"[{name.id or '?'}]"


def least_width(column: Sequence[Label]) -> int:
    """Columns needed to recognise each of these labels."""
    return max(label.enough for label in column)


def fitted(columns: Sequence[Sequence[Label]], room: int) -> list[int]:
    """Widths of the columns of names that ``room`` has place for together.

    A column that can spare more gives more; below their least widths all do.
    """
    widths = [max(label.width for label in column) for column in columns]
    least = [least_width(column) for column in columns]
    while sum(widths) > room and max(widths) > 1:
        spare = [width - enough if width > 1 else -room for width, enough in zip(widths, least)]
        widths[spare.index(max(spare))] -= 1
    return widths


# A block is some columns of the table as finished text: a title, a header and
# a line for each group, all of one width.


def name_block(labels: list[Label], width: int) -> list[str]:
    """A column of names, without a title."""
    return [" " * width, *(pad(cut(*label, width), width) for label in labels)]


def number_block(title: str, lines: list[list[str]]) -> list[str]:
    """Columns of numbers, the first line their header, under one title."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    ruled = title.center(sum(widths) + len(widths) - 1, "-" if title else " ")
    return [ruled, *(" ".join(map(str.rjust, line, widths)) for line in lines)]
