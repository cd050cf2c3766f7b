"""Threads that make system calls with known arguments, for what reads events: a Workload."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading

CALLS = 700
THREADS = ("mill", "saw", "axe")

#: Never open.
BAD_FD = 4000


def arguments(name: str) -> list[tuple[int, int, int]]:
    """``(fd, count, pos)`` of the calls of a thread; fd -2 stands for the file."""
    chance = random.Random(name)
    return [
        (
            chance.choice((-2, -2, -2, BAD_FD, BAD_FD + 1)),
            chance.choice((0, 1, 7, 8, 100, 4096)),
            # Of all sizes, and negative.
            chance.choice((-1, 1)) * chance.getrandbits(chance.randrange(64)),
        )
        for _ in range(CALLS)
    ]


def main() -> None:
    """Be it."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(4096)
    file = os.open(sys.executable, os.O_RDONLY)
    begin, ended = threading.Event(), threading.Barrier(len(THREADS) + 1)
    tids: list[int] = []

    def run(name: str) -> None:
        libc.prctl(15, name.encode())
        calls = [
            (ctypes.c_int(file if fd == -2 else fd), ctypes.c_size_t(count), ctypes.c_long(pos))
            for fd, count, pos in arguments(name)
        ]
        tids.append(threading.get_native_id())
        begin.wait()
        for fd, count, pos in calls:
            libc.pread64(fd, buffer, count, pos)
        ended.wait()
        threading.Event().wait()

    for name in THREADS:
        threading.Thread(target=run, args=(name,), daemon=True).start()
        while len(tids) <= THREADS.index(name):
            pass
    print("ready", os.getpid(), *tids, flush=True)
    sys.stdin.readline()
    begin.set()
    ended.wait()
    print("done", flush=True)
    sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    main()
