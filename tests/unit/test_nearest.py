"""Names like one that is not there."""

from __future__ import annotations

import random
import time

import pytest

from corelock.probes.nearest import nearest, no_such_probe

NAMES = ["vfs_read", "vfs_readv", "vfs_write", "do_munmap", "vm_munmap", "schedule", "Py_Main"]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("vfs_reed", "vfs_read"),
        ("vfs_raed", "vfs_read"),
        ("do_unmap", "do_munmap"),
        ("shcedule", "schedule"),
        ("VFS_WRITE", "vfs_write"),
        ("py_main", "Py_Main"),
    ],
)
def test_the_most_similar_is_first(name: str, first: str) -> None:
    assert nearest(name, NAMES)[0] == first


@pytest.mark.parametrize("name", ["", "zzzzzzz", "q"])
def test_nothing_is_better_than_what_is_unlike(name: str) -> None:
    assert nearest(name, NAMES) == []


def test_five_at_most() -> None:
    assert len(nearest("vfs_x", [f"vfs_{i}" for i in range(9)])) == 5


def test_a_hundred_thousand_names() -> None:
    """A misprint is found among them, and not by comparing each: that takes ten times as long."""
    pick = random.Random(1)
    syllables = ["vfs", "read", "tcp", "page", "lock", "init", "free", "alloc", "ext4", "dev"]
    names = list({"_".join(pick.choices(syllables, k=5)) + f"_{i}" for i in range(100_000)})
    names.append("handle_mm_fault")
    began = time.process_time()
    assert nearest("handle_mm_falut", names)[0] == "handle_mm_fault"
    assert time.process_time() - began < 2


def test_the_remedy_names_them_or_something_else_to_do() -> None:
    error = no_such_probe("no function is called vfs_reed", "vfs_reed", NAMES, "See list.")
    assert isinstance(error, LookupError)
    assert error.remedy.startswith("Did you mean vfs_read, ")
    assert no_such_probe("no", "zzzzzzz", NAMES, "See list.").remedy == "See list."
