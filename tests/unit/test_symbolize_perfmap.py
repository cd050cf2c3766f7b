"""Perf maps: overlaps, damage, growth, and whose they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_symbolize_user import fake_proc, slow_event

from corelock.symbolize import Symbolizer
from corelock.symbolize.perfmap import PerfMap, _flatten

OWN = frozenset((os.geteuid(),))


def perf_map(folder: Path, text: bytes) -> PerfMap:
    path = folder / "perf-7.map"
    path.write_bytes(text)
    return PerfMap(str(path), OWN)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFF, None),
        (0x1000, ("one", 0x1000)),
        (0x10FF, ("one", 0x1000)),
        (0x1100, None),
        (0x2000, ("LazyCompile:*f file.js:1", 0x2000)),
        (0x3001, ("Ljava/lang/String;::hashCode", 0x3000)),
        (2**64 - 1, ("last", 2**64 - 16)),
    ],
)
def test_find(tmp_path: Path, address: int, expected: Optional[tuple[str, int]]) -> None:
    text = (
        b"2000 10 LazyCompile:*f file.js:1\n"
        b"1000 100 one\n"
        b"0x0000000000003000 0x00000010 Ljava/lang/String;::hashCode\n"
        b"fffffffffffffff0 10 last\n"
    )
    found = perf_map(tmp_path, text)
    assert found.find(address) == expected
    assert found.bad_lines == 0


def test_bad_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    text = (
        b"zzz 10 no\n1000\n1000 10\n\n1000 -5 no\n-1000 10 no\n1000 0 no\n"
        b"fffffffffffffff0 20 no\n" + b"9" * 6000 + b" 10 no\n\xff\xfe\0 \0 \0\n"
        b"2000 10 y\xffes\n3000 10 torn"
    )
    found = perf_map(tmp_path, text)
    assert found.find(0x2000) == ("y�es", 0x2000)
    assert found.find(0x1000) is None
    assert found.find(0x3000) is None  # its line is still being written
    assert found.bad_lines == 10


ENTRIES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda e: (e[0], e[0] + e[1], b"")),
    max_size=12,
)


@given(ENTRIES)
def test_the_last_written_holds(entries: list[tuple[int, int, bytes]]) -> None:
    edges, winners = _flatten(entries)
    assert edges == sorted(set(edges))
    for address in range(62):
        covering = [i for i, (start, end, _) in enumerate(entries) if start <= address < end]
        holding = [w for edge, w in zip(edges, winners) if edge <= address]
        assert (holding[-1] if holding else -1) == (covering[-1] if covering else -1)


def test_is_read_again_when_it_grew_and_only_then(tmp_path: Path) -> None:
    found = perf_map(tmp_path, b"1000 10 one\n")
    path = tmp_path / "perf-7.map"
    assert found.find(0x2000) is None
    with open(path, "ab") as file:
        file.write(b"2000 10 two\nbad\n")
    assert found.find(0x2000) == ("two", 0x2000)
    assert found.bad_lines == 1
    path.unlink()
    assert found.find(0x3000) is None
    assert found.find(0x1000) == ("one", 0x1000)


def test_only_a_regular_file_of_the_process_or_root_is_read(tmp_path: Path) -> None:
    path = tmp_path / "perf-7.map"
    path.write_bytes(b"1000 10 one\n")
    with pytest.raises(OSError, match="of another user"):
        PerfMap(str(path), frozenset((54321,)))
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "."):
        with pytest.raises(OSError, match="not a regular file"):
            PerfMap(str(tmp_path / name), OWN)
    with open(path, "r+b") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(OSError, match="too large"):
        PerfMap(str(path), OWN)


def jit_process(folder: Path, ns_pid: int, perf_map: bytes) -> Path:
    """A /proc with process 7, which knows itself by another pid and has code without a file."""
    proc = fake_proc(folder, 7, "1000-9000 rwxp 00000000 00:00 0\n")
    (proc / "7" / "status").write_text(
        f"Name:\tjit\nUid:\t{os.geteuid()}\t{os.geteuid()}\t0\t0\nNSpid:\t7\t{ns_pid}\n"
    )
    (folder / "tmp").mkdir()
    (folder / "tmp" / f"perf-{ns_pid}.map").write_bytes(perf_map)
    return proc


def test_frames_have_names_by_the_pid_that_the_process_knows(tmp_path: Path) -> None:
    proc = jit_process(tmp_path, 3, b"2000 100 py::f:/app/a.py\nbad\nbad\n")
    symbolizer = Symbolizer(proc=str(proc), host_root=str(tmp_path / "none"))
    frames = symbolizer.resolve(slow_event(7, 0x2010, 0x2100, 0x3000)).user_stack
    assert [(frame.name, frame.offset, frame.module) for frame in frames] == [
        ("py::f:/app/a.py", 0x10, "[anon]"),
        # A return address: the call before it is the function's last.
        ("py::f:/app/a.py", 0x100, "[anon]"),
        (None, 0x2000, "[anon]"),
    ]
    assert symbolizer.summary.resolved == 2
    assert symbolizer.summary.unresolved == {"[anon]: not in the perf map": 1}
    assert symbolizer.summary.problems == {"perf map: bad line": 2}


def test_a_fifo_in_place_of_a_perf_map_is_a_reason(tmp_path: Path) -> None:
    proc = jit_process(tmp_path, 3, b"")
    (tmp_path / "tmp" / "perf-3.map").unlink()
    os.mkfifo(tmp_path / "tmp" / "perf-3.map")
    symbolizer = Symbolizer(proc=str(proc), host_root=str(tmp_path / "none"))
    (frame,) = symbolizer.resolve(slow_event(7, 0x2010)).user_stack
    assert (frame.name, frame.module, frame.offset) == (None, "[anon]", 0x1010)
    assert symbolizer.summary.unresolved == {"[anon]: perf map: not a regular file": 1}
