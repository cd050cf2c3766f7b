"""What share of each moment a thread waited and held: the timeline without its details."""

from __future__ import annotations

from typing import Any

import numpy as np

WAIT, READ_HOLD, WRITE_HOLD = range(3)
PLANES = 3


class Shading:
    """Nanoseconds of waiting and holding by lane (a thread) and column (a span of time)."""

    def __init__(self, span_ns: int, lanes: int, columns: int) -> None:
        self._width = span_ns / columns
        self._columns = columns
        self._lanes = lanes
        # One column more: where what ends with the page stops being counted.
        shape = (PLANES, lanes, columns + 1)
        self._partial = np.zeros(shape, np.float64)
        self._steps = np.zeros(shape, np.float64)

    def add(self, plane: Any, lane: Any, begin_ns: Any, end_ns: Any) -> None:
        """Add spans, each of a plane and a lane; ns since the page's beginning."""
        limit = self._width * self._columns
        begin, end = np.clip(begin_ns, 0, limit), np.clip(end_ns, 0, limit)
        first = (begin / self._width).astype(np.int64)
        last = (end / self._width).astype(np.int64)
        base = (plane * self._lanes + lane) * (self._columns + 1)
        flat, steps = self._partial.reshape(-1), self._steps.reshape(-1)
        flat += np.bincount(base + first, end - begin, len(flat))
        (crossing,) = np.nonzero(last > first)
        base, first, last = base[crossing], first[crossing], last[crossing]
        # A span over several columns: what is beyond its first one goes to the others.
        edge = (first + 1) * self._width
        np.add.at(flat, base + first, edge - end[crossing])
        np.add.at(flat, base + last, end[crossing] - last * self._width)
        np.add.at(steps, base + first + 1, self._width)
        np.add.at(steps, base + last, -self._width)

    @property
    def total_ns(self) -> Any:
        """Nanoseconds by plane, lane and column."""
        return (self._partial + np.cumsum(self._steps, axis=2))[:, :, : self._columns]

    def levels(self) -> Any:
        """The share of each column as 0 to 255, rounded up: what is there at all, shows."""
        shares = np.ceil(np.clip(self.total_ns / self._width, 0, 1) * 255 - 1e-6)
        return np.maximum(shares, 0).astype(np.uint8)
