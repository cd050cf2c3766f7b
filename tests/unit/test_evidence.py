"""Evidence of changes: false alarms stay near the stated level, real changes are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corelock.analysis.evidence import FEWEST, LEVEL, p_values


def slices(chance: np.random.Generator, figures: int, many: int, memory: float) -> Any:
    """Figures of slices, each of which resembles the one before by ``memory``."""
    steps = chance.normal(size=(figures, many + 50))
    for at in range(1, many + 50):
        steps[:, at] += memory * steps[:, at - 1]
    return np.exp(steps[:, 50:])


@pytest.mark.parametrize("memory", [0.0, 0.3, 0.6])
@pytest.mark.parametrize(("figures", "after"), [(1, 30), (20, 30), (20, 75)])
def test_false_alarms_are_rare(memory: float, figures: int, after: int) -> None:
    chance = np.random.default_rng(5)
    pairs = 120
    alarms = 0
    for _ in range(pairs):
        sides = (slices(chance, figures, many, memory) for many in (30, after))
        alarms += bool((p_values(*sides) <= LEVEL).any())
    # What 120 pairs with an alarm in 20 give at most, but for one run in 10,000; twice that
    # often where slices resemble each other, as how much so is only estimated.
    assert alarms <= (16 if memory < 0.5 else 25)


def test_alarms_do_come() -> None:
    chance = np.random.default_rng(6)
    lowest = [p_values(slices(chance, 1, 30, 0), slices(chance, 1, 30, 0))[0] for _ in range(200)]
    # The p-value of nothing is any with the same chance; the correction keeps some back.
    assert 0.02 <= np.mean(np.array(lowest) <= 0.2) <= 0.28


@pytest.mark.parametrize(("memory", "shift"), [(0.0, 2.0), (0.4, 4.0)])
def test_a_real_change_is_found_among_others(memory: float, shift: float) -> None:
    chance = np.random.default_rng(7)
    found = others = 0
    for _ in range(20):
        before, after = (slices(chance, 40, 30, memory) for _ in range(2))
        after[11] *= np.exp(shift)
        p = p_values(before, after)
        found += p[11] <= LEVEL
        others += (np.delete(p, 11) <= LEVEL).any()
    assert found >= 18 and others <= 4


def test_a_change_the_other_way_is_one_too() -> None:
    chance = np.random.default_rng(8)
    before, after = (slices(chance, 5, 30, 0) for _ in range(2))
    after[3] /= np.exp(3)
    assert (p_values(before, after) <= LEVEL).tolist() == [False, False, False, True, False]


def test_too_few_slices_are_not_judged() -> None:
    chance = np.random.default_rng(9)
    before, after = (slices(chance, 3, 30, 0) for _ in range(2))
    after[1, FEWEST - 1 :] = np.nan
    before[2] = np.nan
    assert np.isnan(p_values(before, after)).tolist() == [False, True, True]
    assert np.isnan(p_values(before[:, : FEWEST - 1], after)).all()


def test_what_is_the_same_everywhere_has_not_changed() -> None:
    assert p_values(np.full((2, 30), 7.0), np.full((2, 30), 7.0)).tolist() == [1.0, 1.0]


def test_the_same_slices_give_the_same_answer() -> None:
    chance = np.random.default_rng(10)
    before, after = (slices(chance, 3, 30, 0) for _ in range(2))
    assert p_values(before, after).tolist() == p_values(before, after).tolist()
