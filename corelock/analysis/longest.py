"""The longest cycles of all, for what can show only so many of them one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Longest:
    """Keeps the ``most`` cycles that took longest: the times named by ``times``, together.

    They are columns of equal length, these times among them. ``seen`` counts all that were
    offered; the longest that was not kept took ``left_out_ns`` (0: all are here).
    """

    def __init__(self, most: int, times: Sequence[str] = ("wait_ns", "hold_ns")) -> None:
        self._most = most
        self._times = times
        self._parts: list[dict[str, Any]] = []
        self._kept = 0
        self._shortest: Any = -1  # enough are here that took as long, or longer
        self.seen = 0
        self.left_out_ns = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Offer cycles."""
        took = self._took(columns)
        self.seen += len(took)
        long = took > self._shortest
        self._leave_out(took[~long])
        (at,) = np.nonzero(long)
        self._parts.append({name: column[at] for name, column in columns.items()})
        self._kept += len(at)
        if self._kept > 4 * self._most:
            self._shortest = self._took(self.columns()).min()

    def keep(self, most: int) -> None:
        """Keep fewer from now on."""
        self._most = most
        self.columns()

    def columns(self) -> dict[str, Any]:
        """The longest so far, in no order."""
        if not self._parts:
            return {}
        kept = {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}
        took = self._took(kept)
        over = len(took) - self._most
        if over > 0:
            order = np.argpartition(took, over)
            self._leave_out(took[order[:over]])
            kept = {name: column[order[over:]] for name, column in kept.items()}
        self._parts, self._kept = [kept], min(len(took), self._most)
        return kept

    def _leave_out(self, took: Any) -> None:
        if len(took):
            self.left_out_ns = max(self.left_out_ns, int(took.max()))

    def _took(self, columns: Mapping[str, Any]) -> Any:
        # Blocks have them in as few bytes as they need, which two together may not have.
        return sum(columns[name].astype(np.float64) for name in self._times)


class LongestOfEach:
    """Keeps ``most`` cycles: those of the longest waits and of the longest holds, in turn.

    At least the ``most // 2`` longest of either are all here. Columns are those of
    :class:`Longest`; cycles are told apart by ``source`` and ``number``.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Each of them may turn out to be all there is.
        self._waits, self._holds = Longest(most, ("wait_ns",)), Longest(most, ("hold_ns",))

    def add(self, columns: Mapping[str, Any]) -> None:
        """Offer cycles."""
        self._waits.add(columns)
        self._holds.add(columns)

    def keep(self, most: int) -> None:
        """Keep fewer from now on."""
        self._most = most
        self._waits.keep(most)
        self._holds.keep(most)

    def columns(self) -> dict[str, Any]:
        """Those that are kept, in no order."""
        waits, holds = self._waits.columns(), self._holds.columns()
        if not waits:
            return {}
        both = {name: np.concatenate([waits[name], holds[name]]) for name in waits}
        order = np.lexsort((both["number"], both["source"]))
        again = (np.diff(both["number"][order]) == 0) & (np.diff(both["source"][order]) == 0)
        once = order[np.append(True, ~again)]
        both = {name: column[once] for name, column in both.items()}
        places = np.minimum(_places(both["wait_ns"]), _places(both["hold_ns"]))
        kept = np.argsort(places, kind="stable")[: self._most]
        return {name: column[kept] for name, column in both.items()}


def _places(times_ns: Any) -> Any:
    """Which longest one each time is, from 0 on; what took no time comes after all others."""
    places = np.empty(len(times_ns), np.int64)
    places[np.argsort(times_ns, kind="stable")[::-1]] = np.arange(len(times_ns))
    return np.where(times_ns > 0, places, len(times_ns))
