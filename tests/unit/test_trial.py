"""What a trial of tracing takes for wrong; no kernel needed."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from corelock.model import Mode, Row, Snapshot
from corelock.trial import TAKEN, what_is_wrong
from tests.reports import accounting, row, times

_TIMES = times([100] * TAKEN)


def own(operation: str, mode: Mode, tid: int = 0) -> Row:
    return row(
        "python", tid or threading.get_native_id(), operation, mode, wait=_TIMES, hold=_TIMES
    )


def wrong(*rows: Row) -> str:
    return what_is_wrong(Snapshot(None, 0, 1, rows), accounting()) or ""


RIGHT = (own("munlock", "write"), own("msync", "read"))


def test_exact_counts_are_right() -> None:
    assert wrong(*RIGHT) == ""


def test_other_threads_and_operations_do_not_matter() -> None:
    assert wrong(own("mmap", "write"), own("munlock", "write", 1), *RIGHT) == ""


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_row(missing: int) -> None:
    text = wrong(RIGHT[1 - missing])
    assert f"by {RIGHT[missing].operation} it counted 0 waits and 0 holds" in text


@pytest.mark.parametrize("field", ["wait", "hold"])
@pytest.mark.parametrize("count", [TAKEN - 1, TAKEN + 1])
def test_one_too_few_or_too_many(field: str, count: int) -> None:
    changed = replace(RIGHT[0], **{field: times([100] * count)})
    assert str(count) in wrong(changed, RIGHT[1])


def test_reads_taken_for_writes() -> None:
    """What a program for the other layout of the tracepoints would see."""
    assert "0 waits" in wrong(RIGHT[0], replace(RIGHT[1], mode="write"))


def test_events_that_went_nowhere() -> None:
    unbalanced = replace(accounting(), paired=accounting().paired - 2)
    assert what_is_wrong(Snapshot(None, 0, 1, RIGHT), unbalanced) == (
        "2 events are unaccounted for"
    )
