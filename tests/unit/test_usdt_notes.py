"""Static probes of real files, against what readelf says of them."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from corelock.errors import InvalidArgument, NoSuchProbe, UnusableFile
from corelock.probes import usdt
from corelock.probes.code_files import Found
from corelock.probes.host_libraries import host_libraries
from corelock.probes.libraries import find_file
from corelock.probes.listing import FileOfProcess, files_of_process
from corelock.probes.operands import Operand
from corelock.probes.patterns import parse_pattern
from corelock.probes.usdt import StaticProbe, static_probes
from corelock.symbolize.elf import BadElf
from tests.unit.elf_image import without_section_headers
from tests.unit.test_libraries import running

SOURCE = """
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#define SEMAPHORE __attribute__((section(".probes"))) unsigned short
SEMAPHORE shop_sold_semaphore;
SEMAPHORE shop_none_semaphore;
SEMAPHORE shop_dear_semaphore;
long stock[4]; int single;
static volatile int other;
__attribute__((noinline)) void sell(signed char a, short b, int c, long d, const char *e, int *f,
                    unsigned char g)
{
    STAP_PROBE7(shop, sold, a, b, c, d, e, f[c], g);
    STAP_PROBE3(shop, none, 42, -1, 3L);
    STAP_PROBE3(shop, sold, single, stock[3], stock[c]);
}
int main(int argc, char **argv)
{
    double price = argc;
    int numbers[8] = {other};
    sell(1, 2, argc & 3, 4, argv[0], numbers, 5);
    STAP_PROBE2(shop, dear, price, other);
    return 0;
}
"""


def built(folder: Path, *flags: str, compiler: str = "gcc") -> Path:
    source = folder / "shop.c"
    source.write_text(SOURCE)
    program = folder / "shop"
    subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
    return program


def header_folder(tmp_path: Path) -> Path:
    """The header of static probes alone, for a compiler whose own folders have none."""
    for line in subprocess.run(
        ["gcc", "-M", "-xc", "-"], input="#include <sys/sdt.h>", text=True, capture_output=True,
        check=True,
    ).stdout.split():  # fmt: skip
        if re.search(r"sys/sdt(-config)?\.h$", line):
            (tmp_path / "sys").mkdir(exist_ok=True)
            shutil.copy(line, tmp_path / "sys")
    return tmp_path


def found(path: Path) -> Found:
    return Found(str(path), path.name, str(path))


def probes_of(path: Path) -> list[StaticProbe]:
    with open(path, "rb") as file:
        return static_probes(file, found(path))


def by_readelf(path: Path) -> list[tuple[str, str, int, int, str]]:
    """Provider, name, location, semaphore and arguments of each note."""
    text = subprocess.run(
        ["readelf", "-nW", str(path)], capture_output=True, text=True, check=True
    ).stdout
    return [
        (provider, name, int(location, 16), int(semaphore, 16), arguments.strip())
        for provider, name, location, semaphore, arguments in re.findall(
            r"Provider: (.*)\n\s+Name: (.*)\n\s+Location: 0x(\w+), Base: 0x\w+, "
            r"Semaphore: 0x(\w+)\n\s+Arguments:(.*)",
            text,
        )
    ]


def offset_of(path: Path, address: int, flags: str) -> Optional[int]:
    """Where in the file ``address`` is, by readelf's program headers."""
    if not address:
        return 0
    headers = subprocess.run(
        ["readelf", "-lW", str(path)], capture_output=True, text=True, check=True
    ).stdout
    for offset, start, size, has in re.findall(
        r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x\w+ (...) ", headers
    ):
        if flags in has and 0 <= address - int(start, 16) < int(size, 16):
            return address - int(start, 16) + int(offset, 16)
    return None


def check(path: Path) -> list[StaticProbe]:
    """What we say of a file is what readelf says."""
    listed = by_readelf(path)
    probes = probes_of(path)
    assert [(p.provider, p.name, p.address) for p in probes] == [row[:3] for row in listed]
    for probe, (_, _, location, semaphore, arguments) in zip(probes, listed):
        assert probe.offset == offset_of(path, location, "E")
        assert probe.semaphore == offset_of(path, semaphore, "W")
        # Blanks are between arguments on x86-64.
        if probes and "[" not in arguments:
            assert len(probe.arguments) == len(arguments.split())
        for field in probe.arguments:
            assert (field.operand is None) == bool(field.why)
    return probes


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-no-pie"), ("-O2", "-static")])
def test_our_own_program(tmp_path: Path, flags: tuple[str, ...]) -> None:
    probes = check(built(tmp_path, *flags))
    mine = [probe for probe in probes if probe.provider == "shop"]
    assert sorted(probe.name for probe in mine) == ["dear", "none", "sold", "sold"]
    (none,) = (probe for probe in mine if probe.name == "none")
    assert [field.operand for field in none.arguments] == [
        Operand("CONSTANT", size=4, signed=True, constant=42, of_user=True),
        Operand("CONSTANT", size=4, signed=True, constant=-1, of_user=True),
        Operand("CONSTANT", size=8, signed=True, constant=3, of_user=True),
    ]
    sold = next(probe for probe in mine if len(probe.arguments) == 7)
    assert [field.type for field in sold.arguments] == [
        "int8_t", "int16_t", "int32_t", "int64_t", "uint64_t", "int32_t", "uint8_t",
    ]  # fmt: skip
    assert all(field.operand for probe in mine if probe.name == "sold" for field in probe.arguments)
    assert len({probe.semaphore for probe in mine if probe.name == "sold"}) == 1
    dear = next(probe for probe in mine if probe.name == "dear")
    assert dear.semaphore and dear.arguments[0].type == "double"
    assert dear.arguments[0].operand is None
    assert dear.arguments[1].operand is not None


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-static")])
def test_a_program_for_arm64(tmp_path: Path, flags: tuple[str, ...]) -> None:
    headers = header_folder(tmp_path)
    program = built(tmp_path, *flags, f"-I{headers}", compiler="aarch64-linux-gnu-gcc")
    probes = [probe for probe in check(program) if probe.provider == "shop"]
    fields = [field for probe in probes if probe.name != "dear" for field in probe.arguments]
    assert len(fields) == 13
    assert all(field.operand is not None for field in fields), fields
    with pytest.raises(UnusableFile, match=r"is for arm64, and this host is|is for x86-64"):
        usdt.find(parse_pattern(f"u:{program}:sold"))


def files_with_probes() -> list[str]:
    """Of this host: PostgreSQL's and Java's are what the other tests trace, too."""
    patterns = ("postgresql/*/bin/postgres", "jvm/*/lib/server/libjvm.so")
    known = [str(path) for pattern in patterns for path in Path("/usr/lib").glob(pattern)]
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True)
    python = [path for path in host_libraries() if "/libpython3" in path]
    return [*known, *python[:1], cc1.stdout.strip(), "libstdc++", "ld.gold"]


@pytest.mark.parametrize("name", files_with_probes())
def test_files_of_this_host(name: str) -> None:
    probes = check(Path(find_file(name).path_to_open))
    assert probes
    # All of these can be read: gcc's printing of integers.
    assert [field.why for probe in probes for field in probe.arguments if field.why] == []


def test_find_gives_each_location(tmp_path: Path) -> None:
    program = built(tmp_path, "-O1")
    places = usdt.find(parse_pattern(f"u:{program}:shop:sold"))
    assert [place.label for place in places] == ["shop:shop:sold"] * 2
    assert len({place.address for place in places}) == 2
    assert all(place.kind == "USER" and place.name == str(program) for place in places)
    assert usdt.find(parse_pattern(f"usdt:{program}:sold")) == places
    assert len(usdt.find(parse_pattern(f"u:{program}:*"))) == 4
    with pytest.raises(NoSuchProbe) as raised:
        usdt.find(parse_pattern(f"u:{program}:solt"))
    assert "sold" in raised.value.remedy
    with pytest.raises(NoSuchProbe, match="matches"):
        usdt.find(parse_pattern(f"u:{program}:other:sold"))


def test_of_a_process() -> None:
    """All files of a process that has libstdc++: this one, by pydemumble."""
    import ctypes
    import os

    ctypes.CDLL("libstdc++.so.6")
    places = usdt.find(parse_pattern("u::catch"), os.getpid())
    assert "libstdc++:libstdcxx:catch" in {place.label for place in places}
    with pytest.raises(InvalidArgument, match="names no file"):
        usdt.find(parse_pattern("u::catch"))


def test_of_a_process_whose_files_cannot_all_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "waits.c").write_text(
        '#include <stdio.h>\nint main(void) { puts("ready"); fflush(stdout); getchar(); }'
    )
    library, waits = tmp_path / "libown.so", tmp_path / "waits"
    command = ["gcc", "-shared", "-xc", "-", "-o", str(library)]
    subprocess.run(command, input="int in_it;", text=True, check=True)
    linked = ["-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(["gcc", str(waits) + ".c", *linked, "-o", str(waits)], check=True)
    with running(waits) as process:
        library.unlink()
        unread = f"that can be looked at; these cannot be: {library} (the file was deleted)"
        with pytest.raises(NoSuchProbe, match=re.escape(unread)) as raised:
            usdt.find(parse_pattern("u::nosuch"), process.pid)
        assert "restart the process" in raised.value.remedy
        files = {file.path: file for file in files_of_process(process.pid)}
        assert files[str(waits)] == FileOfProcess("waits", str(waits), 0)
        deleted = FileOfProcess("libown", str(library), None, "the file was deleted")
        assert files[str(library)] == deleted == list(files.values())[-1]
        with pytest.raises(UnusableFile, match=f"cannot use {library} of process"):
            usdt.find(parse_pattern(f"u:{library}:any"), process.pid)


def test_a_program_in_memory_has_no_name_for_patterns() -> None:
    code = """
import os, shutil, sys
fd = os.memfd_create("x")
with open(shutil.which("cat"), "rb") as file:
    os.write(fd, file.read())
os.execve(fd, ["x"], os.environ)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        *others, last = files_of_process(process.pid)
        process.kill()
    assert last == FileOfProcess("memfd:x", "/memfd:x", 0, "no pattern can name it")
    assert "libc" in {file.name for file in others}


def test_a_file_without_probes() -> None:
    with pytest.raises(NoSuchProbe, match="there are no static probes"):
        usdt.find(parse_pattern("u:sleep:any"))


def test_a_file_without_section_headers_may_have_some(tmp_path: Path) -> None:
    program = built(tmp_path, "-O1")
    program.write_bytes(without_section_headers(program.read_bytes()))
    with pytest.raises(UnusableFile, match="it has no section headers, so that its static probes"):
        usdt.find(parse_pattern(f"u:{program}:sold"))


def test_code_that_was_moved_after_linking(tmp_path: Path) -> None:
    """Notes have the address of .stapsdt.base at linking: what moved it moved the code."""
    program = built(tmp_path, "-O1")
    before = probes_of(program)
    data = bytearray(program.read_bytes())
    by = 0x40
    for note in re.finditer(rb"\x08\0\0\0...\0\x03\0\0\0stapsdt\0", bytes(data), re.DOTALL):
        at = note.end()
        for word in (at, at + 8, at + 16):
            value = int.from_bytes(data[word : word + 8], "little")
            if value:
                data[word : word + 8] = (value - by).to_bytes(8, "little")
    program.write_bytes(data)
    moved = probes_of(program)
    assert [(p.offset, p.semaphore, p.name) for p in moved] == [
        (p.offset, p.semaphore, p.name) for p in before
    ]


def test_damaged_notes_are_refused(tmp_path: Path) -> None:
    program = built(tmp_path, "-O1")
    data = program.read_bytes()
    start = data.index(b"stapsdt\0")
    assert start > 0
    for at in range(start - 12, start + 60):
        for byte in (0, 1, 0x7F, 0xFF):
            damaged = bytearray(data)
            damaged[at] = byte
            try:
                probes = static_probes(io.BytesIO(bytes(damaged)), found(program))
            except BadElf:
                continue
            assert all(probe.offset < len(data) for probe in probes)
