"""Learning mappings: by text, by query, and not at all while the lock is held."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from stack_program import build, running
from test_symbolize_user import fake_proc, later, slow_event

from corelock.symbolize import Symbolizer
from corelock.symbolize.maps import MapsReader, parse_maps
from corelock.symbolize.maps_query import Found, can_be_missing, maps_are_read_per_vma, query
from corelock.symbolize.patience import Patience, TimedOut


def kernel_can_be_queried() -> bool:
    with open("/proc/self/maps", "rb") as file:
        try:
            query(file.fileno(), 0x1000)
        except OSError as error:
            assert can_be_missing(error)
            return False
    return True


needs_query = pytest.mark.skipif(
    not kernel_can_be_queried(), reason="this kernel has no PROCMAP_QUERY"
)


@needs_query
def test_a_query_says_what_the_text_says() -> None:
    with open("/proc/self/maps", "rb") as file:
        regions = parse_maps(file.read())
        reader = MapsReader(by_query=True)
        # Far addresses are in nothing.
        addresses = [*(r.start + 1 for r in regions), *(r.end - 1 for r in regions), 0x1000]
        maps = reader.read(os.getpid(), addresses)
    assert len(regions) > 3
    # Queried, [vsyscall] is unknown: it is no mapping of the process.
    assert list(maps.regions) == [r for r in regions if r.path != "[vsyscall]"]
    assert maps.problem is None
    assert maps.absent >= {0x1000}
    assert maps.covers(0x1000) and not maps.covers(0x2000)


@needs_query
def test_a_query_learns_only_what_was_asked_for(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        reader = MapsReader(by_query=True)
        first = reader.read(process.pid, stack[:1])
        assert [region.module for region in first.regions] == ["program"]
        both = reader.read(process.pid, stack, first)
        assert {region.module for region in both.regions} == {"program", "libc.so.6"}
    gone = reader.read(process.pid, stack, both)
    assert gone.regions == both.regions
    assert gone.problem == "process {} has exited"


@needs_query
def test_a_real_stack_by_queries(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        symbolizer = Symbolizer()
        symbolizer._user.reader._by_query = True
        garbage = (*stack, 0x10, 0, 2**64 - 1)
        for _ in range(3):
            resolved = symbolizer.resolve(later(slow_event(process.pid, *garbage)))
            assert [frame.name for frame in resolved.user_stack[:3]] == ["inner", "outer", "main"]
            assert len(resolved.user_stack) == 4
    # What is no code was asked for once.
    assert symbolizer._user.reader.reads == 1


def test_what_is_new_replaces_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = fake_proc(tmp_path, 7, "")
    there = {0x1000: Found(0x1000, 0x3000, 0, 0, 0, 0, "old")}
    monkeypatch.setattr("corelock.symbolize.maps.query", lambda fd, address: there.get(address))
    reader = MapsReader(str(proc), by_query=True)
    maps = reader.read(7, [0x1000, 0x5000])
    assert [region.path for region in maps.regions] == ["old"]
    there[0x5000] = Found(0x2000, 0x6000, 0, 0, 0, 0, "new")
    # Asked for again only if it is the innermost, which was being executed.
    assert reader.read(7, [0x1000, 0x5000], maps).regions == maps.regions
    maps = reader.read(7, [0x5000, 0x1000], maps)
    assert [region.path for region in maps.regions] == ["new"]
    assert not maps.covers(0x1000)


def test_without_queries_the_text_is_read(tmp_path: Path) -> None:
    """A made-up /proc refuses the ioctl as an older kernel does."""
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [a]\n3000-4000 r-xp 0 0:0 0 [b]\n")
    reader = MapsReader(str(proc), by_query=True)
    assert [r.path for r in reader.read(7, [0x1000]).regions] == ["[a]", "[b]"]
    assert reader._by_query is False


def btf(strings: bytes) -> bytes:
    return struct.pack("=HBB5I", 0xEB9F, 1, 0, 24, 0, 8, 8, len(strings)) + bytes(8) + strings


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (btf(b"\0mm\0locked_vma\0x\0"), True),
        (btf(b"\0mm\0unlocked_vma\0locked_vmas\0"), False),
        (btf(b""), False),
        (b"", False),
        (b"\0locked_vma\0" * 10, False),
    ],
)
def test_whether_maps_are_read_per_vma(tmp_path: Path, contents: bytes, expected: bool) -> None:
    (tmp_path / "btf").write_bytes(contents)
    assert maps_are_read_per_vma(str(tmp_path / "btf")) is expected


@pytest.mark.kernel
def test_whether_this_kernel_reads_maps_per_vma() -> None:
    """By the types themselves, as bpftool walks them."""
    command = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"]
    path = os.environ["PATH"] + ":/usr/sbin"
    output = subprocess.run(command, capture_output=True, env={"PATH": path}, check=True).stdout
    structs = re.findall(rb"STRUCT 'proc_maps_\w+'.*\n((?:\t.*\n)*)", output)
    assert structs
    assert maps_are_read_per_vma() is any(b"'locked_vma'" in members for members in structs)


def test_without_btf_it_is_not_assumed(tmp_path: Path) -> None:
    assert not maps_are_read_per_vma(str(tmp_path / "none"))


def test_nothing_is_read_while_the_lock_is_held(tmp_path: Path) -> None:
    held = {7}
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [anon:jit]\n")
    symbolizer = Symbolizer(proc=str(proc), lock_is_held=held.__contains__)
    event = slow_event(7, 0x1010, 0x1020)
    symbolizer.observe(event)
    resolved = symbolizer.resolve(event)
    assert symbolizer._user.reader.reads == 0
    assert [(frame.address, frame.module) for frame in resolved.user_stack] == [
        (0x1010, None), (0x1020, None),
    ]  # fmt: skip
    assert resolved.user_stack_note == "mappings of 7 not read: its mmap_lock is held"
    reason = "mappings of PID not read: its mmap_lock is held"
    assert symbolizer.summary.unresolved == {reason: 2}
    # Another process's may be read; this one's when the lock is free again.
    held.clear()
    symbolizer.observe(event)
    assert symbolizer._user.reader.reads == 1
    held.add(7)
    resolved = symbolizer.resolve(later(event))
    assert [frame.module for frame in resolved.user_stack] == ["[anon:jit]"] * 2
    # Known, though something new was not: what is known is used.
    resolved = symbolizer.resolve(later(slow_event(7, 0x1010, 0x5000)))
    assert [frame.module for frame in resolved.user_stack] == ["[anon:jit]", None]
    assert symbolizer._user.reader.reads == 1


def test_patience() -> None:
    patience = Patience(0.05)
    assert patience.call("a", lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        patience.call("a", lambda: 1 // 0)
    free = threading.Event()
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(TimedOut):
            patience.call("hung", free.wait)
    # Waited for once.
    assert time.monotonic() - began < 1
    assert patience.call("other", lambda: 2) == 2
    for number in range(40):
        with pytest.raises(TimedOut):
            Patience.call(patience, number, free.wait)
    assert threading.active_count() < 40
    with pytest.raises(TimedOut):
        patience.call("other", lambda: 2)
    free.set()
    for thread in threading.enumerate():
        if thread.daemon:
            thread.join(10)
    assert patience.call("hung", lambda: 3) == 3


def test_a_hung_read_does_not_keep_the_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    program = (
        "from corelock.symbolize.patience import Patience, TimedOut\n"
        f"try: Patience(0.01).call(1, lambda: open({str(tmp_path / 'fifo')!r}))\n"
        "except TimedOut: print('gave up')"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert output.stdout == "gave up\n"
