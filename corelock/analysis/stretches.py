"""Who had a lock when, of holds that may overlap: stretches of time with one holder each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: Later than any hold.
NEVER = 2**62


class Axis:
    """Puts the times of several locks one after the other on one axis, for one sort or search.

    ``index`` numbers these locks from 0 (an array by lock), and there are times from
    ``base_ns`` to less than ``base_ns + span_ns``; others are taken for the nearest of these.
    """

    def __init__(self, index: Any, base_ns: int, span_ns: int) -> None:
        self._index, self._base_ns, self._span_ns = index, base_ns, span_ns

    def place(self, lock: Any, ns: Any) -> Any:
        """Where times of locks lie, int64."""
        return self._index[lock] * self._span_ns + np.clip(ns - self._base_ns, 0, self._span_ns - 1)

    @property
    def locks(self) -> int:
        """How many locks there are, also of those that are not on the axis."""
        return len(self._index)

    def ordered(self, stretches: Stretches, by: str = "left_ns") -> Stretches:
        """Stretches in the order of their places."""
        places = self.place(stretches.lock, getattr(stretches, by))
        if (places[1:] >= places[:-1]).all():
            return stretches
        return stretches.where(np.argsort(places, kind="stable"))


class Stretches(NamedTuple):
    """Of each lock disjoint stretches of time with the hold that was in the way then.

    Ordered by lock and time. ``left_ns`` is when the hold ended: at or after ``end_ns``, as
    one that ended later takes the rest.
    """

    lock: Any
    begin_ns: Any
    end_ns: Any
    left_ns: Any
    row: Any
    cycle: Any

    def where(self, mask: Any) -> Stretches:
        """Some of them."""
        return Stretches(*(column[mask] for column in self))

    @classmethod
    def none(cls) -> Stretches:
        """No stretch."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty, empty, empty)


def own_stretches(holds: Stretches, axis: Axis, earliest_ns: Any) -> Stretches:
    """What is left of holds where at each moment the one that ended last counts.

    ``holds`` have their ends as both ``end_ns`` and ``left_ns`` and are ordered by lock and
    end; ``earliest_ns`` has by lock when the earliest of later holds began, and is brought up
    to date. At a moment a hold covers, a later one is there too if it began by then; so what
    is left of it is a stretch, up to when the first of the later ones began.
    """
    if not len(holds.lock):
        return holds
    begin, end = axis.place(holds.lock, holds.begin_ns), axis.place(holds.lock, holds.end_ns)
    # Of a lock that is further on the axis everything lies behind all of this lock's.
    from_here = np.minimum.accumulate(begin[::-1])[::-1]
    later = np.append(from_here[1:], NEVER)
    later = np.minimum(later, axis.place(holds.lock, earliest_ns[holds.lock]))
    until = np.minimum(end, later)
    first = np.flatnonzero(np.diff(holds.lock, prepend=-1))
    locks = holds.lock[first]
    least = np.minimum.reduceat(holds.begin_ns, first)
    earliest_ns[locks] = np.minimum(earliest_ns[locks], least)
    left = until > begin
    return holds._replace(end_ns=holds.end_ns - (end - until)).where(left)
