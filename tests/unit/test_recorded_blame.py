"""Blame worked out from recordings, against the witness that goes moment by moment."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.analysis.blockers import blocking_holds
from corelock.analysis.charges import Charges
from corelock.analysis.overlaps import overlaps
from corelock.recording import open_recording
from tests import schedules
from tests.schedules import Cycle

PERIODS = st.sampled_from([1, 2, 5, 1 << 20])


def charged(
    cycles: Sequence[Cycle], period: int = 1 << 20, block: int = 4
) -> tuple[dict[tuple[int, int], tuple[int, int, int]], Charges]:
    """By the rows of waiter and holder: ns, waits and the most of one wait."""
    with tempfile.TemporaryDirectory() as folder:
        path = schedules.write(Path(folder, "r"), cycles, block=block)
        with open_recording(path) as recording:
            charges = Charges(max(cycle.row for cycle in cycles) + 1)
            for each in overlaps(recording, cycles=period):
                charges.add(each)
    table = zip(*(column.tolist() for column in charges.total()))
    return {(waiter, holder): tuple(rest) for waiter, holder, *rest in table}, charges  # type: ignore[misc]


def by_row(cycles: Sequence[Cycle]) -> dict[tuple[int, int], tuple[int, int, int]]:
    """The same, as the witness has it."""
    of_wait: dict[tuple[int, int], int] = defaultdict(int)
    for (waiter, holder), ns in schedules.due(cycles).items():
        of_wait[waiter, cycles[holder].row] += ns
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for (waiter, row), ns in of_wait.items():
        found[cycles[waiter].row, row].append(ns)
    return {key: (sum(each), len(each), max(each)) for key, each in found.items()}


@given(schedules.histories(), PERIODS, st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_each_hold_is_charged_as_the_witness_says(
    cycles: list[Cycle], period: int, block: int
) -> None:
    if cycles:
        assert charged(cycles, period, block)[0] == by_row(cycles)


@given(schedules.histories(locks=2), st.integers(1, 3), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_waits_behind_very_many_holds(cycles: list[Cycle], rows: int, at_once: int) -> None:
    shared = [
        cycle._replace(row=1 + 2 * (cycle.row % rows) + cycle.write + 10 * cycle.lock)
        for cycle in cycles
    ]
    if shared:
        # Row by row wherever there are more holds than rows, in parts of few.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("corelock.analysis.charges._MANY", 0)
            patch.setattr("corelock.analysis.charges._AT_ONCE", at_once)
            patch.setattr("corelock.analysis.charges._ROW_BY_ROW", 1)
            assert charged(shared)[0] == by_row(shared)


@given(schedules.histories(), st.integers(1, 4), PERIODS)
@settings(max_examples=100, deadline=None)
def test_waits_of_a_row_are_added_up(cycles: list[Cycle], rows: int, period: int) -> None:
    # Rows are of one lock and mode, so there are at least so many.
    shared = [
        cycle._replace(row=1 + 2 * (cycle.row % rows) + cycle.write + 10 * cycle.lock)
        for cycle in cycles
    ]
    if shared:
        assert charged(shared, period)[0] == by_row(shared)


@pytest.mark.parametrize("threads", [2, 6, 30])
@pytest.mark.parametrize("period", [97, 1 << 20])
def test_threads_of_a_fair_lock(threads: int, period: int) -> None:
    cycles = schedules.simulated(1500, threads, seed=threads)
    ours, charges = charged(cycles, period, block=100)
    assert ours == by_row(cycles)
    waited = sum(cycle.had_ns - cycle.asked_ns for cycle in cycles)
    assert charges.contended.wait_ns.sum() == waited
    assert charges.contended.unknown_ns.sum() == waited - sum(ns for ns, _, _ in ours.values())
    assert sum(ns for ns, _, _ in ours.values()) > waited / 2  # there is something to agree on


@given(schedules.histories(), PERIODS, st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_the_hold_that_kept_each_wait_longest(cycles: list[Cycle], period: int, block: int) -> None:
    if not cycles:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = schedules.write(Path(folder, "r"), cycles, block=block)
        with open_recording(path) as recording:
            ours = blocking_holds(recording, cycles=period)
    expected = np.full(len(cycles), -1)
    due = schedules.due(cycles)
    for waiter in {waiter for waiter, _ in due}:
        holders = [holder for of, holder in due if of == waiter]
        expected[waiter] = max(holders, key=lambda h: (due[waiter, h], cycles[h].end_ns))
    assert ours.tolist() == expected.tolist()
