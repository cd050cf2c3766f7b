"""Waits that got the lock, by operation: a recording's blocks as numpy arrays, uncopied.

python percentiles.py FILE
"""

import sys
from collections import defaultdict

import numpy as np

import corelock
from corelock.recording import DOWNGRADED, ENDING, HOLDING, NO_WAIT, RELEASED
from corelock.symbolize.syscalls import operation_name

QUANTILES = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}


def main(path: str) -> None:
    waits_ns = defaultdict(list)
    with corelock.open_recording(path) as recording:
        arch = recording.header["host"]["arch"]
        rows = recording.rows[["row", "operation"]].tolist()
        names = {row: operation_name(code, "kernel thread", arch) for row, code in rows}
        for block in recording:
            got = np.isin(block.kind & ENDING, (RELEASED, DOWNGRADED, HOLDING))
            waited = got & ((block.kind & NO_WAIT) == 0)
            found, which = np.unique(block.row, return_inverse=True)
            operations = np.array([names.get(row, "unknown") for row in found])[which]
            for operation in set(operations[waited]):
                waits_ns[operation].append(block.wait_ns[waited & (operations == operation)])
    print(f"{'WAIT (us)':<16} {'COUNT':>9}", *(f"{name:>9}" for name in QUANTILES))
    for operation, parts in sorted(waits_ns.items()):
        found_us = np.percentile(np.concatenate(parts), [*QUANTILES.values()]) / 1000
        print(f"{operation:<16} {sum(map(len, parts)):>9}", *(f"{us:>9.1f}" for us in found_us))
    if recording.damage:
        print(f"the recording is incomplete: {recording.damage}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
