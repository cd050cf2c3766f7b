"""Each cycle of the page is in the lane of its own thread, whatever was counted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from corelock.analysis.selection import Selection
from corelock.recording import CONTENDED, RELEASED, WAITING
from tests import recordings as r
from tests.html_pages import made_page
from tests.recordings import Cycle, Plan

MUNMAP = 11
MS = 1_000_000
PROCESSES = [r.process(1, 10, "server")]
#: Holds, then waits for 4.5 s until the recording ends.
ROWS = [
    r.row(1, 1, 1, 10, 11, "holder", MUNMAP, 1), r.row(2, 1, 2, 10, 12, "stuck", MUNMAP, 1),
    r.row(3, 1, 3, 10, 13, "idle", MUNMAP, 1),
]  # fmt: skip
HELD = Cycle(1, 900 * MS, 0, 5 * MS, RELEASED)
STUCK = Cycle(2, 5_000 * MS, 4_500 * MS, 0, WAITING | CONTENDED)


@pytest.mark.parametrize("cycles", [[STUCK], [HELD, STUCK]], ids=["alone", "with others"])
@pytest.mark.parametrize("tid", [None, 12])
def test_who_still_waits_has_a_lane(
    tmp_path: Path, cycles: list[Cycle], tid: Optional[int]
) -> None:
    path = Plan(PROCESSES, ROWS, [[cycle] for cycle in cycles]).write(tmp_path / "stuck.clk")
    page = made_page(path, Selection(tid=tid))
    shown = [("stuck[12]", "stuck[12]", 4_500 * MS)]
    if tid is None and HELD in cycles:
        shown.append(("holder[11]", "holder[11]", 0))
    assert [(c.thread, c.lane, c.wait_ns) for c in page.cycles] == shown
    assert page.lanes == [thread for thread, _, _ in shown]
    assert page.facts["lanes"][0]["wait"] == 4_500 * MS
    assert page.part("waiting").sum() == pytest.approx(4_500 * MS)


def test_who_was_not_chosen_has_a_lane_for_the_hold_that_kept_a_wait(tmp_path: Path) -> None:
    cycles = [HELD, Cycle(2, 901 * MS, 4 * MS, 1 * MS, RELEASED | CONTENDED)]
    page = made_page(
        Plan(PROCESSES, ROWS, [cycles]).write(tmp_path / "kept.clk"), Selection(tid=12)
    )
    wait, hold = sorted(page.cycles, key=lambda cycle: -cycle.wait_ns)
    assert (wait.thread, wait.lane) == ("stuck[12]", "stuck[12]")
    assert (hold.thread, hold.lane, hold.hold_ns) == ("holder[11]", "holder[11]", 5 * MS)
    assert page.cycles[wait.blocker] == hold
    blamed = {lane["name"]: lane["blamed"] for lane in page.facts["lanes"]}
    assert blamed == {"holder[11]": 4 * MS, "stuck[12]": 0}


def test_without_cycles_the_charts_are_empty(tmp_path: Path) -> None:
    path = Plan(PROCESSES, ROWS, [[HELD, STUCK]]).write(tmp_path / "two.clk")
    page = made_page(path, Selection(tid=13))
    assert page.lanes == page.cycles == []
    assert "There is no cycle to be drawn." in page.html
    assert "All 0" not in page.html
