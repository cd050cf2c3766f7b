"""The longest cycles of all, to be shown one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Longest:
    """Keeps the ``most`` cycles with the longest wait or hold, as columns of equal length.

    ``seen`` counts all that were offered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[dict[str, Any]] = []
        self._kept = 0
        self._shortest = 0  # what is shorter is not among the longest any more
        self.seen = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Offer cycles: columns with ``wait_ns`` and ``hold_ns`` among them."""
        longer = np.maximum(columns["wait_ns"], columns["hold_ns"])
        self.seen += len(longer)
        (at,) = np.nonzero(longer >= self._shortest)
        self._parts.append({name: column[at] for name, column in columns.items()})
        self._kept += len(at)
        if self._kept > 4 * self._most:
            self._parts = [self.columns()]
            self._kept = self._most
            kept = self._parts[0]
            self._shortest = int(np.maximum(kept["wait_ns"], kept["hold_ns"]).min())

    def keep(self, most: int) -> None:
        """Keep fewer from now on."""
        self._most = most
        self._parts = [self.columns()]

    def columns(self) -> dict[str, Any]:
        """The longest so far, in no order."""
        if not self._parts:
            return {}
        together = {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }
        longer = np.maximum(together["wait_ns"], together["hold_ns"])
        if len(longer) <= self._most:
            return together
        at = np.argpartition(longer, len(longer) - self._most)[-self._most :]
        return {name: column[at] for name, column in together.items()}
