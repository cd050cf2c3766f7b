"""Blame of recordings as reports have it: selections, losses, stacks, text and JSON."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.analysis.blame import with_blame
from corelock.analysis.census import take_census
from corelock.analysis.selection import Selection
from corelock.analysis.source import open_sources
from corelock.analysis.summary import summarize
from corelock.blame import Blame
from corelock.export.blame import write_blame_json
from corelock.model import Report
from corelock.render.report import BlameOptions, render_blame
from tests import recordings, schedules
from tests.schedules import Cycle
from tests.unit.test_recorded_blame import charged

#: A writer and a reader hold in turn; each other one waits for them.
CYCLES = [
    Cycle(1, True, 100, 110, 50_000, 1),
    Cycle(1, True, 1_000, 50_200, 50_900, 2),
    Cycle(1, False, 2_000, 51_000, 90_000, 3),
    Cycle(1, True, 60_000, 90_100, 90_500, 1),
]


selections = st.builds(
    Selection,
    from_ns=st.none() | st.integers(0, 300),
    to_ns=st.none() | st.integers(0, 300),
    min_ns=st.sampled_from([0, 0, 20]),
)


def report_of(path: Path, selection: Optional[Selection] = None, stacks: int = 0) -> Report:
    selection = selection or Selection()
    with open_sources([path])[0] as source:
        ((_, report),) = summarize([source], selection, slowest=0)
        return with_blame(source, report, selection, take_census(source), stacks=stacks)


def blame_of(path: Path, selection: Optional[Selection] = None) -> Blame:
    blamed = report_of(path, selection).blame
    assert blamed is not None
    return blamed.blame


def charges(blame: Blame) -> dict[tuple[int, int], tuple[int, int, int]]:
    """By tids."""
    return {
        (c.waiter.tid - 5000, c.holder.tid - 5000): (c.charged_ns, c.waits, c.longest_ns)
        for c in blame.charges
    }


def text(report: Report) -> str:
    stream = io.StringIO()
    render_blame(report, BlameOptions(width=80, stacks=1), stream)
    return stream.getvalue()


def test_who_waited_for_whom(tmp_path: Path) -> None:
    report = report_of(schedules.write(tmp_path / "r", CYCLES))
    assert report.blame is not None
    blame = report.blame.blame
    assert charges(blame) == {
        (2, 1): (49_000, 1, 49_000),
        (3, 1): (48_000, 1, 48_000),
        (3, 2): (700, 1, 700),
        (1, 3): (30_000, 1, 30_000),
    }
    assert blame.wait_ns == 10 + 49_200 + 49_000 + 30_100
    assert blame.unknown_ns == 10 + 200 + 300 + 100
    assert blame.unaccounted_ns == 0 and blame.missing == 0
    said = text(report)
    assert "charged 128u" in said and "MISSING" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_short_waits_for_a_free_lock_are_uncontended(tmp_path: Path) -> None:
    blame = blame_of(schedules.write(tmp_path / "r", CYCLES, kind=0))
    # The first one is short, and nobody was seen in its way.
    assert blame.uncontended_ns == 10
    assert sum(each.waits for each in blame.contentions) == 3


def test_holds_of_what_was_not_chosen_are_charged(tmp_path: Path) -> None:
    path = schedules.write(tmp_path / "r", CYCLES)
    blame = blame_of(path, Selection(tid=5003))
    assert charges(blame) == {(3, 1): (48_000, 1, 48_000), (3, 2): (700, 1, 700)}
    assert blame.wait_ns == 49_000 and blame.unaccounted_ns == 0
    # With all that they held: who reads this wants to know how long they do.
    assert {c.holder.tid - 5000: c.holder.holds for c in blame.charges} == {1: 2, 2: 1}


@pytest.mark.parametrize(
    "selection",
    [
        # Waits go on when the holds that they were for have ended.
        Selection(from_ns=50_050), Selection(to_ns=45_000), Selection(from_ns=50_050, tid=5002),
        Selection(from_ns=90_100), Selection(min_ns=45_000),
    ],
)  # fmt: skip
def test_who_is_charged_has_holds(tmp_path: Path, selection: Selection) -> None:
    blame = blame_of(schedules.write(tmp_path / "r", CYCLES), selection)
    assert blame.charges and blame.unaccounted_ns == 0
    held = {1: (2, 49_890), 2: (1, 700), 3: (1, 39_000)}
    for charge in blame.charges:
        assert (charge.holder.holds, charge.holder.hold.max_ns) == held[charge.holder.tid - 5000]


@given(schedules.histories(), selections)
@settings(max_examples=150, deadline=None)
def test_nobody_is_charged_for_more_than_was_held(
    cycles: list[Cycle], selection: Selection
) -> None:
    if not cycles:
        return
    with tempfile.TemporaryDirectory() as folder:
        blame = blame_of(schedules.write(Path(folder, "r"), cycles), selection)
    for charge in blame.charges:
        assert charge.holder.hold.max_ns >= charge.longest_ns > 0


@given(schedules.histories(), st.data())
@settings(max_examples=150, deadline=None)
def test_what_stays_true_where_cycles_are_missing(cycles: list[Cycle], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(cycles), unique=True)) if cycles else []
    if not kept:
        return
    of = {cycle.row: cycle for cycle in cycles}
    whole, part = charged(cycles)[0], charged(kept)[0]
    for waiter, holder in part:
        # It did overlap, and no wait is charged with more than it was.
        overlap = min(of[waiter].had_ns, of[holder].end_ns) - max(
            of[waiter].asked_ns, of[holder].had_ns
        )
        assert 0 < part[waiter, holder][0] <= overlap
    for waiter, holder in whole:
        # What is said of writers, who are alone, does not depend on others.
        if of[holder].write and of[waiter] in kept and of[holder] in kept:
            assert part[waiter, holder] == whole[waiter, holder]
    for waiter in {waiter for waiter, _ in part}:
        assert sum(ns for (of_waiter, _), (ns, _, _) in part.items() if of_waiter == waiter) <= (
            of[waiter].had_ns - of[waiter].asked_ns
        )


def test_missing_holds_are_said(tmp_path: Path) -> None:
    lost = {"written": 4, "lost": {"ring_full": 3, "not_written": 0}}
    path = schedules.write(tmp_path / "r", CYCLES, cycles=lost)
    report = report_of(path)
    assert report.blame is not None and report.blame.blame.missing == 3
    assert "MISSING: up to 3 holds" in text(report)
    accounting = {**recordings.footer(4, 1)["accounting"], "held_at_start": 1}
    path = schedules.write(tmp_path / "s", CYCLES, accounting=accounting)
    assert blame_of(path).missing == 1


def test_of_a_recording_that_was_cut(tmp_path: Path) -> None:
    path = schedules.write(tmp_path / "r", CYCLES)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\x8bCLK")])
    report = report_of(path)
    assert report.blame is not None and report.blame.blame.missing is None
    assert "MISSING: some holds are not on record" in text(report)
    assert as_json(report)["missing_holds"] is None


def as_json(report: Report) -> Any:
    stream = io.StringIO()
    write_blame_json(stream, report)
    return json.loads(stream.getvalue())


def test_json_as_of_a_live_run(tmp_path: Path) -> None:
    said = as_json(report_of(schedules.write(tmp_path / "r", CYCLES)))
    assert said["schema"] == "corelock.blame/1" and said["missing_holds"] == 0
    assert said["charged_ns"] + said["unknown_ns"] == said["wait_ns"]
    largest = said["charges"][0]
    assert (largest["charged_ns"], largest["holder"]["holds"]) == (49_000, 2)
    assert largest["holder"]["longest_hold_ns"] == 49_890


def stacked(path: Path, some: Sequence[recordings.Cycle]) -> Path:
    stacks = {
        "first": {"strings": 0, "frames": 0, "stacks": 0},
        "strings": ["do_mmap", "do_munmap"],
        "frames": [[4096, 0, 1, -1], [8192, 1, 1, -1]],
        "stacks": [[[0], [], None], [[1], [], None]],
        "ids": [[7, 0], [8, 1]],
    }
    rows = (recordings.row(at, 1, at, 4021, 5000 + at, f"t{at}", 11, 1) for at in (1, 2))
    return recordings.write(
        path,
        [
            (1, recordings.as_json(recordings.header())),
            (2, recordings.process(1, 4021, "postgres")),
            (3, b"".join(rows)),
            (4, recordings.cycles(some)),
            (5, recordings.as_json(stacks)),
            (6, recordings.as_json(recordings.footer(len(some), 200_000))),
        ],
    )


def test_stacks_of_both_sides(tmp_path: Path) -> None:
    path = stacked(
        tmp_path / "r",
        [
            recordings.Cycle(1, 80_000, 10, 70_000, 0, 0, 7),
            recordings.Cycle(2, 90_000, 60_000, 9_000, 16, 8, 0),
        ],
    )
    report = report_of(path, stacks=1)
    assert report.blame is not None
    found = report.blame.examples
    kinds = {(key[1], kind): e.kernel_stack[0].name for (key, kind), e in found.items()}
    assert kinds == {(2, "wait"): "do_munmap", (1, "hold"): "do_mmap"}
    assert "do_munmap" in text(report) and "do_mmap" in text(report)
