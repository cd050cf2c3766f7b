"""Says who holds the mmap_lock of any process on the host for too long, and doing what.

    python holders_watchdog.py [SECONDS]

Nothing is traced and no lock is taken, so it also tells of a process that hangs already.
"""

import sys
import time

import corelock
from corelock.symbolize import Symbolizer


def tell(seen: corelock.SeenLock, symbols: Symbolizer) -> None:
    lock, holder = seen.lock, seen.lock.holder.thread
    who = f"{holder.comm}[{holder.tid}] ({holder.operation})" if holder else "nobody it names"
    whose = ", ".join(f"{process.comm}[{process.pid}]" for process in lock.processes)
    print(f"{whose}: {lock.mode} lock held for {seen.held_ns / 1e9:.1f} s and longer by {who},")
    print(f"    {lock.holder.certainty}; {lock.waiter_count} waiting")
    for frame in symbols.resolve_kernel(holder.kernel_stack) if holder else ():
        print(f"    {frame.name or hex(frame.address)}")
    sys.stdout.flush()


def main(longest_s: float) -> None:
    watch, symbols = corelock.HoldWatch(), Symbolizer()
    told: set[int] = set()
    with corelock.HolderSampler() as sampler:
        while True:
            held = watch.add(sampler.snapshot())
            long = {seen.lock.mm_key: seen for seen in held if seen.held_ns >= longest_s * 1e9}
            for key in long.keys() - told:
                tell(long[key], symbols)
            told = set(long)
            time.sleep(longest_s / 4)


if __name__ == "__main__":
    main(float((*sys.argv, "1")[1]))
