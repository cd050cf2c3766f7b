"""Record every lock cycle of a process, until Ctrl-C or the file is full.

python record.py PID FILE [SECONDS]
"""

import contextlib
import sys

import corelock

MOST_BYTES = 1 << 30


def main(pid: int, path: str, seconds: float) -> int:
    with corelock.record(path, pid=pid, max_bytes=MOST_BYTES, slow_ns=1_000_000) as recorder:
        print(f"Recording {pid}. Ctrl-C to end.", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            recorder.wait(seconds)  # in the meantime this program could do its own work
    result = recorder.result
    assert result is not None
    print(f"{path}: {result.cycles} cycles and {result.stacks} stacks in {result.bytes} bytes")
    if result.complete:
        return 0
    lost = {**result.cycles_lost, **result.stacks_lost}
    print(f"not all is there: {lost} {result.error or ''}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], float((*sys.argv, "3600")[3])))
