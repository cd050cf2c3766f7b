"""Blame of real recordings: each charge is what the witness says of the same cycles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corelock.analysis.blockers import blocking_holds
from corelock.analysis.charges import Charges
from corelock.analysis.overlaps import contended, overlaps
from corelock.recording import DOWNGRADED, ENDING, RELEASED, Recording, open_recording
from tests.blame_witness import Span, due_to
from tests.cli.command import run
from tests.workloads import BUILD

pytestmark = pytest.mark.kernel


def witnessed(recording: Recording) -> tuple[dict[tuple[int, int], int], list[int]]:
    """What is due, by the numbers of the waiting and of the holding cycle; the rows of cycles."""
    rows = {int(row["row"]): (int(row["mm"]), bool(row["mode"])) for row in recording.rows}
    waits: dict[int, list[Span]] = {}
    holds: dict[int, list[Span]] = {}
    row_of: list[int] = []
    for block in recording:
        late = contended(block.kind, block.wait_ns)
        columns = (block.end_ns, block.wait_ns, block.hold_ns, block.row, block.kind, late)
        for end, wait, hold, row, kind, waited in zip(*(column.tolist() for column in columns)):
            mm, write = rows[row]
            if kind & ENDING in (RELEASED, DOWNGRADED):
                holds.setdefault(mm, []).append(Span(end - hold, end, len(row_of), write))
            if waited:
                waits.setdefault(mm, []).append(
                    Span(end - hold - wait, end - hold, len(row_of), write)
                )
            row_of.append(row)
    due: dict[tuple[int, int], int] = {}
    for mm, some in waits.items():
        due.update(((d.waiter, d.holder), ns) for d, ns in due_to(some, holds.get(mm, [])).items())
    return due, row_of


def test_every_charge_of_a_real_recording(tmp_path: Path) -> None:
    path = tmp_path / "demo.rec"
    done = run("record", "-o", path, "--", BUILD / "demo")
    assert done.code == 0, done.err
    with open_recording(path) as recording:
        due, row_of = witnessed(recording)
        expected: dict[tuple[int, int], int] = {}
        for (waiter, holder), ns in due.items():
            key = row_of[waiter], row_of[holder]
            expected[key] = expected.get(key, 0) + ns
        charges = Charges(max(row_of) + 1)
        for each in overlaps(recording, cycles=500):
            charges.add(each)
        total = charges.total()
        found = zip(total.waiter.tolist(), total.holder.tolist())
        assert dict(zip(found, total.charged_ns.tolist())) == expected
        assert len(expected) > 10 and sum(expected.values()) > 100_000_000
        blocker = blocking_holds(recording)
    of_wait: dict[int, int] = {}
    for (waiter, _), ns in due.items():
        of_wait[waiter] = max(of_wait.get(waiter, 0), ns)
    assert np.flatnonzero(blocker >= 0).tolist() == sorted(of_wait)
    assert all(due[waiter, int(blocker[waiter])] == ns for waiter, ns in of_wait.items())
