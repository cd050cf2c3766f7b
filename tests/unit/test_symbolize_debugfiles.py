"""Stripped programs whose symbols are in another file."""

from __future__ import annotations

import io
import lzma
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from elf_image import BASE, symbols_image
from stack_program import build, running
from test_symbolize_user import fake_proc, mapped, slow_event

from corelock.symbolize import Symbolizer
from corelock.symbolize.elf import ElfFile


def run(*command: object) -> str:
    arguments = list(map(str, command))
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


class Stripped:
    """A program without symbols, and ``debug``, the file that has them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        (self.root / "bin").mkdir(parents=True)
        made = build(folder, "-Wl,--build-id=sha1")
        self.program = self.root / "bin" / "program"
        shutil.copy(made, self.program)
        self.debug = folder / "program.debug"
        run("objcopy", "--only-keep-debug", made, self.debug)
        run("strip", self.program)
        (self.build_id,) = (
            line.split()[-1]
            for line in run("readelf", "-n", made).splitlines()
            if "Build ID" in line
        )
        self.inner = next(
            int(line.split()[0], 16) for line in run("nm", made).splitlines() if " inner" in line
        )

    @property
    def by_build_id(self) -> Path:
        """Where it is looked for by build-id, in the process's root."""
        name = f"{self.build_id[2:]}.debug"
        return self.root / "usr/lib/debug/.build-id" / self.build_id[:2] / name

    def link(self) -> None:
        """Put ``.gnu_debuglink`` into the program."""
        run("objcopy", f"--add-gnu-debuglink={self.debug}", self.program)

    def symbolizer(self, folder: Path, **options: Optional[str]) -> Symbolizer:
        """For process 7, which has the program at its link address, and sees it in /bin."""
        shutil.rmtree(folder / "proc", ignore_errors=True)
        proc = fake_proc(folder, 7, mapped(self.program, "/bin/program"))
        (proc / "7" / "root").unlink()
        (proc / "7" / "root").symlink_to(self.root)
        options = {"host_root": str(folder / "nothing"), "cache_folder": None, **options}
        return Symbolizer(proc=str(proc), **options)  # type: ignore[arg-type]

    def name(self, symbolizer: Symbolizer) -> Optional[str]:
        """What it says of the first byte of inner()."""
        (frame,) = symbolizer.resolve(slow_event(7, 0x1000 + self.inner)).user_stack
        assert frame.module == "program"
        return frame.name


@pytest.fixture
def stripped(tmp_path: Path) -> Stripped:
    return Stripped(tmp_path)


def put(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, place)


def test_by_build_id(stripped: Stripped, tmp_path: Path) -> None:
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    reason = "program: no symbol (stripped, no debug file)"
    assert symbolizer.summary.unresolved == {reason: 1}
    put(stripped.debug, stripped.by_build_id)
    assert stripped.name(stripped.symbolizer(tmp_path)) == "inner"


@pytest.mark.parametrize("place", ["bin", "bin/.debug", "usr/lib/debug/bin"])
def test_by_debuglink(stripped: Stripped, tmp_path: Path, place: str) -> None:
    stripped.link()
    put(stripped.debug, stripped.root / place / "program.debug")
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) == "inner"
    assert symbolizer.problems == {}


@pytest.mark.parametrize("place", ["usr/lib/debug/bin", "bin"])
def test_by_debuglink_in_our_own_files(stripped: Stripped, tmp_path: Path, place: str) -> None:
    stripped.link()
    put(stripped.debug, tmp_path / "host" / place / "program.debug")
    host = str(tmp_path / "host")
    assert stripped.name(stripped.symbolizer(tmp_path, host_root=host)) == "inner"


def test_a_link_does_not_lead_out_of_the_folders(stripped: Stripped, tmp_path: Path) -> None:
    section = tmp_path / "link"
    section.write_bytes(b"/../../program.debug\0\0\0\0" + bytes(4))
    run("objcopy", f"--add-section=.gnu_debuglink={section}", stripped.program)
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    assert symbolizer.summary.problems == {}


def test_files_of_another_version_are_not_used(stripped: Stripped, tmp_path: Path) -> None:
    stripped.link()
    damaged = bytearray(stripped.debug.read_bytes())
    damaged[-1] ^= 1
    stripped.debug.write_bytes(damaged)
    put(stripped.debug, stripped.root / "bin" / "program.debug")
    other = build(tmp_path, "-Wl,--build-id=0x123456")
    put(other, stripped.by_build_id)
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    assert symbolizer.summary.problems == {
        f"{stripped.build_id[2:]}.debug: is of another version (its build-id differs)": 1,
        "program.debug: is truncated or of another version (its checksum differs)": 1,
    }


@pytest.mark.parametrize("kept", [0, 100, 2000, -200])
def test_a_truncated_debug_file_is_a_problem_and_the_next_is_tried(
    stripped: Stripped, tmp_path: Path, kept: int
) -> None:
    stripped.link()
    put(stripped.debug, stripped.by_build_id)
    stripped.by_build_id.write_bytes(stripped.debug.read_bytes()[:kept])
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    (problem,) = symbolizer.summary.problems
    assert "corrupt ELF file" in problem
    put(stripped.debug, stripped.root / "bin" / "program.debug")
    assert stripped.name(stripped.symbolizer(tmp_path)) == "inner"


def test_a_debug_file_cut_short_may_be_of_the_same_version(
    stripped: Stripped, tmp_path: Path
) -> None:
    stripped.link()
    stripped.debug.write_bytes(stripped.debug.read_bytes()[:-200])
    put(stripped.debug, stripped.root / "bin" / "program.debug")
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    problem = "program.debug: is truncated or of another version (its checksum differs)"
    assert symbolizer.summary.problems == {problem: 1}


def test_a_fifo_in_place_of_a_debug_file_is_a_problem(stripped: Stripped, tmp_path: Path) -> None:
    stripped.by_build_id.parent.mkdir(parents=True)
    os.mkfifo(stripped.by_build_id)
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    assert symbolizer.summary.problems == {f"{stripped.by_build_id.name}: not a regular file": 1}


def test_mini_debuginfo(stripped: Stripped, tmp_path: Path) -> None:
    """As Fedora has it in every file: the symbols alone, compressed."""
    mini = tmp_path / "mini"
    mini.write_bytes(lzma.compress(stripped.debug.read_bytes()))
    run("objcopy", f"--add-section=.gnu_debugdata={mini}", stripped.program)
    assert stripped.name(stripped.symbolizer(tmp_path)) == "inner"
    mini.write_bytes(lzma.compress(stripped.debug.read_bytes())[:-50])
    run("objcopy", f"--update-section=.gnu_debugdata={mini}", stripped.program)
    symbolizer = stripped.symbolizer(tmp_path)
    assert stripped.name(symbolizer) is None
    (problem,) = symbolizer.summary.problems
    assert problem.startswith("program: .gnu_debugdata: corrupt ELF file")


@pytest.mark.parametrize("section", [".gnu_debuglink", ".gnu_debugdata"])
def test_damage_to_a_part_leaves_the_other_names(tmp_path: Path, section: str) -> None:
    program = build(tmp_path, "-rdynamic")
    inner = next(
        int(line.split()[0], 16) for line in run("nm", program).splitlines() if " inner" in line
    )
    (tmp_path / "damage").write_bytes(b"x")
    run("strip", program)
    run("objcopy", f"--add-section={section}={tmp_path / 'damage'}", program)
    symbolizer = Symbolizer(proc=str(fake_proc(tmp_path, 7, mapped(program))))
    (frame,) = symbolizer.resolve(slow_event(7, 0x1000 + inner)).user_stack
    assert frame.name == "inner"
    assert len(symbolizer.summary.problems) == 1


@pytest.mark.parametrize("size", [0, 1, 65, 4000])
def test_a_build_id_that_is_none_is_not_used(tmp_path: Path, size: int) -> None:
    image = symbols_image([(BASE, 16, b"f")], bytes(size) or b"\0")
    assert ElfFile(io.BytesIO(image)).build_id() is None


def test_a_cached_table_does_not_hide_a_debug_file_installed_later(tmp_path: Path) -> None:
    """The stripped file's own table is large enough to be cached, and lacks the function."""
    build_id = bytes(range(1, 21))
    rows = [(BASE + 16 * i, 16, b"f%d" % i) for i in range(60_000)]
    local = (BASE + 16 * 60_000, 16, b"local")
    random.Random(5).shuffle(rows)
    whole = symbols_image([*rows, local], build_id)
    # With SHT_DYNSYM in place of SHT_SYMTAB it is what strip leaves.
    left = bytearray(symbols_image(rows, build_id))
    header = left.index((1).to_bytes(4, "little") + (2).to_bytes(4, "little"), len(left) - 5 * 64)
    left[header + 4] = 11
    program = tmp_path / "lib.so"
    program.write_bytes(left)
    proc = fake_proc(tmp_path, 7, mapped(program, "/lib.so").replace("-9000", "-ffffffff"))
    cache = tmp_path / "cache"

    def names() -> list[Optional[str]]:
        symbolizer = Symbolizer(proc=str(proc), cache_folder=str(cache), host_root="/none")
        event = slow_event(7, 0x1000 + BASE + 5, 0x1000 + local[0] + 5)
        return [frame.name for frame in symbolizer.resolve(event).user_stack]

    assert names() == names() == ["f0", None]
    assert len(os.listdir(cache)) == 1
    name = build_id.hex()
    debug = tmp_path / "usr/lib/debug/.build-id" / name[:2] / f"{name[2:]}.debug"
    debug.parent.mkdir(parents=True)
    debug.write_bytes(whole)
    assert names() == names() == ["f0", "local"]
    assert len(os.listdir(cache)) == 2
    # And the large table that is cached does not outlive the file either.
    debug.unlink()
    assert names() == ["f0", None]


def test_a_real_process_that_was_stripped(tmp_path: Path) -> None:
    program = build(tmp_path)
    run("objcopy", "--only-keep-debug", program, tmp_path / "program.debug")
    run("strip", "--strip-all", program)
    run("objcopy", f"--add-gnu-debuglink={tmp_path / 'program.debug'}", program)
    with running(program) as (process, stack):
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    assert [frame.name for frame in frames[:3]] == ["inner", "outer", "main"]
