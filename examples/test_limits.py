"""Tests that fail if code holds mmap_lock, or waits for it, for too long.

pytest test_limits.py
"""

import mmap
from collections.abc import Callable

import pytest

import corelock.limits

BYTES = 64 << 20


@pytest.fixture()
def cache() -> mmap.mmap:
    pages = mmap.mmap(-1, BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.write(bytes(BYTES))
    return pages


@pytest.mark.mmap_lock(max_hold_ms=500, max_wait_ms=500)
def test_nobody_waits_long_while_the_cache_is_read(cache: mmap.mmap) -> None:
    assert cache.find(b"x") == -1


def test_the_cache_is_dropped_in_short_holds(
    cache: mmap.mmap, mmap_lock_limit: Callable[..., corelock.limits.LockLimit]
) -> None:
    with mmap_lock_limit(max_hold_ms=200, operation=["madvise", "munmap"]):
        for offset in range(0, BYTES, 1 << 20):
            cache.madvise(mmap.MADV_DONTNEED, offset, 1 << 20)
        cache.close()
