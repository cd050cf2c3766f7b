"""How long ``corelock report`` takes for ten million cycles, and how much memory.

    .venv/bin/python bench/report.py [--cycles N] [--rows N] [-- OPTIONS OF REPORT...]

The recording is made up here, by docs/format.md; nothing is traced.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import recordings

BLOCK = 1 << 16
SPAN_NS = 60_000_000_000
OPERATIONS = ((0x20000, 0), (11, 1), (9, 1), (10, 1), (28, 0), (0, 0))


def random_recording(path: Path, cycles: int, rows: int, stacked: float = 0.001) -> Path:
    """A recording of one process's threads: log-normal times, most of them short."""
    random = np.random.default_rng(7)
    blocks = [
        (1, recordings.as_json(recordings.header())),
        (2, recordings.process(1, 4021, "postgres")),
        (3, b"".join(_rows(rows))),
        (5, recordings.as_json(_stacks(200))),
    ]
    ends = np.linspace(1e6, SPAN_NS, cycles).astype(np.uint64)
    with path.open("wb") as file:
        file.write(recordings.file_head())
        number = 0
        for number, (type_, payload) in enumerate(blocks):
            file.write(recordings.block(type_, number, payload))
        for first in range(0, cycles, BLOCK):
            number += 1
            payload = _cycles(random, ends[first : first + BLOCK], rows, stacked)
            file.write(recordings.block(4, number, payload))
        footer = recordings.footer(cycles, SPAN_NS)
        file.write(recordings.block(6, number + 1, recordings.as_json(footer)))
    return path


def _rows(rows: int) -> list[bytes]:
    made = []
    for number in range(1, rows + 1):
        thread = (number - 1) // len(OPERATIONS) + 1
        operation, mode = OPERATIONS[number % len(OPERATIONS)]
        made.append(
            recordings.row(
                number, 1, thread, 4021, 4021 + thread, f"worker-{thread}", operation, mode
            )
        )
    return made


def _stacks(many: int) -> dict[str, object]:
    return {
        "first": {"strings": 0, "frames": 0, "stacks": 0},
        "strings": [*(f"function_{i}" for i in range(many)), "[kernel]"],
        "frames": [[0xFFFFFFFF81000000 + i, i, 1, many] for i in range(many)],
        "stacks": [[[i, (i + 1) % many], [], None] for i in range(many)],
        "ids": [[i + 1, i] for i in range(many)],
    }


def _cycles(random: np.random.Generator, ends: np.ndarray, rows: int, stacked: float) -> bytes:
    count, base = len(ends), recordings.START_NS + int(ends[0])
    with_stacks = np.flatnonzero(random.random(count) < stacked).astype(np.uint32)
    head = np.array([base, base, recordings.START_NS + int(ends[-1])], np.uint64).tobytes()
    offsets = np.array([recordings.REALTIME_OFFSET_NS, 0], np.int64).tobytes()
    counts = np.array([count, len(with_stacks), 0, 0, 0, 0], np.uint32).tobytes()
    columns = (
        ends - ends[0],
        np.minimum(random.lognormal(7, 2.5, count), 1e9),
        np.minimum(random.lognormal(8, 2, count), 1e9),
        1 + random.zipf(1.3, count) % rows,
    )
    ids = (random.integers(0, 200, len(with_stacks)) + 1 for _ in range(2))
    return b"".join(
        (
            head, offsets, counts,
            *(column.astype(np.uint32).tobytes() for column in columns),
            recordings.padded(np.zeros(count, np.uint8).tobytes()),
            recordings.padded(
                b"".join(part.astype(np.uint32).tobytes() for part in (with_stacks, *ids))
            ),
        )
    )  # fmt: skip


def measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of CPU, and the most memory in MiB, of one run."""
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("options", nargs="*", help="of corelock report")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    corelock = str(Path(sys.executable).with_name("corelock"))
    with tempfile.TemporaryDirectory() as folder:
        path = random_recording(Path(folder, "made.rec"), given.cycles, given.rows)
        size = path.stat().st_size
        runs = [measure([corelock, "report", str(path), *given.options]) for _ in range(given.runs)]
    print(
        f"{given.cycles:,} cycles in {given.rows:,} rows, {size / 2**20:.0f} MiB "
        f"({size / given.cycles:.1f} bytes a cycle), {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name, unit, values in zip(("clock", "CPU", "memory"), ("s", "s", "MiB"), zip(*runs)):
        print(f"{name:7} median {statistics.median(values):7.2f} {unit}, most {max(values):.2f}")


if __name__ == "__main__":
    main()
