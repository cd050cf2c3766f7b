"""Whether figures of slices of time differ between two recordings by more than chance."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

#: How often, at most, any figure of a comparison is called changed where none did.
LEVEL = 0.05
PERMUTATIONS = 4999
#: With fewer slices on a side that have the figure, it is not judged.
FEWEST = 8

_SEED = 20261121


def p_values(before: Any, after: Any) -> Any:
    """For each figure how likely so large a difference of any of the figures is by chance.

    ``before`` and ``after`` have a figure in each line and a slice of time in each column, all
    slices of the same length; NaN: the figure is not defined there. The test is by ranks. Slices
    are dealt out anew to both sides, for all figures alike, and each figure's difference is held
    against the largest one among all of them (Westfall and Young's step of max T), which
    corrects for their number. A slice resembles the one before: as many fewer slices are
    taken to be there as the correlation of neighbours says. NaN: not judged.
    """
    values = np.concatenate((before, after), axis=1)
    left, right = before.shape[1], after.shape[1]
    scores = _scores(values)
    has = ~np.isnan(values)
    enough = (has[:, :left].sum(axis=1) >= FEWEST) & (has[:, left:].sum(axis=1) >= FEWEST)
    spread = np.sqrt((scores**2).sum(axis=1) * left * right / _pairs(left + right))
    judged = enough & (spread > 0)
    p = np.full(len(values), np.nan)
    p[enough] = 1.0
    if not judged.any():
        return p
    scores = scores[judged] / spread[judged, None]
    seen = np.abs(scores[:, left:].sum(axis=1)) / np.sqrt(_inflation(scores, left))
    largest = np.sort(_largest_by_chance(scores, right))
    above = PERMUTATIONS - np.searchsorted(largest, seen - 1e-9)
    p[judged] = (1 + above) / (1 + PERMUTATIONS)
    return p


def _pairs(slices: int) -> int:
    return max(1, slices * (slices - 1))


def _scores(values: Any) -> Any:
    """Midranks of each line's values, their mean taken off; 0 where there is no value."""
    scores = np.zeros(values.shape)
    for line, into in zip(values, scores):
        at = np.flatnonzero(~np.isnan(line))
        if not len(at):
            continue
        _, index, count = np.unique(line[at], return_inverse=True, return_counts=True)
        rank = np.cumsum(count) - (count - 1) / 2
        into[at] = rank[index] - rank[index].mean()
    return scores


def _inflation(scores: Any, left: int) -> Any:
    """How many times as far as of independent slices the sums of these lines spread.

    By the correlation of neighbours within each side, as of a process that remembers one step;
    what an estimate from few slices is too low by is added. Estimates scatter: a line's is not
    taken to be below the median of all lines.
    """
    lagged, square, slices = 0.0, 0.0, 0
    for side in (scores[:, :left], scores[:, left:]):
        centred = side - side.mean(axis=1, keepdims=True)
        lagged = lagged + (centred[:, 1:] * centred[:, :-1]).sum(axis=1)
        square = square + (centred**2).sum(axis=1)
        slices += side.shape[1]
    r = np.divide(lagged, square, out=np.zeros(len(scores)), where=np.asarray(square) > 0)
    r = np.maximum(r, np.median(r))
    r = np.clip(r + (1 + 4 * np.maximum(r, 0)) * 2 / slices, 0, 0.95)
    return (1 + r) / (1 - r)


def _largest_by_chance(scores: Any, right: int) -> Any:
    """The largest difference of all lines, for each way of dealing out the slices."""
    dealt = _deals(scores.shape[1], right)
    largest = np.zeros(PERMUTATIONS)
    for first in range(0, len(scores), 256):
        np.maximum(largest, np.abs(scores[first : first + 256] @ dealt).max(axis=0), out=largest)
    return largest


@lru_cache(maxsize=2)
def _deals(slices: int, right: int) -> Any:
    """By slice and way: 1 for those that are dealt to the right side."""
    chance = np.random.default_rng(_SEED)
    order = np.argsort(chance.random((PERMUTATIONS, slices)), axis=1)
    return (order < right).T.astype(np.float64)
