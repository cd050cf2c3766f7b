"""The histogram, in Python and as the BPF programs fill it, and sums and differences of times."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelock.histogram import (
    BUCKETS,
    OCTAVES,
    SUB_BUCKETS,
    Histogram,
    bucket_bounds,
    bucket_of,
)
from corelock.model import Row, Snapshot, Times
from tests import host
from tests.reports import NO_TIMES, row, times
from tools import generate_ffi

HOUR_NS = 3_600_000_000_000
ERROR = 1 / 16

# As many short times as long ones: plain integers would nearly all be near an hour.
UP_TO_AN_HOUR = st.integers(0, HOUR_NS.bit_length() - 1).flatmap(
    lambda bits: st.integers(1 << bits, min(HOUR_NS, (2 << bits) - 1))
)
ANY_TIME = st.integers(0, 63).flatmap(lambda bits: st.integers(0, (2 << bits) - 1))
SOME = (0, 0.5, 0.9, 0.99, 0.999, 1)
QUANTILES = st.sampled_from([0.5, 0.9, 0.99, 0.999]) | st.floats(0, 1)


# --- buckets --------------------------------------------------------------------


def test_buckets_cover_every_time_without_gap_or_overlap() -> None:
    bounds = [bucket_bounds(index) for index in range(BUCKETS)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 1 << 42
    assert all(low < high for low, high in bounds)
    assert all(before[1] == after[0] for before, after in zip(bounds, bounds[1:]))


def test_a_bucket_is_narrow() -> None:
    bounds = [bucket_bounds(index) for index in range(BUCKETS)]
    assert all(high - low == 1 or (high - low) * 8 <= low for low, high in bounds)


def test_bounds_are_in_their_bucket() -> None:
    for index in range(BUCKETS):
        low, high = bucket_bounds(index)
        assert (bucket_of(low), bucket_of(high - 1)) == (index, index)


@given(UP_TO_AN_HOUR)
def test_a_time_is_within_the_bounds_of_its_bucket(value: int) -> None:
    low, high = bucket_bounds(bucket_of(value))
    assert low <= value < high


@given(ANY_TIME, ANY_TIME)
def test_buckets_are_in_the_order_of_times(one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert bucket_of(shorter) <= bucket_of(longer) < BUCKETS


def test_times_too_long_are_in_the_last_bucket() -> None:
    assert bucket_of((1 << 42) - 1) == bucket_of(1 << 42) == bucket_of((1 << 64) - 1) == BUCKETS - 1


# --- what BPF counts ------------------------------------------------------------


class Counted:
    """Times added by the BPF programs' own code."""

    def __init__(self, library: Path) -> None:
        ffi = FFI()
        ffi.cdef(
            generate_ffi.declarations(generate_ffi.ABI)
            + """
            void times_reset(uint32_t octaves);
            bool times_count(uint32_t now, uint64_t ns);
            const struct corelock_times *times_read(void);
            uint64_t times_bucket(uint32_t index);
            """
        )
        self._lib: Any = ffi.dlopen(str(library))
        self.reset()

    def reset(self, octaves: int = OCTAVES) -> None:
        self._lib.times_reset(octaves)

    def add(self, value: int, interval: int = 1) -> bool:
        return bool(self._lib.times_count(interval, value))

    @property
    def totals(self) -> tuple[int, int]:
        read = self._lib.times_read()
        return read.total_ns, read.max_ns

    @property
    def histogram(self) -> Histogram:
        return Histogram.from_counts({i: self._lib.times_bucket(i) for i in range(BUCKETS)})

    def recent_max(self, interval: int) -> int:
        read, bank = self._lib.times_read(), interval % 2
        return read.recent_max_ns[bank] if read.recent_interval[bank] == interval else 0


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return Counted(host.build("times", tmp_path_factory.mktemp("host")))


shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@shared_fixture
@given(values=st.lists(ANY_TIME, max_size=20))
def test_bpf_counts_in_the_same_buckets(counted: Counted, values: list[int]) -> None:
    counted.reset()
    for value in values:
        assert counted.add(value)
    assert counted.histogram == Histogram.of(values)
    assert counted.totals == (sum(values) % (1 << 64), max(values, default=0))


def test_bpf_counts_every_bound_in_its_bucket(counted: Counted) -> None:
    counted.reset()
    for index in range(BUCKETS):
        low, high = bucket_bounds(index)
        counted.add(low)
        counted.add(high - 1)
    assert dict(counted.histogram) == {index: 2 for index in range(BUCKETS)}


def test_bpf_adds_nothing_without_room_for_the_octave(counted: Counted) -> None:
    counted.reset(octaves=1)
    assert counted.add(3)
    assert not counted.add(1000)
    assert counted.add(4)
    assert counted.histogram == Histogram.of([3, 4])
    assert counted.totals == (7, 4)


@shared_fixture
@given(steps=st.lists(st.tuples(st.integers(0, 3), ANY_TIME), min_size=1, max_size=20))
def test_bpf_keeps_the_maximum_of_the_last_interval(
    counted: Counted, steps: list[tuple[int, int]]
) -> None:
    counted.reset()
    interval, longest = 1, Counter[int]()
    for step, value in steps:
        interval += step
        counted.add(value, interval)
        longest[interval] = max(longest[interval], value)
        assert counted.recent_max(interval) == longest[interval]
        assert counted.recent_max(interval - 1) == longest[interval - 1]


# --- quantiles ------------------------------------------------------------------


def nearest_rank(values: list[int], q: float) -> int:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


@settings(max_examples=500)
@given(st.lists(UP_TO_AN_HOUR, min_size=1, max_size=200), QUANTILES)
def test_a_quantile_is_within_a_sixteenth_of_the_true_one(values: list[int], q: float) -> None:
    true = nearest_rank(values, q)
    for found in (*Histogram.of(values).quantiles(q), times(values).quantile(q)):
        assert found is not None
        assert abs(found - true) <= ERROR * true


@settings(max_examples=50)
@given(st.integers(1, 2000), st.integers())
def test_the_quantiles_we_print_are_right_for_long_lists(size: int, seed: int) -> None:
    draw = random.Random(seed)
    values = [min(HOUR_NS, 1 + int(draw.lognormvariate(8, 3))) for _ in range(size)]
    quantiles = Histogram.of(values).quantiles(0.5, 0.9, 0.99, 0.999)
    for permille, found in zip((500, 900, 990, 999), quantiles):
        true = sorted(values)[-(-size * permille // 1000) - 1]
        assert found is not None
        assert abs(found - true) <= ERROR * true


@given(st.integers(0, 15))
def test_a_quantile_of_short_times_is_exact(value: int) -> None:
    assert Histogram.of([value]).quantiles(0, 0.5, 1) == (value, value, value)


@given(st.lists(ANY_TIME, min_size=1))
def test_quantiles_rise_up_to_the_maximum(values: list[int]) -> None:
    found = [value for value in times(values).quantiles(*SOME) if value is not None]
    assert len(found) == len(SOME)
    assert found == sorted(found)
    assert found[-1] <= max(values)


@given(st.lists(ANY_TIME, max_size=50), st.lists(QUANTILES, max_size=5).map(sorted))
def test_many_quantiles_at_once_are_those_one_by_one(values: list[int], qs: list[float]) -> None:
    one_by_one = tuple(times(values).quantile(q) for q in qs)
    assert times(values).quantiles(*qs) == one_by_one


def test_nothing_has_no_quantile() -> None:
    assert Histogram().quantiles(0.5, 0.9) == (None, None)
    assert NO_TIMES.quantile(0.5) is None


# --- histograms -----------------------------------------------------------------

LISTS = st.lists(ANY_TIME, max_size=30)


@given(LISTS)
def test_a_histogram_counts_every_time_once(values: list[int]) -> None:
    histogram = Histogram.of(values)
    assert dict(histogram) == Counter(bucket_of(value) for value in values)
    assert histogram.count == len(values)
    assert [index for index, _ in histogram] == sorted(dict(histogram))


@given(st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(0, 1 << 40), max_size=20))
def test_a_histogram_of_counts_has_those_above_zero(counts: dict[int, int]) -> None:
    histogram = Histogram.from_counts(counts)
    assert dict(histogram) == {index: count for index, count in counts.items() if count}
    assert histogram == Histogram.from_counts(dict(reversed(counts.items())))
    assert hash(histogram) == hash(Histogram.from_counts(dict(histogram)))


def test_a_histogram_equals_only_its_like() -> None:
    assert Histogram.of([1, 2]) != Histogram.of([1, 1])
    assert Histogram.of([1]) != {1: 1}
    assert Histogram.of([SUB_BUCKETS - 1]) == Histogram.from_counts({7: 1, 8: 0})


# --- sums and differences -------------------------------------------------------


@given(LISTS, LISTS)
def test_times_added_are_those_of_all_values(one: list[int], other: list[int]) -> None:
    assert times(one).plus(times(other)) == times(one + other)


def later(earlier: list[int], recent: list[int]) -> Times:
    """Times of both, read when an interval that had only ``recent`` ended."""
    return replace(times(earlier + recent), recent_max_ns=max(recent, default=0))


@given(LISTS, LISTS)
def test_times_since_are_those_of_the_values_after(earlier: list[int], recent: list[int]) -> None:
    assert later(earlier, recent).since(times(earlier)) == times(recent)


def snapshot(sequence: int, end_ns: int, *rows: Row) -> Snapshot:
    return Snapshot(sequence, 1000, end_ns - 1000, rows)


def test_a_snapshot_since_the_one_before() -> None:
    idle = row(tid=1, hold=times([5]))
    before = row(
        tid=2, wait=times([7, 3]), hold=times([9]),
        downgrades=4, trylock_failures=2, aborted_waits=1,
    )  # fmt: skip
    after = replace(
        before, wait=later([7, 3], [20]), hold=later([9], [2, 800]),
        downgrades=6, trylock_failures=2, aborted_waits=2,
    )  # fmt: skip
    new = row(tid=3, hold=times([11]))
    gone_idle = replace(idle, hold=later([5], []))

    first = snapshot(1, 4000, idle, before)
    second = snapshot(2, 9000, gone_idle, after, new)
    assert second.since(first) == Snapshot(
        2, 4000, 5000,
        (
            replace(
                before, wait=times([20]), hold=times([2, 800]),
                downgrades=2, trylock_failures=0, aborted_waits=1,
            ),
            new,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("sequence", [1, 2, 3, 5])
def test_only_consecutive_snapshots_can_be_compared(sequence: int) -> None:
    with pytest.raises(ValueError, match="just before"):
        snapshot(sequence, 9000).since(snapshot(3, 4000))


@given(LISTS, LISTS)
def test_what_came_since_adds_up_to_the_whole(earlier: list[int], recent: list[int]) -> None:
    before, whole = times(earlier), later(earlier, recent)
    assert before.plus(whole.since(before)) == times(earlier + recent)
