"""Probes as text: a line each, or with fields, arguments and where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from corelock.probes.listing import FileOfProcess, KindOfProbe, Listed
from corelock.probes.operands import TEXT_BYTES
from corelock.probes.places import Field, Place
from corelock.render.table import MIN_WIDTH
from corelock.render.text import cells, flow, pad, printable

_INDENT = "    "
# A type that is longer moves what follows it to the right, or to the next line.
_WIDEST_TYPE = 30
_CHARS = re.compile(r"\bchar \*$")


def render_probes(probes: Sequence[Listed], stream: TextIO, in_full: bool) -> None:
    """A line for each; ``in_full``: with fields and places below it."""
    for probe in probes:
        doubt = f"  ({probe.doubt})" if probe.doubt else ""
        stream.write(f"{printable(probe.pattern)}{doubt}\n")
        if in_full:
            stream.writelines(f"{_INDENT}{line}\n" for line in _details(probe))


def _details(probe: Listed) -> Iterator[str]:
    if probe.kind == "FUNCTION":
        for place in probe.places:
            yield f"at 0x{place.address:x}" if place.address else "its address is hidden"
        return
    if not probe.fields_differ:
        if not probe.fields and probe.kind != "USER":
            yield "it has no arguments" if probe.kind == "STATIC" else "it has no fields"
        yield from _fields(probe.fields)
    for place in probe.places:
        yield from _place(place)
        if probe.fields_differ:
            yield from (_INDENT + line for line in _fields(place.fields))


def _place(place: Place) -> Iterator[str]:
    if place.kind != "USER":
        return
    words = [f"at 0x{place.address:x} of", printable(place.name)]
    if place.semaphore:
        words[-1] += ","
        words.append(f"semaphore at 0x{place.semaphore:x}")
    yield from flow(words, MIN_WIDTH - len(_INDENT), indent=_INDENT)


def _fields(fields: Sequence[Field]) -> Iterator[str]:
    """Names, types, and what is to be known of them, in columns."""
    name_width = max((cells(field.name) for field in fields), default=0)
    type_width = min(max((cells(field.type) for field in fields), default=0), _WIDEST_TYPE)
    width, indent = MIN_WIDTH - len(_INDENT), " " * (name_width + 2)
    for field in fields:
        head = f"{pad(printable(field.name), name_width)}  {pad(printable(field.type), type_width)}"
        remark = _remark(field)
        if cells(head) + 2 + cells(remark) <= width:
            yield f"{head}  {remark}".rstrip()
            continue
        yield head.rstrip()
        for line in flow(remark.split(), width - len(indent), indent=""):
            yield indent + line


def _remark(field: Field) -> str:
    if field.operand is None:
        return f"cannot be used: {field.why}"
    if field.operand.is_text:
        whole = field.operand.length < TEXT_BYTES
        return "text" if whole else f"text, {TEXT_BYTES - 1} bytes at most"
    return f"str({field.name}) is its text" if _CHARS.search(field.type) else ""


def render_overview(kinds: Sequence[KindOfProbe], stream: TextIO) -> None:
    """How many there are of each kind, how they are written, and an example."""
    rows = [("KIND", "COUNT", "PATTERN", "EXAMPLE")]
    rows += [
        (kind.name, "-" if kind.number is None else f"{kind.number:,}", kind.written, kind.example)
        for kind in kinds
    ]
    _table(rows, stream)


def render_files(files: Sequence[FileOfProcess], stream: TextIO) -> None:
    """The files of a process, with how many static probes they have, or why that is not known."""
    rows = [("FILE", "STATIC PROBES", "PATH")]
    for each in files:
        number = "-" if each.static_probes is None else f"{each.static_probes:,}"
        problem = f" ({each.problem})" if each.problem else ""
        rows.append((each.name, number, each.path + problem))
    _table(rows, stream)


def _table(rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """In columns, of which the second is of numbers."""
    widths = [max(map(cells, column)) for column in zip(*rows)]
    for row in rows:
        padded = [pad(printable(cell), width) for cell, width in zip(row, widths)]
        padded[1] = padded[1].strip().rjust(widths[1])
        stream.write("  ".join(padded).rstrip() + "\n")
