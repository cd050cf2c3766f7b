"""Stacks as lines of text, ``thread;user;-;kernel nanoseconds``; see ``docs/exports.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, TextIO

from corelock.analysis.batches import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.export.samples import Sample, What, samples

BINARY = False


def write(
    stream: TextIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
    what: What = "hold",
) -> None:
    """Write a line for each distinct stack: of all hold times, or of all wait times."""
    lines: dict[str, int] = {}
    for sample in samples(sources, selection, progress):
        if sample.what == what:
            line = _stack(sample, with_host=len(sources) > 1)
            lines[line] = lines.get(line, 0) + sample.total_ns
    for line, total_ns in sorted(lines.items()):
        if total_ns:
            stream.write(f"{line} {total_ns}\n")


def _stack(sample: Sample, *, with_host: bool) -> str:
    host = [sample.source.label] if with_host else []
    user = [frame.name for frame in sample.user]
    kernel = [frame.name for frame in sample.kernel]
    return ";".join(map(_field, [*host, sample.row.comm, *user, "-", *kernel]))


def _field(name: str) -> str:
    """``name`` without what would end it: a semicolon, or the line."""
    kept = name.replace(";", ":")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in kept) or "?"
