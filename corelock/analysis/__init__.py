"""What recordings say: rows, times and stacks of the cycles that were chosen.

Streamed by blocks, so that it takes no more memory for a longer recording. Needs numpy
(``pip install 'corelock[report]'``).
"""

from __future__ import annotations

from corelock.extras import needs

with needs("report", "numpy"):
    import numpy  # noqa: F401
