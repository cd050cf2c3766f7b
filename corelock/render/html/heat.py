"""How long waits and holds took over time, as counts by moment and duration."""

from __future__ import annotations

from typing import Any

import numpy as np

from corelock.histogram import SUB_BUCKETS

#: Rows of a heat map: four to each power of two, from 2**LOWEST ns on; what is
#: shorter is in the first, what is longer in the last.
STEPS = 4
LOWEST = 6
HIGHEST = 38
ROWS = STEPS * (HIGHEST - LOWEST)
assert SUB_BUCKETS % STEPS == 0


def duration_row(times_ns: Any) -> Any:
    """The row of each time. Linear within a power of two, as :mod:`corelock.histogram` has it."""
    fraction, exponent = np.frexp(np.maximum(times_ns, 1).astype(np.float64))
    # fraction is in [0.5, 1): a time in [2**n, 2**(n+1)) has exponent n + 1.
    rows = (exponent - 1 - LOWEST) * STEPS + ((fraction - 0.5) * 2 * STEPS).astype(np.int64)
    return np.clip(rows, 0, ROWS - 1)


class HeatMap:
    """Counts of times by when they ended and how long they took; exact.

    ``counts`` has ``columns`` times ``ROWS`` numbers, column by column.
    """

    def __init__(self, span_ns: int, columns: int) -> None:
        self._scale = columns / span_ns
        self._columns = columns
        self.counts = np.zeros(columns * ROWS, np.int64)

    def add(self, ends_ns: Any, times_ns: Any) -> None:
        """Count times (ns) that ended so long after the page's beginning (ns)."""
        column = np.clip((ends_ns * self._scale).astype(np.int64), 0, self._columns - 1)
        self.counts += np.bincount(
            column * ROWS + duration_row(times_ns), minlength=len(self.counts)
        )
