"""Rows of call frame information against readelf, and against files that are damaged."""

from __future__ import annotations

import io
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelock.symbolize.cfi import ElfFrames, Row
from corelock.symbolize.elf import BadElf
from corelock.symbolize.unwind import ModuleCode, Registers, unwind

SOURCE = Path(__file__).with_name("unwind_program.c")

_X86 = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 ra".split()
_ARM = [f"x{number}" for number in range(31)] + ["sp"]
_FDE = re.compile(r"\S+ \S+ \S+ FDE cie=\S+ pc=(\w+)\.\.(\w+)")


def build(folder: Path, *command: str) -> Path:
    program = folder / "program"
    flags = ["-O2", "-fomit-frame-pointer", "-o", str(program), str(SOURCE)]
    subprocess.run([*command, *flags], check=True)
    return program


def rows_by_readelf(path: Path) -> dict[tuple[int, int], list[tuple[int, dict[str, str]]]]:
    """By range of addresses: where each row begins, and its cells by column."""
    command = ["readelf", "-wN", "--debug-dump=frames-interp", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    functions: dict[tuple[int, int], list[tuple[int, dict[str, str]]]] = {}
    rows: Optional[list[tuple[int, dict[str, str]]]] = None
    columns: list[str] = []
    for line in output.stdout.partition(".eh_frame section")[2].splitlines():
        function = _FDE.match(line)
        fields = re.sub(r" \(\w+\)", "", line).split()  # "r9 (r9)"
        if function:
            rows = functions.setdefault((int(function[1], 16), int(function[2], 16)), [])
        elif not fields or "CIE" in fields:
            rows = rows if fields else None
        elif fields[0] == "LOC":
            columns = fields[1:]
        elif rows is not None and len(fields) == len(columns) + 1:
            rows.append((int(fields[0], 16), dict(zip(columns, fields[1:]))))
    return functions


def cells(row: Row, names: list[str], columns: list[str]) -> dict[str, str]:
    """A row as readelf writes it."""

    def cell(rule: Any) -> str:
        forms = {
            "OFFSET": "c{:+d}", "VAL_OFFSET": "v{:+d}", "EXPRESSION": "exp",
            "VAL_EXPRESSION": "vexp", "SAME_VALUE": "s", "UNDEFINED": "u", "REGISTER": "r{}",
        }  # fmt: skip
        return forms[rule.type].format(rule.arg)

    written = dict.fromkeys(columns, "u")
    written["CFA"] = "exp"
    if row.cfa.expr is None:
        written["CFA"] = f"{names[row.cfa.reg]}{row.cfa.offset:+d}"
    for number, rule in row.rules.items():
        name = "ra" if number == row.return_column else names[number]
        written[name] = cell(rule)
    return written


def agree(path: Path, names: list[str], most: int) -> int:
    """Check ``most`` functions at most; how many rows agreed."""
    with open(path, "rb") as file:
        frames = ElfFrames(file)
    functions = rows_by_readelf(path)
    chosen = random.Random(7).sample(sorted(functions), min(most, len(functions)))
    count = 0
    for start, end in chosen:
        rows = functions[start, end]
        ends = [location for location, _ in rows[1:]] + [end]
        for (location, expected), row_end in zip(rows, ends):
            # A row that readelf writes twice is of no length.
            for address in {location, row_end - 1} if location < row_end else ():
                row = frames.find(address)
                assert row is not None
                assert cells(row, names, list(expected)) == expected, hex(address)
                count += 1
    # It writes no rows where they are the common ones.
    assert frames.parsed == sum(1 for function in chosen if functions[function])
    return count


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_rows_of_programs(tmp_path: Path, compiler: str) -> None:
    if subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout != "x86_64\n":
        pytest.skip("registers are named for x86-64")
    assert agree(build(tmp_path, compiler), _X86, 1000) > 100


def libc() -> Path:
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"/\S*/libc[.-]\S*so\S*", maps)
    assert found is not None
    return Path(found[0])


def test_rows_of_libc() -> None:
    names = _ARM if b"aarch64" in subprocess.check_output(["uname", "-m"]) else _X86
    assert agree(libc(), names, 500) > 2000


arm64 = pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="no compiler for arm64"
)


@arm64
@pytest.mark.parametrize("flag", ["-fomit-frame-pointer", "-mbranch-protection=standard"])
def test_rows_of_arm64(tmp_path: Path, flag: str) -> None:
    path = build(tmp_path, "aarch64-linux-gnu-gcc", flag, "-fasynchronous-unwind-tables")
    assert agree(path, _ARM, 1000) > 100
