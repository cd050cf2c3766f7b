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
_ARM = [f"x{number}" for number in range(31)] + ["sp"] + [f"r{number}" for number in range(32, 64)]
_ARM += [f"v{number}" for number in range(32)]
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


@pytest.mark.parametrize("flags", [[], ["-Wl,--eh-frame-hdr"]])
def test_rows_of_static_programs(tmp_path: Path, flags: list[str]) -> None:
    """All of libc, by one pass over .eh_frame where there is no table."""
    if subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout != "x86_64\n":
        pytest.skip("registers are named for x86-64")
    assert agree(build(tmp_path, "gcc", "-static", *flags), _X86, 500) > 2000


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


@arm64
def test_rows_of_arm64_libc() -> None:
    path = Path("/usr/aarch64-linux-gnu/lib/libc.so.6")
    if not path.exists():
        pytest.skip("no libc for arm64")
    assert agree(path, _ARM, 300) > 1000


def large_file() -> Optional[Path]:
    """A library of more than 30,000 functions."""
    patterns = (
        "lib/llvm-*/lib/libLLVM*.so*", "lib/jvm/*/lib/server/libjvm.so",
        "lib/*-linux-gnu/libLLVM*.so*",
    )  # fmt: skip
    found = [path for pattern in patterns for path in Path("/usr").glob(pattern)]
    return next((path for path in found if path.stat().st_size > 10 << 20), None)


@pytest.mark.skipif(large_file() is None, reason="neither libLLVM nor libjvm is here")
def test_one_function_is_parsed_of_a_large_file() -> None:
    path = large_file()
    assert path is not None
    with open(path, "rb") as file:
        frames = ElfFrames(file)
    assert len(frames._table) // 2 > 30_000
    assert frames.parsed == 0
    starts = [frames._base + start for start in frames._table[::2]]
    found = [frames.find(address) for address in random.Random(7).sample(starts, 20)]
    assert None not in found
    assert frames.parsed == 20
    assert frames.find(starts[0]) == frames.find(starts[0])
    assert frames.parsed <= 21


@pytest.fixture(scope="module")
def elf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(tmp_path_factory.mktemp("cfi"), "gcc", "-s").read_bytes()


@pytest.fixture(scope="module")
def section_offsets(elf_bytes: bytes) -> tuple[int, int]:
    """Where .eh_frame_hdr and .eh_frame begin in the file, which is linked to its offsets there."""
    frames = ElfFrames(io.BytesIO(elf_bytes))
    return frames._base, frames._address


def is_read_or_refused(data: bytes, addresses: list[int]) -> bool:
    """Whether it is refused, or gives rows and stacks that end."""
    try:
        frames = ElfFrames(io.BytesIO(data))
    except BadElf:
        return True
    stack = b"".join(struct.pack("<Q", addresses[i % len(addresses)]) for i in range(512))
    for address in addresses:
        for machine in ("x86_64", "aarch64"):
            found = unwind(
                machine,
                Registers(address, 0x7000, 0x7100, addresses[0]),
                stack,
                lambda address: ModuleCode(frames, address),
            )
            if not 1 <= len(found.addresses) == len(found.probes) <= 128:
                return False
    return True


@given(st.binary(max_size=500))
def test_random_bytes_are_no_elf(data: bytes) -> None:
    assert is_read_or_refused(data, [0, 2**64 - 1])
    assert is_read_or_refused(b"\x7fELF\x02\x01\x01" + data, [0, 2**64 - 1])


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_never_raises(
    elf_bytes: bytes, section_offsets: tuple[int, int], data: st.DataObject
) -> None:
    header, entries = section_offsets
    damaged = bytearray(elf_bytes)
    places = (
        st.integers(0, 0x300)
        | st.integers(header, header + 0x40)
        | st.integers(header, entries - 1)
        | st.integers(entries, entries + 0x800)
    )
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(places)] = data.draw(st.integers(0, 255) | st.sampled_from([0x7F, 0xFF]))
    size = len(damaged)
    if data.draw(st.booleans()):
        size = data.draw(st.integers(header, entries + 0x800))
    starts = [header + start for start in ElfFrames(io.BytesIO(elf_bytes))._table[::2]]
    assert is_read_or_refused(bytes(damaged[:size]), [start + 5 for start in starts])


@settings(deadline=None)
@given(st.binary(max_size=3000), st.data())
def test_garbage_on_the_stack_never_raises(
    elf_bytes: bytes, stack: bytes, data: st.DataObject
) -> None:
    frames = ElfFrames(io.BytesIO(elf_bytes))
    word = st.integers(0, 2**64 - 1) | st.integers(0x7000, 0x7C00) | st.integers(0x1000, 0x1800)
    registers = Registers(*(data.draw(word) for _ in range(4)))
    for machine in ("x86_64", "aarch64"):
        found = unwind(machine, registers, stack, lambda address: ModuleCode(frames, address))
        assert 1 <= len(found.addresses) <= 128
        assert found.end or len(found.addresses) > 0


def eh_frame_file(frames: bytes, header: bytes) -> io.BytesIO:
    """An ELF file of a header at 0x1000 and entries at 0x2000, both loaded where they are."""
    segments = [(1, 0, 0x3000), (0x6474E550, 0x1000, len(header))]  # PT_LOAD, PT_GNU_EH_FRAME
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    for kind, offset, size in segments:
        elf += struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 1)
    return io.BytesIO(
        (elf.ljust(0x1000, b"\0") + header).ljust(0x2000, b"\0") + frames.ljust(0x1000, b"\0")
    )


def section_file(frames: bytes) -> io.BytesIO:
    """An ELF file of entries at 0x2000, which only the section headers tell of."""
    names = b"\0.eh_frame\0.shstrtab\0"
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 0x1000, 0, 64, 56, 0, 64, 3, 2)
    headers = bytes(64)
    for kind, name, offset, size in ((1, 1, 0x2000, len(frames)), (3, 11, 0x1800, len(names))):
        headers += struct.pack("<IIQQQQIIQQ", name, kind, 2, offset, offset, size, 0, 0, 1, 0)
    return io.BytesIO(
        ((elf.ljust(0x1000, b"\0") + headers).ljust(0x1800, b"\0") + names).ljust(0x2000, b"\0")
        + frames
    )


#: DW_CFA_def_cfa: rsp + 8, DW_CFA_offset: the return address at CFA - 8.
OF_X86 = bytes([0x0C, 7, 8, 0x90, 1])


def one_function(
    encoding: int, start: int, size: int, rules: bytes = OF_X86, column: int = 16
) -> bytes:
    """A CIE of these rules, and an FDE whose pointers have this encoding, for 0x2000."""
    body = bytes([1]) + b"zR\0" + bytes([1, 0x78, column, 1, encoding]) + rules
    cie = struct.pack("<II", 4 + len(body), 0) + body
    form = {0x0: "Q", 0x3: "I", 0x4: "Q", 0xB: "i", 0xC: "q"}[encoding & 0xF]
    base = 0x2000 + len(cie) + 8 if encoding & 0x10 else 0
    pointers = struct.pack(f"<{form}{form}", start - base, size) + b"\0"
    return cie + struct.pack("<II", 4 + len(pointers), len(cie) + 4) + pointers


@pytest.mark.parametrize("encoding", [0x00, 0x03, 0x04, 0x0B, 0x0C, 0x1B, 0x1C])
@pytest.mark.parametrize(
    ("table_encoding", "form", "base"),
    [(0x3B, "i", 0x1000), (0x3C, "q", 0x1000), (0x03, "I", 0), (0x04, "Q", 0), (0x00, "Q", 0)],
)
@pytest.mark.parametrize("frames_encoding", [0x1B, 0x3B, 0x03, 0x00])
def test_pointer_encodings(
    encoding: int, table_encoding: int, form: str, base: int, frames_encoding: int
) -> None:
    frames = one_function(encoding, 0x5000, 0x20)
    (length,) = struct.unpack_from("<I", frames)
    to_frames = {0x1B: 0x2000 - 0x1004, 0x3B: 0x1000}.get(frames_encoding, 0x2000)
    header = bytes([1, frames_encoding, 0x03, table_encoding])
    header += struct.pack("<Q" if frames_encoding == 0 else "<i", to_frames)
    header += struct.pack(f"<I{form}{form}", 1, 0x5000 - base, 0x2000 + length + 4 - base)
    found = ElfFrames(eh_frame_file(frames, header))
    row = found.find(0x501F)
    assert row is not None
    assert (row.cfa.reg, row.cfa.offset, row.return_column) == (7, 8, 16)
    assert (found.find(0x5000), found.find(0x4FFF), found.find(0x5020)) == (row, None, None)


def test_file_without_frames_has_no_rows() -> None:
    for header in (b"\x01\xff\x03\x3b", b"\x01\x1b\xff\x3b", b"\x01\x1b\x03\xff"):
        assert ElfFrames(eh_frame_file(b"", header + bytes(8))).find(0x5000) is None


@pytest.mark.parametrize("header", [b"\x02\x1b\x03\x3b", b"\x01\x1b\x03\x3b\xff\xff\xff\x7f", b""])
def test_bad_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadElf):
        ElfFrames(eh_frame_file(b"", header))


@pytest.mark.parametrize("encoding", [0x00, 0x03, 0x04, 0x0B, 0x0C, 0x1B, 0x1C])
def test_entries_without_a_table(encoding: int) -> None:
    found = ElfFrames(section_file(one_function(encoding, 0x5000, 0x20) + bytes(8)))
    row = found.find(0x501F)
    assert row is not None
    assert (row.cfa.reg, row.cfa.offset, row.return_column) == (7, 8, 16)
    assert (found.find(0x5000), found.find(0x4FFF), found.find(0x5020)) == (row, None, None)


@settings(deadline=None)
@given(st.data())
def test_damaged_entries_without_a_table_never_raise(data: st.DataObject) -> None:
    frames = bytearray(one_function(0x1B, 0x5000, 0x20) * 2)
    for _ in range(data.draw(st.integers(1, 6))):
        frames[data.draw(st.integers(0, len(frames) - 1))] = data.draw(st.integers(0, 255))
    assert is_read_or_refused(section_file(bytes(frames)).getvalue(), [0x5000, 0x5004])


def table_of(frames: bytes) -> bytes:
    """A header for the one function, at 0x5000."""
    (length,) = struct.unpack_from("<I", frames)
    return b"\x01\x1b\x03\x3b" + struct.pack("<iIii", 0xFFC, 1, 0x4000, 0x1000 + length + 4)


def test_link_register_holds_for_one_frame() -> None:
    sp_plus_16 = bytes([0x0C, 31, 16])
    frames = one_function(0x1B, 0x5000, 0x20, sp_plus_16, column=30)
    found = ElfFrames(eh_frame_file(frames, table_of(frames)))
    stack = unwind(
        "aarch64",
        Registers(0x5000, 0x7000, 0, 0x5010),
        bytes(4096),
        lambda address: ModuleCode(found, address),
    )
    assert (stack.addresses, stack.end) == ((0x5000, 0x5010), "register 30 is not known")


def test_stack_that_does_not_shrink_ends() -> None:
    # The CFA is the stack pointer: a caller has as much on the stack as what it calls.
    frames = one_function(0x1B, 0x5000, 0x20, bytes([0x0C, 7, 0, 0x90, 0]))
    found = ElfFrames(eh_frame_file(frames, table_of(frames)))
    stack = unwind(
        "x86_64",
        Registers(0x5000, 0x7000, 0),
        struct.pack("<Q", 0x5010) * 9,
        lambda address: ModuleCode(found, address),
    )
    assert (stack.addresses, stack.end) == ((0x5000,), "no progress")


def test_circular_entries_end_the_stack() -> None:
    frames = bytearray(one_function(0x1B, 0x5000, 0x20))
    (length,) = struct.unpack_from("<I", frames)
    struct.pack_into("<I", frames, length + 8, 4)  # an FDE that is its own CIE
    found = ElfFrames(eh_frame_file(bytes(frames), table_of(frames)))
    stack = unwind("x86_64", Registers(0x5000, 0, 0), bytes(64), lambda at: ModuleCode(found, at))
    assert stack.addresses == (0x5000,)
    assert stack.end is not None
    assert stack.end.startswith("corrupt call frame information")
