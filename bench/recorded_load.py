"""A made-up recording of several processes whose threads get in each other's way.

    .venv/bin/python bench/recorded_load.py FILE [--cycles N] [--contended SHARE]

Locks are had by one writer or by several readers at a time, as of real ones. Most waits are
short, some are for holds, a few of which are long; a reader of another process comes by.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import recordings

BLOCK = 1 << 16
#: System call or page fault, and mode: 0 read, 1 write.
OPERATIONS = ((0x20000, 0), (0, 0), (9, 1), (10, 1), (11, 1), (28, 0))
_CONTENDED = 16


def realistic_recording(
    path: Path, cycles: int, *, processes: int = 8, threads: int = 32, contended: float = 0.05,
    seed: int = 7,
) -> Path:  # fmt: skip
    """Write a recording of about ``cycles`` to ``path``; as sound as what the recorder writes."""
    chance = np.random.default_rng(seed)
    some = [
        _of_process(chance, number, cycles // processes, threads, contended)
        for number in range(processes)
    ]
    end, wait, hold, row, kind = (np.concatenate(column) for column in zip(*some))
    order = np.argsort(end)
    with path.open("wb") as file:
        file.write(recordings.file_head())
        number = 0
        for type_, payload in _before(processes, threads):
            file.write(recordings.block(type_, number, payload))
            number += 1
        for first in range(0, len(end), BLOCK):
            of = order[first : first + BLOCK]
            payload = _block(end[of], wait[of], hold[of], row[of], kind[of])
            file.write(recordings.block(4, number, payload))
            number += 1
        footer = recordings.footer(len(end), int(end.max()))
        file.write(recordings.block(6, number, recordings.as_json(footer)))
    return path


def _of_process(
    chance: np.random.Generator, number: int, cycles: int, threads: int, contended: float
) -> tuple[np.ndarray, ...]:
    """End, wait, hold, row and kind of one process's cycles."""
    write = chance.random(cycles) < 0.4  # of phases: a writer, or some readers together
    readers = np.where(write, 1, chance.geometric(0.6, cycles))
    last = int(np.searchsorted(np.cumsum(readers), cycles)) + 1
    write, readers = write[:last], readers[:last]
    phase = np.repeat(np.arange(last), readers)
    count = len(phase)
    first = np.cumsum(readers) - readers
    hold = np.minimum(chance.lognormal(7.5, 1.0, count), 1e6).astype(np.int64) + 100
    long = chance.random(count) < 1e-4
    hold[long] = chance.integers(1_000_000, 30_000_000, int(long.sum()))
    later = (chance.random(count) * 2000).astype(np.int64)
    later[first] = 0
    length = np.maximum.reduceat(later + hold, first)
    gap = np.where(chance.random(last) < 0.5, 150, chance.exponential(20_000, last)).astype(int)
    begin = np.cumsum(length + gap) - length
    had = begin[phase] + later
    late = chance.random(count) < contended
    wait = chance.integers(50, 400, count)
    back = chance.geometric(0.3, count)
    asked = begin[np.maximum(phase - back, 0)] + (chance.random(count) * 1000).astype(np.int64)
    wait[late] = np.maximum(wait, had - asked)[late]
    operations = np.where(write[phase], chance.integers(2, 5, count),
                          chance.choice((0, 1, 5), count))  # fmt: skip
    row = 1 + (number * threads + chance.zipf(1.5, count) % threads) * len(OPERATIONS) + operations
    return had + hold, wait, hold, row, np.where(late, _CONTENDED, 0)


def _before(processes: int, threads: int) -> list[tuple[int, bytes]]:
    """Header, processes and rows."""
    rows = []
    for process in range(processes):
        for thread in range(threads):
            of = process * threads + thread
            foreign = thread == threads - 1
            pid = 999 if foreign else 4000 + process
            rows += [
                recordings.row(
                    1 + of * len(OPERATIONS) + at, process + 1, of + 1, pid, pid + thread,
                    "agent" if foreign else f"worker-{thread}", operation, mode,
                )
                for at, (operation, mode) in enumerate(OPERATIONS)
            ]  # fmt: skip
    named = (recordings.process(p + 1, 4000 + p, f"server-{p}") for p in range(processes))
    return [
        (1, recordings.as_json(recordings.header(target=None))),
        (2, b"".join(named)),
        (3, b"".join(rows)),
    ]


def _block(
    end: np.ndarray, wait: np.ndarray, hold: np.ndarray, row: np.ndarray, kind: np.ndarray
) -> bytes:
    base, last = (recordings.START_NS + int(end[at]) for at in (0, -1))
    columns = (end - end[0], wait, hold, row)
    return b"".join(
        (
            np.array([base, base, last], np.uint64).tobytes(),
            np.array([recordings.REALTIME_OFFSET_NS, 0], np.int64).tobytes(),
            np.array([len(end), 0, 0, 0, 0, 0], np.uint32).tobytes(),
            *(column.astype(np.uint32).tobytes() for column in columns),
            recordings.padded(kind.astype(np.uint8).tobytes()),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--cycles", type=int, default=10_000_000)
    parser.add_argument("--contended", type=float, default=0.05)
    given = parser.parse_args()
    realistic_recording(given.file, given.cycles, contended=given.contended)


if __name__ == "__main__":
    main()
