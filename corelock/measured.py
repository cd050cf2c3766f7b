"""What was counted of events, by measure and key, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from corelock.distribution import Distribution
from corelock.probes.measures import Measure

#: One value for each part of a key: a number or a text.
Key = tuple[Union[int, str], ...]


@dataclass(frozen=True)
class HistAccounting:
    """Where each event of a measure went.

    ``seen`` is what was counted, filtered out, has no start (of times), or was lost for want of
    room, by cause. Of times, starts are accounted for, too: each has ended, was replaced by
    another start with the same key, was lost, or is open; within an interval, as many more are
    open than before it.
    """

    seen: int
    counted: int
    filtered: int
    without_start: int
    lost: Mapping[str, int]
    starts_seen: int = 0
    starts_ended: int = 0
    starts_replaced: int = 0
    starts_lost: int = 0
    starts_open: int = 0

    @property
    def unaccounted(self) -> int:
        """Events that nothing is known of: 0, or something is wrong."""
        ends = self.counted + self.filtered + self.without_start + sum(self.lost.values())
        starts = self.starts_ended + self.starts_replaced + self.starts_lost + self.starts_open
        return abs(self.seen - ends) + abs(self.starts_seen - starts)


@dataclass(frozen=True)
class Measured:
    """One measure: its histograms by key, the most counts first, and what they lack.

    ``key_types`` are the types in C of the parts of keys, "" of those that all events have
    and of low bytes (``s32(FIELD)``).
    """

    measure: Measure
    histograms: Mapping[Key, Distribution]
    accounting: HistAccounting
    key_types: tuple[str, ...]


@dataclass(frozen=True)
class HistogramsSnapshot:
    """Histograms of a span of time, in nanoseconds of CLOCK_MONOTONIC.

    ``by`` are the names of the parts of keys. ``self_hits`` are those of the own process, which
    are in none; ``missed`` those that the kernel kept from the program, because one was running
    already; ``faults`` values that could not be read and were taken for 0 or no text. These three
    are of the whole time so far.
    """

    start_ns: int
    duration_ns: int
    by: tuple[str, ...]
    measures: tuple[Measured, ...]
    self_hits: int
    missed: int
    faults: int
