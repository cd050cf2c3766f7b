"""How often a process calls munmap, with what length, and the first few calls.

    python munmap.py PID

Counts, lengths and calls are of the same time: until Ctrl-C.
"""

import signal
import sys
from itertools import islice

import corelock

CALL = "t:syscalls:sys_enter_munmap"


def main(pid: int) -> None:
    counter = corelock.HitCounter(CALL, pid=pid)
    lengths = corelock.Histograms(f"{CALL}:len", pid=pid)
    calls = corelock.EventTrace(CALL, pid=pid, fields=["len"])
    with counter, lengths, calls:
        print(f"Tracing munmap of {pid}. Ctrl-C to end.", file=sys.stderr)
        signal.sigwait({signal.SIGINT})
        calls.stop()
        by_length = lengths.stop().measures[0].histograms
        (count,) = counter.stop().counts.values()
        print(f"{count} calls")
        for distribution in by_length.values():
            print(f"{distribution.min} to {distribution.max} bytes, {distribution.sum} in all")
        for event in islice(calls.take(), 3):
            print(f"{event.comm}[{event.tid}] {event.values['len']} bytes")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main(int(sys.argv[1]))
