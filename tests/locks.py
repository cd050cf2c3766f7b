"""Bringing the threads of ``lock_chain`` into the queue for its lock, without guessing."""

from __future__ import annotations

from corelock import HolderSampler
from tests.cli.command import eventually
from tests.workloads import Workload


def queue_length(sampler: HolderSampler, pid: int) -> int:
    """How many wait for the lock of a process."""
    return sum(lock.waiter_count for lock in sampler.snapshot(pid).locks)


def let_queue(chain: Workload, sampler: HolderSampler, waiters: int) -> None:
    """Let so many threads ask for the lock, each when the one before it is in the queue."""
    already = queue_length(sampler, chain.pid)
    for length in range(already + 1, already + waiters + 1):
        chain.go()

        def queued(length: int = length) -> bool:
            return queue_length(sampler, chain.pid) == length

        eventually(queued)
