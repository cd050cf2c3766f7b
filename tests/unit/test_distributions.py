"""Distributions, what is read from them, and how they are shown, from made ones."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.distribution import (
    Bucket,
    Distribution,
    Linear,
    check_linear,
    in_order,
    signed_bounds,
)
from corelock.errors import InvalidArgument
from corelock.export.hist import write_hist_json
from corelock.histogram import bucket_bounds
from corelock.measured import HistAccounting, HistogramsSnapshot, Measured
from corelock.model import Host
from corelock.probes.measures import Measure
from corelock.render.distributions import accounting, distributions, key_words

NOTHING_LOST = {"keys_full": 0, "key_failed": 0, "chunks_full": 0}


def of(*values: int) -> Distribution:
    """The distribution of these, by octaves."""
    counts: dict[tuple[int, int], int] = {}
    for value in values:
        index = 0
        while not bucket_bounds(index)[0] <= abs(value) < bucket_bounds(index)[1]:
            index += 1
        bounds = signed_bounds(index, value < 0)
        counts[bounds] = counts.get(bounds, 0) + 1
    return Distribution(
        in_order(Bucket(*bounds, count) for bounds, count in counts.items()),
        sum(values),
        min(values),
        max(values),
    )


def snapshot(*measured: Measured, by: tuple[str, ...] = ()) -> HistogramsSnapshot:
    return HistogramsSnapshot(10, 20, by, measured, 0, 0, 0)


def seen(distribution: Distribution, filtered: int = 0) -> HistAccounting:
    return HistAccounting(
        distribution.count + filtered, distribution.count, filtered, 0, NOTHING_LOST
    )


NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.sampled_from([0.01, 0.5, 0.99, 1.0]))
def test_quantiles_are_near_the_true_ones(values: list[int], q: float) -> None:
    rank = next(i for i in range(len(values)) if i + 1 >= q * len(values))
    true = sorted(values)[rank]
    (found,) = of(*values).quantiles(q)
    assert found is not None
    assert abs(found - true) <= abs(true) * 0.0625 + 0.5


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.lists(NUMBERS, min_size=1, max_size=20))
def test_two_together(ones: list[int], others: list[int]) -> None:
    assert of(*ones).plus(of(*others)) == of(*ones, *others)
    assert Distribution().plus(of(*ones)) == of(*ones)


def test_nothing() -> None:
    nothing = Distribution()
    assert (nothing.count, nothing.mean, nothing.quantiles(0.5)) == (0, None, (None,))


def test_a_quantile_outside_of_linear_buckets_is_not_known() -> None:
    buckets = (Bucket(None, 0, 1), Bucket(0, 10, 2), Bucket(10, None, 1))
    distribution = Distribution(buckets, 30, -5, 25)
    assert distribution.quantiles(0.2, 0.5, 1) == (None, 4, None)


@given(st.integers(-50, 50), st.integers(1, 100), st.integers(1, 40))
def test_linear_buckets_have_no_gaps(low: int, width: int, step: int) -> None:
    linear = Linear(low, low + width, step)
    bounds = [linear.bounds(index) for index in range(linear.buckets)]
    assert bounds[0][0] == low and bounds[-1][1] == low + width
    assert [high for _, high in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert linear.bounds(linear.buckets) == (None, low)
    assert linear.bounds(linear.buckets + 1) == (low + width, None)


@pytest.mark.parametrize("linear", [(0, 0, 1), (5, 0, 1), (0, 10, 0), (0, 501, 1)])
def test_linear_buckets_that_there_are_not(linear: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidArgument):
        check_linear(Linear(*linear))


def lines(shown: HistogramsSnapshot, top: int = 0, linear: bool = False) -> list[str]:
    found = list(distributions(shown, top, linear))
    assert all(len(line) <= 80 for line in found)
    return found


def bounds_of(shown: Sequence[str]) -> list[str]:
    return [line.partition(")" if ")" in line else "]")[0] for line in shown if "|" in line]


def test_both_sides_of_zero() -> None:
    distribution = of(-11, -2, -1, 0, 1, 7, 7)
    measured = Measured(Measure("a:b", "ret"), {(): distribution}, seen(distribution), ())
    assert lines(snapshot(measured))[:8] == [
        "a:b:ret",
        "(-16, -8]               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |",
        "(-8, -4]                0 |                                                    |",
        "(-4, -2]                1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |",
        "(-2, -1]                1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |",
        "[0, 1)                  1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |",
        "[1, 2)                  1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |",
        "[2, 4)                  0 |                                                    |",
    ]
    assert "count 7  mean 0.143  p50 0  p99 7  min -11  max 7" in lines(snapshot(measured))


def test_numbers_of_all_sizes_keep_the_columns() -> None:
    distribution = of(-(1 << 63), (1 << 64) - 1)
    measured = Measured(Measure("a:b", "c"), {(): distribution}, seen(distribution), ())
    shown = lines(snapshot(measured))
    assert shown[1].startswith("(-16E, -8E]")
    assert "[8E, 16E)" in shown[3]
    # What is empty between them is one line.
    assert shown[2] == "..."
    assert len({line.index("|") for line in shown if "|" in line}) == 1


def test_units_and_keys() -> None:
    distribution = of(*([4096] * 30_000), 1 << 20)
    measured = Measured(
        Measure("a:b", "nr_bytes"),
        {("x\x1b", 254 << 20 | 3, 4096): distribution},
        seen(distribution, filtered=5),
        ("", "dev_t", "void *"),
    )
    shown = lines(snapshot(measured, by=("comm", "dev", "ptr")))
    assert shown[:2] == ["a:b:nr_bytes (bytes)", "comm x?, dev 254:3, ptr 0x1000"]
    assert "count 30,001  mean 4131  p50 4351  p99 4351  min 4096  max 1.00M" in shown
    assert shown[-1] == "a:b: 30,006 events = 30,001 counted + 5 filtered out"
    times = Measured(Measure("a:b", start="a:c"), {(): distribution}, seen(distribution), ())
    assert "count 30,001  mean 4.13u  p50 4.35u  p99 4.35u  min 4.10u  max 1.05m" in lines(
        snapshot(times)
    )


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("delay_ns", "ns"), ("nsecs", "ns"), ("wait_nsec", "ns"), ("bytes", "bytes"),
        ("bytes_alloc", "bytes"), ("nr_bytes", "bytes"), ("nbytes", "bytes"), ("turns", ""),
        ("len", ""), ("megabytesque", ""), ("columns", ""), ("ret", ""),
    ],
)  # fmt: skip
def test_a_unit_is_what_a_field_says(field: str, unit: str) -> None:
    assert Measure("a:b", field).unit == unit


def test_the_keys_with_the_most_come_first() -> None:
    few, many = of(1), of(1, 2, 3)
    histograms = {("many",): many, ("few",): few}
    accounted = HistAccounting(4, 4, 0, 0, NOTHING_LOST)
    measured = Measured(Measure("a:b", "c"), histograms, accounted, ("",))
    shown = lines(snapshot(measured, by=("comm",)), top=1)
    assert "comm many" in shown and "comm few" not in shown
    assert "... and 1 more key of a:b:c (use -n)" in shown


def test_what_is_lost_is_shown() -> None:
    distribution = Distribution(of(1).buckets, 1, 1, 1, lost=3)
    lost = {**NOTHING_LOST, "chunks_full": 3, "keys_full": 2}
    measured = Measured(
        Measure("a:b", "c"), {(): distribution}, HistAccounting(6, 1, 0, 0, lost), ()
    )
    shown = lines(snapshot(measured))
    assert any(line.endswith("lost 3") for line in shown)
    assert shown[-1] == "a:b: 6 events = 1 counted + 2 lost (keys_full) + 3 lost (chunks_full)"
    wrong = Measured(measured.measure, {}, HistAccounting(7, 1, 0, 0, lost), ())
    assert list(accounting([wrong]))[-1] == "UNBALANCED: 1 events of a:b are not accounted for"


def test_starts_are_accounted_for() -> None:
    accounted = HistAccounting(12, 10, 0, 2, NOTHING_LOST, 15, 10, 1, 1, 3)
    assert accounted.unaccounted == 0
    assert list(accounting([Measured(Measure("a:end", start="a:go"), {}, accounted, ())])) == [
        "a:end: 12 events = 10 counted + 2 without a start",
        "a:go: 15 events = 10 ended + 1 replaced by another + 1 lost (starts_full)",
        "  + 3 open",
    ]


def test_linear_rows() -> None:
    buckets = (Bucket(None, 0, 1), Bucket(0, 10, 2), Bucket(40, 50, 4), Bucket(100, None, 1))
    distribution = Distribution(buckets, 300, -5, 105)
    measured = Measured(Measure("a:b", "c"), {(): distribution}, seen(distribution), ())
    rows = [line.split("|")[0].rsplit(None, 1)[0] for line in lines(snapshot(measured), linear=True)
            if "|" in line]  # fmt: skip
    assert rows == ["(..., 0)", "[0, 10)", "[10, 40)", "[40, 50)", "[50, 100)", "[100, ...)"]


def test_words_of_keys() -> None:
    assert key_words(("comm", "pid"), ("", 7), ("", "")) == 'comm "", pid 7'
    assert key_words((), (), ()) == ""


def test_json() -> None:
    distribution = of(-3, 1 << 63)
    measured = Measured(
        Measure("a:b", "c"), {("\udcff", -1): distribution}, seen(distribution), ("", "int")
    )
    stream = io.StringIO()
    host = Host("6.1", "x86_64", "here")
    write_hist_json(stream, host, None, snapshot(measured, by=("comm", "n")))
    found = json.loads(stream.getvalue())
    (histogram,) = found["histograms"]
    assert histogram["key"] == {"comm": "\\xff", "n": -1}
    assert histogram["sum"] == (1 << 63) - 3
    assert histogram["min"] == -3 and histogram["max"] == 1 << 63
    assert [bucket["count"] for bucket in histogram["buckets"]] == [1, 1]
    assert histogram["buckets"][0]["low"] == -3
    assert found["accounting"][0]["seen"] == 2
    assert "starts" not in found["accounting"][0]
