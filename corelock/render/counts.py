"""Counts of hits as text, in the manner of funccount."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from corelock.render.text import cells, pad, printable

_LEAST_NAME = 36
_WIDTH = 80
_COUNT_WIDTH = 8


def counts_table(counts: Mapping[str, int], *, largest_first: bool) -> Iterator[str]:
    """A line for each name that was hit at all, the most hits last, or first.

    Counts are written out, as whoever counts wants to compare. No name is cut: a line with a
    long one is longer than the others.
    """
    hit = [(printable(name), count) for name, count in counts.items() if count]
    hit.sort(key=lambda each: (-each[1], each[0]) if largest_first else (each[1], each[0]))
    room = max([_COUNT_WIDTH, *(len(str(count)) for _, count in hit)])
    longest = max([_LEAST_NAME, *(cells(name) for name, _ in hit)])
    names = min(longest, _WIDTH - room - 1)
    yield f"{'FUNC':<{names}} {'COUNT':>{room}}"
    for name, count in hit:
        yield f"{pad(name, names)} {count:>{room}}"
