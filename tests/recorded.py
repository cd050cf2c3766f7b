"""The cycles of a recording, one by one, and in the terms of the witness."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import corelock
from corelock import recording as format_
from corelock.symbolize.syscalls import operation_name
from tests.witness import Totals

_MODES = ("read", "write")


@dataclass(frozen=True)
class Cycle:
    """One cycle of a recording, with what its row says."""

    tid: int
    comm: str
    mode: str
    operation: str
    mm: int
    end_ns: int
    wait_ns: int
    hold_ns: int
    kind: int
    wait_stack: int
    hold_stack: int

    @property
    def ending(self) -> int:
        return self.kind & format_.ENDING

    @property
    def has_wait(self) -> bool:
        """Whether it got the lock by asking for it."""
        return self.held and not self.kind & format_.NO_WAIT

    @property
    def held(self) -> bool:
        return self.ending in (format_.RELEASED, format_.DOWNGRADED, format_.HOLDING)

    @property
    def hold_ended(self) -> bool:
        return self.ending in (format_.RELEASED, format_.DOWNGRADED)

    @property
    def failed(self) -> bool:
        return self.ending in (format_.FAILED, format_.ABORTED)


def cycles_of(path: Path) -> list[Cycle]:
    """All cycles; nothing may be damaged."""
    with corelock.open_recording(path) as recording:
        rows = {int(row["row"]): row for row in recording.rows}
        arch = recording.header["host"]["arch"]
        found = []
        for block in recording:
            stacks = {
                int(at): (int(wait), int(hold))
                for at, wait, hold in zip(block.stacked_index, block.wait_stack, block.hold_stack)
            }
            columns = (block.end_ns, block.wait_ns, block.hold_ns, block.row, block.kind)
            for at, (end, wait, hold, row, kind) in enumerate(zip(*(c.tolist() for c in columns))):
                who = rows[row]
                comm = who["comm"].decode()
                found.append(
                    Cycle(
                        int(who["tid"]), comm, _MODES[who["mode"]],
                        operation_name(int(who["operation"]), comm, arch), int(who["mm"]),
                        end, wait, hold, kind, *stacks.get(at, (0, 0)),
                    )
                )  # fmt: skip
        assert not recording.damage
        return found


def totals_of(cycles: list[Cycle]) -> dict[tuple[int, str], Totals]:
    """Cycles in the witness's terms."""
    totals: dict[tuple[int, str], Totals] = defaultdict(Totals)
    for cycle in cycles:
        t = totals[cycle.tid, cycle.mode]
        t.acquisitions += cycle.has_wait
        t.holds += cycle.hold_ended
        t.downgrades += cycle.ending == format_.DOWNGRADED
        t.failures += cycle.failed
        t.wait_total_ns += cycle.wait_ns if cycle.has_wait else 0
        t.hold_total_ns += cycle.hold_ns if cycle.hold_ended else 0
        t.wait_max_ns = max(t.wait_max_ns, cycle.wait_ns if cycle.has_wait else 0)
        t.hold_max_ns = max(t.hold_max_ns, cycle.hold_ns if cycle.hold_ended else 0)
    return totals
