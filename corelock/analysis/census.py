"""What a recording holds, what it lacks, and whether that fits what the kernel counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

from corelock.analysis.source import Source
from corelock.recording import ABORTED, ENDING, Damage


@dataclass(frozen=True)
class Census:
    """Cycles of a whole recording, whatever of it was chosen.

    ``read`` cycles are in sound blocks, ``ended`` of them were not still going on when
    recording ended; ``nameless`` ones are of rows that are in no sound block, and so in no
    table. The recorder says that it wrote ``written`` and lost ``lost``, by cause (as
    ``stacks_lost``), and the kernel counted ``counted`` that ended: None if the recording was cut.
    """

    damage: Damage
    read: int
    ended: int
    nameless: int
    written: Optional[int]
    counted: Optional[int]
    lost: Mapping[str, int]
    stacks_lost: Mapping[str, int]

    @property
    def unread(self) -> Optional[int]:
        """Cycles that were written and are in blocks that cannot be read."""
        return None if self.written is None else self.written - self.read

    @property
    def unaccounted(self) -> Optional[int]:
        """Counted minus recorded and lost cycles: 0, or the numbers cannot be trusted.

        None: it cannot be told, as part of the recording is missing.
        """
        if self.counted is None:
            return None
        if self.unread:
            # What was in a block that cannot be read is not known, only how many.
            return None if self.damage and self.unread > 0 else -self.unread
        return self.counted - self.ended - sum(self.lost.values())


def take_census(source: Source) -> Census:
    """Read all of a recording but the times.

    Once it was read, damage is known to its full extent.
    """
    recording, known = source.recording, source.row_table.known
    endings = np.zeros(ENDING + 1, np.int64)
    nameless = 0
    for block in recording:
        endings += np.bincount(block.kind & ENDING, minlength=ENDING + 1)
        in_table = block.row < len(known)
        nameless += len(block) - int(np.count_nonzero(known[block.row[in_table]]))
    footer = recording.footer
    written = counted = None
    if footer is not None:
        totals = footer["totals"]
        written, counted = footer["cycles"]["written"], totals["holds"] + totals["failures"]
    _ = recording.processes, recording.stacks  # What of them is damaged is found by reading.
    return Census(
        damage=recording.damage,
        read=int(endings.sum()),
        ended=int(endings[: ABORTED + 1].sum()),
        nameless=nameless,
        written=written,
        counted=counted,
        lost=footer["cycles"]["lost"] if footer else {},
        stacks_lost=footer["stacks"]["lost"] if footer else {},
    )
