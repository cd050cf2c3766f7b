"""Text that fits its place on a terminal, whatever a thread calls itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

_CUT = "~"  # ASCII: an ellipsis would fail on a stream that is not UTF-8


def printable(name: str) -> str:
    """``name`` with what could move the cursor or fail to encode shown as "?"."""
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else "?" for char in name)


def cells(text: str) -> int:
    """How many columns ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(map(_char_cells, text))


@lru_cache(maxsize=1024)
def _char_cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(head: str, tail: str, width: int) -> str:
    """``head + tail`` in at most ``width`` columns, by leaving out the end of ``head``.

    >>> cut("connection-pool", "[4711]", 14), cut("cat", "[4711]", 14)
    ('connect~[4711]', 'cat[4711]')
    """
    room = width - cells(tail)
    if cells(head) <= room:
        return head + tail
    if room < 2:  # not even one character of head: the tail has to give
        head, tail, room = head + tail, "", width
    head = head[: room - 1]
    while cells(head) > room - 1:
        head = head[:-1]
    return head + _CUT + tail


def pad(text: str, width: int) -> str:
    """``text`` with blanks after it up to ``width`` columns."""
    return text + " " * (width - cells(text))


def flow(pieces: Iterable[str], width: int, *, indent: str) -> Iterator[str]:
    """``pieces`` joined by blanks into lines of ``width`` columns; a piece is never split."""
    line = ""
    for piece in pieces:
        if line and cells(line) + 1 + cells(piece) > width:
            yield line
            line = indent + piece
        else:
            line = f"{line} {piece}" if line else piece
    if line:
        yield line
