"""How long ``corelock report`` takes for ten million cycles, and how much memory.

    .venv/bin/python bench/report.py [--cycles N] [--contended SHARE] [-- OPTIONS OF REPORT...]

The recording is made up (recorded_load.py); nothing is traced.
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
    parser.add_argument("--contended", type=float, default=0.05, help="share of the cycles")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("options", nargs="*", help="of corelock report")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    corelock = str(Path(sys.executable).with_name("corelock"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.rec")
        # Not in this process: a child's most memory is counted from its parent's on.
        load = [sys.executable, str(Path(__file__).with_name("recorded_load.py")), str(path)]
        options = ["--cycles", str(given.cycles), "--contended", str(given.contended)]
        subprocess.run([*load, *options], check=True)
        size = path.stat().st_size
        runs = [measure([corelock, "report", str(path), *given.options]) for _ in range(given.runs)]
    print(
        f"{given.cycles:,} cycles, {size / 2**20:.0f} MiB, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name, unit, values in zip(("clock", "CPU", "memory"), ("s", "s", "MiB"), zip(*runs)):
        print(f"{name:7} median {statistics.median(values):7.2f} {unit}, most {max(values):.2f}")


if __name__ == "__main__":
    main()
