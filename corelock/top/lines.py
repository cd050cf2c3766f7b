"""A line of the screen: pieces of text, each with the name of how it looks."""

from __future__ import annotations

from corelock.render.text import cells, cut, pad

#: ``head``, ``chosen`` (the column sorted by), ``total``, ``foreign``, ``history``, ``dim``,
#: ``warn``, ``alarm``, ``key``, or "" as it comes.
Line = list[tuple[str, str]]


def text_of(line: Line) -> str:
    """A line without its looks."""
    return "".join(text for text, _ in line)


def fit(line: Line, width: int) -> Line:
    """A line of exactly ``width`` columns."""
    fitted: Line = []
    room = width
    for text, style in line:
        if cells(text) > room:
            text = cut(text, "", room) if room else ""
        if text:
            fitted.append((text, style))
        room -= cells(text)
    if room > 0:
        fitted.append((pad("", room), ""))
    return fitted


def sides(left: Line, right: Line, width: int) -> Line:
    """Two ends of a line with room between them; the left one gives way."""
    room = max(0, width - cells(text_of(right)))
    return fit(fit(left, room) + right, width)
