"""Recordings as text: one as a live trace, several together, and what they lack."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from corelock.analysis.census import Census
from corelock.model import Row
from corelock.recording import Damage
from corelock.render.recorded import Recorded, census_lines, loss_words, render_recorded
from corelock.render.report import TextOptions, text_lines
from tests.reports import row, slow_report, times

WHOLE = Census(Damage(False, 0, 0, 0), 12, 10, 0, 12, 10, {"ring_full": 0}, {"ring_full": 0})


def recorded(label: str, census: Census = WHOLE, **more: object) -> Recorded:
    when = "2026-11-21 14:03:05 to 14:04:05"
    return Recorded(label, when, replace(slow_report(), **more), census)


def text(*recordings: Recorded, width: int = 80, **options: object) -> list[str]:
    stream = io.StringIO()
    render_recorded(
        recordings, TextOptions(width=width, **options), ["tid 4211", "10.0u or longer"], stream
    )
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def test_one_is_shown_as_a_live_trace() -> None:
    lines = text(recorded("db7"), stacks=1, hist=True)
    assert lines[1:3] == [
        "recorded on db7, 2026-11-21 14:03:05 to 14:04:05", "only tid 4211, 10.0u or longer"
    ]  # fmt: skip
    live = list(text_lines(slow_report(), TextOptions(width=80, stacks=1, hist=True)))
    assert [lines[0], *lines[3:]] == [*live, "cycles 10 = recorded 10 + lost 0"]


def rows(comm: str, hold_ns: int) -> tuple[Row, ...]:
    return (row(comm, 7, "munmap", hold=times([hold_ns]), wait=times([1])),)


def test_several_are_told_apart_and_added_up() -> None:
    lines = text(
        recorded("db7", rows=rows("a", 1000)), recorded("db8", rows=rows("b", 3000)), stacks=0
    )
    hosts = [line.split() for line in lines[4:6]]
    assert [(words[0], words[1], words[-1]) for words in hosts] == [
        ("db8", "1", "3.00u"), ("db7", "1", "1.00u"),
    ]  # fmt: skip
    together = lines[lines.index("all together") + 3].split()
    assert together[:3] == ["munmap", "W", "2"] and "4.00u" in together
    apart = lines[lines.index("each by itself") + 3 :][:2]
    assert [line.split()[:2] for line in apart] == [["db8", "b[7]"], ["db7", "a[7]"]]
    assert lines[-5:] == [
        "db7: 2026-11-21 14:03:05 to 14:04:05, Linux 6.1.0-18-amd64",
        "cycles 10 = recorded 10 + lost 0",
        "",
        "db8: 2026-11-21 14:03:05 to 14:04:05, Linux 6.1.0-18-amd64",
        "cycles 10 = recorded 10 + lost 0",
    ]


def test_by_fields_of_several() -> None:
    some = [recorded("db7", rows=rows("a", 1000)), recorded("db8", rows=rows("b", 3000))]
    lines = text(*some, by=("mode",), stacks=0)
    header = lines[lines.index("each by itself") + 2]
    assert header.split()[:3] == ["HOST", "M", "COUNT"]


def test_the_slowest_say_on_which_host() -> None:
    heads = [
        line for line in text(recorded("db7"), recorded("db8"), stacks=3)
        if re.match(r"(wait|hold) \d", line)
    ]  # fmt: skip
    assert heads and all(re.search(r"  on db[78]  at [+-]\d+\.\d{3}s$", line) for line in heads)


def test_histograms_of_several_say_whose() -> None:
    lines = text(recorded("db7", rows=rows("a", 9)), recorded("db8", rows=rows("b", 9)), hist=True)
    assert "a[7] munmap write on db7: hold (ns)" in lines
    assert "b[7] munmap write on db8: hold (ns)" in lines


def test_nothing_in_several() -> None:
    assert "no lock was taken" in text(recorded("a", rows=()), recorded("b", rows=()))


def test_notes_on_clocks_come_last() -> None:
    note = "suspended for 1.00h in all, in no time above"
    assert text(replace(recorded("db7"), notes=(note,)))[-1] == note


CUT = replace(WHOLE, damage=Damage(True, 0, 0, 0), written=None, counted=None, lost={})


@pytest.mark.parametrize(
    ("census", "lines", "words"),
    [
        (WHOLE, ["cycles 10 = recorded 10 + lost 0"], []),
        (
            replace(WHOLE, counted=17, lost={"ring_full": 5, "not_written": 2}),
            [
                "cycles 17 = recorded 10 + lost 7",
                "  cycles lost: ring_full 5, not_written 2",
            ],
            ["cycles lost (ring_full) 5", "cycles lost (not_written) 2"],
        ),
        (
            replace(WHOLE, stacks_lost={"table_full": 1234}),
            ["cycles 10 = recorded 10 + lost 0", "  stacks lost: table_full 1,234"],
            ["stacks lost (table_full) 1,234"],
        ),
        (
            replace(WHOLE, counted=11),
            [
                "cycles 11 = recorded 10 + lost 0",
                "UNBALANCED by 1 cycles: these numbers cannot be trusted",
            ],
            ["unbalanced by 1 cycles"],
        ),
        (
            CUT,
            [
                "cycles 12 read; how many there were is not known",
                "DAMAGED: the recording has no end",
            ],
            ["the recording has no end"],
        ),
        (
            replace(WHOLE, damage=Damage(False, 1, 2, 1), written=14, counted=12, nameless=1),
            [
                "cycles 12 = recorded 10 + lost 0 + in what cannot be read, at most 2",
                "DAMAGED: 1 corrupt block, 2 missing blocks, 1 byte that are no block,",
                "  1 cycle of unknown threads, in no table",
            ],
            [
                "1 corrupt block", "2 missing blocks", "1 byte that are no block",
                "1 cycle of unknown threads, in no table", "2 cycles in what cannot be read",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_missing(census: Census, lines: list[str], words: list[str]) -> None:
    assert list(census_lines(census, 80)) == lines
    assert list(loss_words(census)) == words
