"""The contract between Python, libcorelock and the BPF programs, and what is in the files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest
from cffi import FFI
from elftools.elf.elffile import ELFFile

from corelock import _ffi
from tools import generate_ffi

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
LIBRARY = Path(_ffi.__file__).parents[1] / _ffi.LIBRARY_NAME
VERSION = "CORELOCK_1"

ffi, lib = _ffi.library()


def python(code: str, **environment: str) -> str:
    """The output of a fresh interpreter, so that nothing is imported or opened yet."""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, **environment}, check=True, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return finished.stdout


def compile_library(directory: Path, source: str) -> Path:
    library, headers = directory / "libother.so", ROOT / "src" / "loader"
    command = ["cc", "-shared", "-fPIC", f"-I{headers}", "-xc", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    return library


# --- layouts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "generated"),
    [(generate_ffi.ABI, "abi_check.c"), (generate_ffi.PUBLIC, "public_check.c")],
)
def test_every_member_of_every_struct_is_asserted(header: Path, generated: str) -> None:
    asserted = (BUILD / generated).read_text().splitlines()
    defined = re.findall(r"\bstruct\s+(\w+)\s*\{", header.read_text())
    expected = [f'#include "{header.name}"']
    for name in defined:
        struct = f"struct {name}"
        expected += [
            f"_Static_assert(__builtin_offsetof({struct}, {member}) == {field.offset},"
            f' "{name}.{member}");'
            for member, field in ffi.typeof(struct).fields
        ]
        expected.append(f'_Static_assert(sizeof({struct}) == {ffi.sizeof(struct)}, "{name}");')
    assert asserted == expected


def test_every_struct_that_python_knows_is_asserted() -> None:
    text = (BUILD / "abi_check.c").read_text() + (BUILD / "public_check.c").read_text()
    asserted = set(re.findall(r"sizeof\(struct (\w+)\)", text))
    _, structs, unions = ffi.list_types()
    assert asserted == set(structs) - {"corelock_session", "corelock_holders", "corelock_probes"}
    assert unions == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("\tuint64_t process_start_ns;", "\tuint32_t process_start_ns;\n\tuint64_t x;", "before x"),
        ("\tuint32_t unmapping;", "", "at its end"),
        ("\tuint64_t process_start_ns;", "\tuint8_t x;\n\tuint64_t process_start_ns;", "before p"),
    ],
)
def test_a_hole_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    header = tmp_path / "holes.h"
    text = generate_ffi.ABI.read_text()
    assert text.count(before) == 1
    header.write_text(text.replace(before, after))
    holed = FFI()
    holed.cdef(generate_ffi.declarations(header))
    with pytest.raises(SystemExit, match=f"struct corelock_mm has a hole {message}"):
        generate_ffi.assertions(holed, header)


def test_the_compiler_refuses_another_layout(tmp_path: Path) -> None:
    """What the build relies on: the assertions fail for a header that moved a member."""
    same = generate_ffi.ABI.read_text()
    moved = same.replace("\tuint64_t process_start_ns;", "\tuint64_t x, process_start_ns;")
    for name, text in (("same", same), ("moved", moved)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corelock_abi.h").write_text(text)
    results = [
        subprocess.run(
            ["cc", "-fsyntax-only", f"-I{tmp_path / name}", BUILD / "abi_check.c"],
            capture_output=True, text=True,
        )
        for name in ("same", "moved")
    ]  # fmt: skip
    assert results[0].returncode == 0
    assert results[1].returncode != 0
    assert 'static assertion failed: "corelock_mm.process_start_ns"' in results[1].stderr


def test_generated_files_are_those_of_the_headers() -> None:
    fingerprint = generate_ffi.fingerprint()
    assert lib.corelock_handshake().fingerprint == fingerprint
    assert f"{fingerprint:#x}ULL" in (BUILD / "fingerprint.h").read_text()


def test_the_fingerprint_changes_with_either_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {generate_ffi.fingerprint()}
    for name in ("ABI", "PUBLIC"):
        changed = tmp_path / f"{name}.h"
        changed.write_text(getattr(generate_ffi, name).read_text() + "\n")
        with monkeypatch.context() as patch:
            patch.setattr(generate_ffi, name, changed)
            found.add(generate_ffi.fingerprint())
    assert len(found) == 3


# --- symbols --------------------------------------------------------------------


def exported(library: Path) -> dict[str, Optional[str]]:
    """Symbols that others can link to, with their versions."""
    with library.open("rb") as file:
        elf = ELFFile(file)
        versions = {
            version["vd_ndx"]: next(iter(names)).name
            for version, names in elf.get_section_by_name(".gnu.version_d").iter_versions()
        }
        indices = elf.get_section_by_name(".gnu.version")
        return {
            symbol.name: versions.get(indices.get_symbol(i)["ndx"])
            for i, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols())
            if symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
        }


def declared() -> set[str]:
    """Functions of the public header."""
    return set(re.findall(r"\b(corelock_\w+)\([^)]*\);", generate_ffi.PUBLIC.read_text()))


def test_exactly_the_public_functions_are_exported_and_versioned() -> None:
    assert exported(LIBRARY) == dict.fromkeys(declared(), VERSION)


def test_the_symbol_map_names_the_public_functions() -> None:
    text = (ROOT / "src" / "loader" / "libcorelock.map").read_text()
    assert set(re.findall(r"^\t(corelock_\w+);$", text, re.MULTILINE)) == declared()


def test_cffi_finds_every_public_function() -> None:
    assert {name for name in dir(lib) if callable(getattr(lib, name))} == declared()


def test_objects_show_nothing_but_the_public_functions() -> None:
    visible = set()
    for source in (ROOT / "src" / "loader").glob("*.c"):
        with (BUILD / f"{source.stem}.o").open("rb") as file:
            visible |= {
                symbol.name
                for symbol in ELFFile(file).get_section_by_name(".symtab").iter_symbols()
                if symbol["st_info"]["bind"] == "STB_GLOBAL"
                and symbol["st_shndx"] != "SHN_UNDEF"
                and symbol["st_other"]["visibility"] == "STV_DEFAULT"
            }
    assert visible == declared()


# --- opening the library --------------------------------------------------------

OPEN = """
from corelock import _ffi, errors
try:
    _ffi.library()
except errors.LibraryError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("version", "fingerprint"),
    [("CORELOCK_ABI_VERSION", 0x1234), ("7", generate_ffi.fingerprint())],
)
def test_a_library_of_another_contract_is_refused(
    tmp_path: Path, version: str, fingerprint: int
) -> None:
    other = compile_library(
        tmp_path,
        f"""
        #include "corelock.h"
        static const struct corelock_handshake handshake = {{{version}, 0, {fingerprint}ULL}};
        const struct corelock_handshake *corelock_handshake(void) {{ return &handshake; }}
        """,
    )
    number = lib.CORELOCK_ABI_VERSION
    found = number if version == "CORELOCK_ABI_VERSION" else int(version)
    said = python(OPEN, CORELOCK_LIBRARY=str(other))
    assert said.startswith(f"{other} does not match this package")
    assert f"version {found} ({fingerprint:016x})" in said
    assert f"expected version {number} ({generate_ffi.fingerprint():016x})" in said
    assert said.endswith("Run make again, or reinstall the package.\n")


def test_library_of_another_machine(tmp_path: Path) -> None:
    """glibc says of it that there is no such file."""
    this = os.uname().machine
    gnu, other = {
        "x86_64": ("aarch64-linux-gnu", "aarch64"),
        "aarch64": ("x86_64-linux-gnu", "x86_64"),
    }[this]
    library = tmp_path / "libother.so"
    command = [f"{gnu}-gcc", "-shared", "-nostdlib", "-xc", "/dev/null", "-o", str(library)]
    subprocess.run(command, check=True)
    said = python(OPEN, CORELOCK_LIBRARY=str(library))
    assert said.startswith(f"{library} is for {other} machines, and this Python is for {this}")
    assert f"wheel for {this}" in said


def test_another_library_is_refused(tmp_path: Path) -> None:
    other = compile_library(tmp_path, "int unrelated;")
    assert python(OPEN, CORELOCK_LIBRARY=str(other)).startswith(f"{other} is not libcorelock")


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.so"
    assert python(OPEN, CORELOCK_LIBRARY=str(missing)).startswith(f"{missing} does not exist")


@pytest.mark.parametrize("content", ["", "no library at all\n" * 100])
def test_a_file_that_is_no_library_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "text.so"
    file.write_text(content)
    assert python(OPEN, CORELOCK_LIBRARY=str(file)).startswith(f"cannot open {file}: ")


def test_a_directory_is_no_library(tmp_path: Path) -> None:
    assert python(OPEN, CORELOCK_LIBRARY=str(tmp_path)).startswith(f"cannot open {tmp_path}: ")


def test_the_right_library_is_opened_once() -> None:
    assert python(OPEN + "print(_ffi.library() is _ffi.library())") == "True\n"


COSTLY = {"_cffi_backend", "cffi", "cffi.cparser", "pycparser", "click", "rich", "elftools"}


def loaded(code: str) -> tuple[set[str], set[str]]:
    """Which costly modules, and which of our shared libraries, are there after ``code``."""
    output = python(
        f"""{code}
import sys
print(*({COSTLY} & sys.modules.keys()))
for line in open("/proc/self/maps"):
    print(line.split("/")[-1].split(".so")[0].strip())
"""
    )
    modules, *mapped = output.splitlines()
    return set(modules.split()), {"libcorelock", "libbpf"}.intersection(
        re.sub(r"-[0-9.]+$", "", name) for name in mapped
    )


def test_importing_opens_no_library_and_parses_no_c() -> None:
    assert loaded("import corelock") == (set(), set())


def test_opening_parses_no_c() -> None:
    modules, libraries = loaded("from corelock import _ffi\n_ffi.library()")
    # A wheel's library has libbpf inside.
    outside = b"libbpf.so" in LIBRARY.read_bytes()
    assert libraries == {"libcorelock", *(["libbpf"] if outside else [])}
    assert modules == {"_cffi_backend"}


# --- options of another size ----------------------------------------------------

SIZE = ffi.sizeof("struct corelock_options")


def configure(size: int, members: dict[str, int], set_bytes: tuple[int, ...] = ()) -> int:
    """What corelock_configure says of options that are ``size`` bytes long."""
    memory = ffi.new("uint8_t[]", 4096)
    options = ffi.cast("struct corelock_options *", memory)
    options.size = size
    for name, value in members.items():
        setattr(options, name, value)
    for at in set_bytes:
        memory[at] = 1
    session = lib.corelock_new()
    try:
        result: int = lib.corelock_configure(session, options)
        message = ffi.string(lib.corelock_last_error(session).message).decode()
        assert bool(message) == (result < 0)
        return result
    finally:
        lib.corelock_free(session)


REFUSED = -lib.CORELOCK_E_ARGUMENT
NOTHING: dict[str, int] = {}


@pytest.mark.parametrize("size", [SIZE, SIZE + 1, SIZE + 8, 4096])
def test_options_that_end_in_zeros_are_accepted(size: int) -> None:
    assert configure(size, NOTHING) == lib.CORELOCK_OK


@pytest.mark.parametrize(
    ("size", "at"), [(SIZE + 1, SIZE), (SIZE + 8, SIZE + 7), (4096, SIZE), (4096, 4095)]
)
def test_options_with_an_unknown_member_set_are_refused(size: int, at: int) -> None:
    assert configure(size, NOTHING, (at,)) == REFUSED


def test_what_is_behind_the_options_is_not_read() -> None:
    assert configure(SIZE, NOTHING, (SIZE, SIZE + 1)) == lib.CORELOCK_OK
    assert configure(SIZE + 8, NOTHING, (SIZE + 8,)) == lib.CORELOCK_OK


def test_members_that_shorter_options_lack_are_zero() -> None:
    no_such_target = {"target": 99}
    assert configure(SIZE, no_such_target) == REFUSED
    assert configure(ffi.offsetof("struct corelock_options", "target"), no_such_target) == 0
    assert configure(8, no_such_target) == 0


@pytest.mark.parametrize("size", [0, 1, 7])
def test_options_without_a_size_are_refused(size: int) -> None:
    assert configure(size, NOTHING) == REFUSED


# --- the BPF object -------------------------------------------------------------


@pytest.mark.parametrize("name", ["mmap_lock", "holders"])
def test_the_bpf_object_has_types_and_no_dwarf(name: str) -> None:
    with (BUILD / f"{name}.bpf.o").open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_machine"] == "EM_BPF"
        sizes = {section.name: section["sh_size"] for section in elf.iter_sections()}
    assert sizes[".BTF"] > 0
    assert sizes[".BTF.ext"] > 0
    assert not [name for name in sizes if "debug_" in name]


@pytest.mark.parametrize("name", ["mmap_lock", "holders"])
def test_the_library_carries_the_stripped_object(name: str) -> None:
    stripped = (BUILD / f"{name}.bpf.o").read_bytes()
    sizes = re.findall(r"^\t\*sz = (\d+);", (BUILD / f"{name}.skel.h").read_text(), re.MULTILINE)
    assert sizes == [str(len(stripped))]
    assert len(stripped) < (BUILD / f"{name}.full.bpf.o").stat().st_size
    assert stripped in LIBRARY.read_bytes()
