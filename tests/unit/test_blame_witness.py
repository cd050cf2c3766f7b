"""The witness for blame, on sequences written by hand."""

from __future__ import annotations

import pytest

from tests.blame_witness import Due, Span, agreement, blame, spans
from tests.witness import Event

# Each line: when, who, what. "w" and "r" are the modes; "!" a failure.
READ, WRITE = False, True


def events(*lines: str) -> list[Event]:
    """``"10 1 start w"`` as an event; ``acquire r!`` failed."""
    found = []
    for line in lines:
        ts_ns, tid, kind, mode = line.split()
        assert kind in ("start", "acquire", "release")
        found.append(
            Event(int(ts_ns), int(tid), kind, 0, mode[0] == "w", not mode.endswith("!"))  # type: ignore[arg-type]
        )
    assert found == sorted(found, key=lambda event: event.ts_ns)
    return found


def test_spans_of_one_thread() -> None:
    waits, holds = spans(events("10 1 start w", "13 1 acquire w", "33 1 release w"))
    assert waits == [Span(10, 13, 1, WRITE)]
    assert holds == [Span(13, 33, 1, WRITE)]


def test_what_began_before_the_recording_or_never_ended_is_left_out() -> None:
    waits, holds = spans(
        events("5 1 release w", "7 2 acquire r", "9 2 release r", "10 1 start w", "13 1 acquire w")
        + events("20 3 start r")
    )
    assert waits == [Span(10, 13, 1, WRITE)]
    assert holds == []


def test_downgrade_ends_the_write_hold_and_is_no_wait() -> None:
    waits, holds = spans(
        events("10 1 start w", "13 1 acquire w", "20 1 acquire r", "33 1 release r")
    )
    assert waits == [Span(10, 13, 1, WRITE)]
    assert holds == [Span(13, 20, 1, WRITE), Span(20, 33, 1, READ)]


def test_failed_acquisition_is_neither() -> None:
    assert spans(events("10 1 start r", "13 1 acquire r!", "20 1 release r")) == ([], [])
    # Nor does it make a downgrade of a write hold.
    waits, holds = spans(
        events("10 1 start w", "13 1 acquire w", "14 1 start r", "15 1 acquire r!")
        + events("16 1 acquire r!", "20 1 release w")
    )
    assert waits == [Span(10, 13, 1, WRITE)]
    assert holds == [Span(13, 20, 1, WRITE)]


def test_writer_behind_writer() -> None:
    due, wait_ns = blame(
        events("10 1 start w", "11 1 acquire w", "20 2 start w", "50 1 release w")
        + events("53 2 acquire w", "60 2 release w")
    )
    assert due == {Due(2, WRITE, 1, WRITE): 30}
    assert wait_ns == 1 + 33


def test_two_writers_one_after_the_other() -> None:
    due, _ = blame(
        events("10 1 start w", "11 1 acquire w", "12 2 start w", "13 3 start r", "50 1 release w")
        + events("52 2 acquire w", "70 2 release w", "71 3 acquire r", "80 3 release r")
    )
    assert due == {
        Due(2, WRITE, 1, WRITE): 38,
        Due(3, READ, 1, WRITE): 37,
        Due(3, READ, 2, WRITE): 18,
    }


def test_of_readers_at_once_the_last_to_leave_is_blamed() -> None:
    due, _ = blame(
        events("10 1 start r", "11 1 acquire r", "12 2 start r", "13 2 acquire r")
        + events("20 3 start w", "30 1 release r", "50 2 release r", "51 3 acquire w")
    )
    assert due == {Due(3, WRITE, 2, READ): 30}


def test_of_readers_the_earlier_is_blamed_until_the_last_one_came() -> None:
    """A reader that gets in past a queued writer, as a trylock does."""
    due, _ = blame(
        events("10 1 start r", "11 1 acquire r", "20 3 start w", "25 2 start r", "26 2 acquire r")
        + events("30 1 release r", "50 2 release r", "51 3 acquire w")
    )
    assert due == {Due(3, WRITE, 1, READ): 6, Due(3, WRITE, 2, READ): 24}


CONVOY = (
    "10 1 start r", "11 1 acquire r", "20 2 start w", "25 3 start r", "50 1 release r",
    "52 2 acquire w", "60 2 release w", "63 3 acquire r", "70 3 release r",
)  # fmt: skip


def test_convoy_is_blamed_on_the_reader_that_blocked_the_writer() -> None:
    due, wait_ns = blame(events(*CONVOY))
    assert due == {
        Due(2, WRITE, 1, READ): 30,
        Due(3, READ, 1, READ): 25,
        Due(3, READ, 2, WRITE): 8,
    }
    assert wait_ns == 1 + 32 + 38


def test_reader_let_in_with_a_reader_waits_for_nobody() -> None:
    """Both wake up after the writer; one is quicker, and out again before the other is in."""
    due, _ = blame(
        events("10 1 start w", "11 1 acquire w", "20 2 start r", "21 3 start r", "30 1 release w")
        + events("31 2 acquire r", "40 2 release r", "45 3 acquire r", "50 3 release r")
    )
    assert due == {Due(2, READ, 1, WRITE): 10, Due(3, READ, 1, WRITE): 9}


def test_reader_after_the_wait_is_not_blamed() -> None:
    due, _ = blame(
        events("10 1 start w", "11 1 acquire w", "20 2 start r", "30 1 release w", "31 2 acquire r")
        + events("32 3 start r", "33 3 acquire r", "90 2 release r", "95 3 release r")
    )
    assert due == {Due(2, READ, 1, WRITE): 10}


def test_a_downgrade_lets_readers_in() -> None:
    due, _ = blame(
        events("10 1 start w", "11 1 acquire w", "15 2 start r", "16 3 start w", "20 1 acquire r")
        + events("22 2 acquire r", "24 2 release r", "40 1 release r", "41 3 acquire w")
    )
    assert due == {
        Due(2, READ, 1, WRITE): 5,
        Due(3, WRITE, 1, WRITE): 4,
        Due(3, WRITE, 1, READ): 20,
    }


def test_hold_that_never_ended_is_not_blamed() -> None:
    due, wait_ns = blame(
        events("10 1 start r", "11 1 acquire r", "20 2 start r", "25 2 acquire r", "26 2 release r")
    )
    assert (due, wait_ns) == ({}, 6)


def test_a_long_hold_is_found_behind_short_ones() -> None:
    """The search goes by the ends of holds: one that ends late may have begun long before."""
    lines = ["1 1 start r", "2 1 acquire r", "5 9 start w"]
    for n in range(20):
        begin = 10 + 10 * n
        lines += [f"{begin} 2 start r", f"{begin + 1} 2 acquire r", f"{begin + 5} 2 release r"]
    lines += ["300 1 release r", "301 9 acquire w", "310 9 release w"]
    due, _ = blame(events(*lines))
    assert due == {Due(9, WRITE, 1, READ): 295}


def test_nothing() -> None:
    assert blame([]) == ({}, 0)


@pytest.mark.parametrize(
    ("ours", "share"),
    [({1: 60, 2: 40}, 1.0), ({1: 60}, 0.6), ({1: 100, 2: 40}, 1.0), ({3: 100}, 0.0), ({}, 0.0)],
)
def test_agreement(ours: dict[int, int], share: float) -> None:
    def due(by_holder: dict[int, int]) -> dict[Due, int]:
        return {Due(9, WRITE, holder, WRITE): ns for holder, ns in by_holder.items()}

    assert agreement(due(ours), due({1: 60, 2: 40})) == share
