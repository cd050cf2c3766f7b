"""The longest cycles of all, for what can show only so many of them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Longest:
    """Keeps the ``most`` cycles that took longest, wait and hold together.

    They are columns of equal length, ``wait_ns`` and ``hold_ns`` among them. ``seen`` counts all
    that were offered; the longest that was not kept took ``left_out_ns`` (0: all are here).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[dict[str, Any]] = []
        self._kept = 0
        self._shortest: Any = 0  # what is shorter is not among the longest any more
        self.seen = 0
        self.left_out_ns = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Offer cycles."""
        took = _took(columns)
        self.seen += len(took)
        long = took >= self._shortest
        self._leave_out(took[~long])
        (at,) = np.nonzero(long)
        self._parts.append({name: column[at] for name, column in columns.items()})
        self._kept += len(at)
        if self._kept > 4 * self._most:
            self._shortest = _took(self.columns()).min()

    def keep(self, most: int) -> None:
        """Keep fewer from now on."""
        self._most = most
        self.columns()

    def columns(self) -> dict[str, Any]:
        """The longest so far, in no order."""
        if not self._parts:
            return {}
        kept = {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}
        took = _took(kept)
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


def _took(columns: Mapping[str, Any]) -> Any:
    # Blocks have them in as few bytes as they need, which two together may not have.
    return np.add(columns["wait_ns"], columns["hold_ns"], dtype=np.float64)
