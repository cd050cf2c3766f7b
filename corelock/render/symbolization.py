"""How many frames have names, and why others have none: what ``-v`` of every command shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from corelock.model import Symbolization
from corelock.render.text import printable


def symbolization(summary: Symbolization) -> Iterator[str]:
    """Lines of the block: frames with names, those without by reason, other problems."""
    unresolved = sum(summary.unresolved.values())
    yield "symbolization"
    yield f"  frames resolved {summary.resolved}, unresolved {unresolved}"
    yield from _counted(summary.unresolved)
    if summary.problems:
        yield "  problems"
        yield from _counted(summary.problems)


def _counted(reasons: Mapping[str, int]) -> Iterator[str]:
    for reason, times in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        yield f"    {times:>6}  {printable(reason)}"
