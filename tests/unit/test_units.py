from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.render import units

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
SIZES = {
    "n": 1, "u": 1000, "m": 1_000_000, "s": SECOND_NS, "h": HOUR_NS,
    "": 1, "K": 1000, "M": 1_000_000, "G": 10**9, "T": 10**12,
}  # fmt: skip


def value_of(text: str) -> Fraction:
    suffix = text[-1] if text[-1].isalpha() else ""
    return Fraction(text[: len(text) - len(suffix)]) * SIZES[suffix]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0n"),
        (812, "812n"),
        (999, "999n"),
        (1000, "1.00u"),
        (1023, "1.02u"),
        (9_994, "9.99u"),
        (9_995, "10.0u"),
        (99_949, "99.9u"),
        (99_950, "100u"),
        (999_499, "999u"),
        (999_600, "1.00m"),
        (12_345_678, "12.3m"),
        (999_500_000, "1.00s"),
        (1_500_000_000, "1.50s"),
        (75 * SECOND_NS, "75.0s"),
        (1234 * SECOND_NS, "1234s"),
        (9999 * SECOND_NS, "9999s"),
        (10_000 * SECOND_NS, "2.78h"),
        (100 * HOUR_NS, "100h"),
        (9999 * HOUR_NS, "9999h"),
    ],
)
def test_duration(ns: int | None, text: str) -> None:
    assert units.duration(ns) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (99_999, "99999"),
        (100_000, "100K"),
        (123_456, "123K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (12_345_678, "12.3M"),
        (7_000_000_000, "7.00G"),
        (2**50, "1126T"),
    ],
)
def test_count(n: int, text: str) -> None:
    assert units.count(n) == text


@given(st.integers(0, 9999 * HOUR_NS))
def test_duration_is_short_and_right(ns: int) -> None:
    text = units.duration(ns)
    assert len(text) <= 5
    assert abs(value_of(text) - ns) * 200 <= ns


@given(st.integers(0, 9999 * 10**12))
def test_count_is_short_and_right(n: int) -> None:
    text = units.count(n)
    assert len(text) <= 5
    assert abs(value_of(text) - n) * 200 <= n


@given(st.integers(0, HOUR_NS), st.integers(0, HOUR_NS))
def test_a_longer_time_never_reads_shorter(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert value_of(units.duration(low)) <= value_of(units.duration(high))
