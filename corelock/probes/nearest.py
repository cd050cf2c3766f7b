"""The nearest of the names there are, for one that is not among them."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable

from corelock.errors import NoSuchProbe

_SHOWN = 5
# difflib compares a few thousand names a second: of a kernel's 100,000 it sees those that share
# the most pieces of three characters.
_COMPARED = 300
_PIECE = 3
_SIMILAR = 0.6


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most five of ``names`` that are like ``name``, the most similar first."""
    wanted = name.lower()
    pieces = {wanted[i : i + _PIECE] for i in range(max(1, len(wanted) - _PIECE + 1))}
    by_lower = {each.lower(): each for each in names}

    def shared(each: str) -> tuple[int, int, str]:
        # Of those with as many, the ones that have the least besides; then by name.
        return -sum(piece in each for piece in pieces), len(each), each

    likely = heapq.nsmallest(_COMPARED, by_lower, key=shared) if wanted else []
    near = difflib.get_close_matches(wanted, likely, n=_SHOWN, cutoff=_SIMILAR)
    return [by_lower[each] for each in near]


def no_such_probe(message: str, wanted: str, names: Iterable[str], otherwise: str) -> NoSuchProbe:
    """An error whose remedy has names like ``wanted``, or says ``otherwise`` if none is."""
    near = nearest(wanted, names)
    return NoSuchProbe(message, f"Did you mean {', '.join(near)}?" if near else otherwise)
