"""Made-up histories of locks, as cycles: who waited for and held them, when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests import recordings
from tests.blame_witness import Due, blame
from tests.witness import Event

CONTENDED = 16
NO_WAIT = 8


class Cycle(NamedTuple):
    """Asked for at ``asked_ns``, had from ``had_ns`` to ``end_ns``."""

    lock: int
    write: bool
    asked_ns: int
    had_ns: int
    end_ns: int
    row: int = 0


@st.composite
def histories(draw: st.DrawFn, locks: int = 3) -> list[Cycle]:
    """Cycles of locks that are had by one writer or by any readers at a time; one row each."""
    cycles = []
    for lock in range(1, draw(st.integers(1, locks)) + 1):
        now = 1000
        for readers in draw(st.lists(st.integers(0, 5), max_size=12)):
            now += draw(st.integers(0, 3))
            if readers:
                # Who leaves in the same nanosecond as another may be charged in its place.
                ends = draw(st.lists(st.integers(1, 30), min_size=readers, max_size=readers,
                                     unique=True))  # fmt: skip
                spans = [(draw(st.integers(0, end)), end) for end in ends]
            else:
                spans = [(0, draw(st.integers(0, 10)))]
            for begin, end in spans:
                waited = draw(st.integers(0, 60))
                had = now + begin
                cycles.append((lock, not readers, had - waited, had, now + end))
            now += max(end for _, end in spans)
    order = draw(st.permutations(cycles))
    return [Cycle(*cycle, row) for row, cycle in enumerate(order, 1)]  # type: ignore[misc]


def simulated(cycles: int, threads: int, seed: int, reads: float = 0.6) -> list[Cycle]:
    """Threads that take one lock as a fair rwsem gives it: readers enter in batches."""
    chance = random.Random(seed)
    asks = sorted((chance.randrange(1000), thread) for thread in range(threads))
    done: list[Cycle] = []
    free_ns, readers_until_ns = 1000, 0
    while len(done) < cycles:
        batch = [asks.pop(0)]
        write = chance.random() >= reads
        while not write and asks and asks[0][0] <= max(free_ns, batch[0][0]):
            if chance.random() >= reads:
                break
            batch.append(asks.pop(0))
        for asked, thread in batch:
            after = max(free_ns, readers_until_ns if write else 0)
            had = max(after, asked) + chance.randrange(1, 40)
            end = had + chance.choice((50, 300, 300, 5000)) + chance.randrange(40)
            while any(cycle.end_ns == end for cycle in done[-4 * threads :]):
                end += 1
            done.append(Cycle(1, write, asked, had, end, 2 * thread + write + 1))
            if write:
                free_ns, readers_until_ns = end, end
            else:
                readers_until_ns = max(readers_until_ns, end)
            asks.append((end + chance.randrange(2000), thread))
        asks.sort()
    return done


def write(
    path: Path, history: Sequence[Cycle], *, block: int = 4, kind: int = CONTENDED, **footer: object
) -> Path:
    """A recording of the cycles in blocks of ``block``, in this order."""
    first = min((cycle.asked_ns for cycle in history), default=0)
    rows = {cycle.row: cycle for cycle in history}
    blocks = [
        (1, recordings.as_json(recordings.header(start_ns=recordings.START_NS + first))),
        (2, b"".join(recordings.process(lock, 4000 + lock, f"of-{lock}")
                     for lock in sorted({cycle.lock for cycle in history}))),
        (3, b"".join(recordings.row(row, c.lock, row, 4000 + c.lock, 5000 + row, f"t{row}",
                                    11 if c.write else 0x20000, int(c.write))
                     for row, c in sorted(rows.items()))),
    ]  # fmt: skip
    for at in range(0, len(history), block):
        some = [
            recordings.Cycle(c.row, c.end_ns, c.had_ns - c.asked_ns, c.end_ns - c.had_ns, kind)
            for c in history[at : at + block]
        ]
        blocks.append((4, recordings.cycles(some)))
    end = max((cycle.end_ns for cycle in history), default=0)
    said = {**recordings.footer(len(history), end), **footer}
    blocks.append((6, recordings.as_json(said)))
    return recordings.write(path, blocks)


def due(cycles: Sequence[Cycle]) -> dict[tuple[int, int], int]:
    """What the witness says, by the indices of the waiting and of the holding cycle."""
    found: dict[tuple[int, int], int] = {}
    for lock in {cycle.lock for cycle in cycles}:
        events = []
        for index, cycle in enumerate(cycles):
            if cycle.lock == lock:
                times = (
                    (cycle.asked_ns, "start"),
                    (cycle.had_ns, "acquire"),
                    (cycle.end_ns, "release"),
                )
                events += [
                    Event(ns, index, kind, 0, cycle.write, True)  # type: ignore[arg-type]
                    for ns, kind in times
                ]
        for key, ns in blame(events)[0].items():
            assert isinstance(key, Due)
            found[key.waiter, key.holder] = ns
    return found
