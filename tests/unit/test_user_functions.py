"""Functions of real files, against what nm and readelf say of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corelock.errors import NoSuchProbe, UnusableFile
from corelock.probes import user_functions
from corelock.probes.code_files import read_code
from corelock.probes.demangled_names import piece_of, spellings
from corelock.probes.libraries import find_file
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Place
from corelock.probes.user_functions import functions_of
from corelock.symbolize import demangle
from corelock.symbolize.demangle import in_words
from tests.unit.elf_image import without_section_headers

needs_demangler = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="no wheels of the library for Python 3.9"
)

SOURCE = """
#include <stdio.h>
#define VISIBLE __attribute__((noinline, visibility("default")))
VISIBLE int alpha(int x) { return x + puts("alpha"); }
VISIBLE int alpha_other_name(int) __attribute__((alias("alpha")));
VISIBLE int beta(int x) { return x - puts("beta"); }
static __attribute__((noinline, used)) int hidden(int x) { return x * puts("hidden"); }
static int one(void) { return puts("one"); }
static int __chosen_fast(void) { return puts("fast"); }
static volatile int fast = 1;
static int (*choose(void))(void) { return fast ? __chosen_fast : one; }
int chosen(void) __attribute__((ifunc("choose")));
int data_object = 3;
__asm__(".text\\n.type moved.cold,@function\\nmoved.cold: nop\\n.size moved.cold,1\\n");
int main(void) { return alpha(1) + beta(2) + hidden(3) + chosen() + data_object; }
"""

CXX = """
#include <cstdio>
namespace shop { struct Till {
  __attribute__((noinline)) int add(int a, long b) { return std::puts("add") + a + b; }
  __attribute__((noinline)) int add(int a) { return std::puts("add1") + a; }
}; }
int main() { shop::Till till; return till.add(1, 2) + till.add(3); }
"""


def built(folder: Path, source: str, name: str, *flags: str, compiler: str = "gcc") -> Path:
    code = folder / (name + (".cc" if compiler == "g++" else ".c"))
    code.write_text(source)
    command = [compiler, "-O1", "-g", *flags, str(code), "-o", str(folder / name)]
    subprocess.run(command, check=True)
    return folder / name


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("functions"), SOURCE, "some.program")


def find(path: object, name: str, regex: bool = False) -> list[Place]:
    """Without the file's version: it may be stripped meanwhile."""
    found = user_functions.find(parse_pattern(f"{path}:{name}", regex))
    return [place._replace(version=()) for place in found]


def labels(places: list[Place]) -> list[str]:
    return [place.label.partition(":")[2] for place in places]


def offset_by_readelf(path: Path, name: str) -> int:
    """Where in the file a symbol is: by nm's address and readelf's program headers."""
    listed = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    (address,) = (
        int(row.split()[0], 16) for row in listed.splitlines() if row.endswith(f" {name}")
    )
    headers = subprocess.run(
        ["readelf", "-lW", str(path)], capture_output=True, text=True, check=True
    ).stdout
    for offset, start, size in re.findall(
        r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x\w+ R E", headers
    ):
        if 0 <= address - int(start, 16) < int(size, 16):
            return address - int(start, 16) + int(offset, 16)
    raise AssertionError(f"{name} is in no executable segment")


@pytest.mark.parametrize("flags", [(), ("-no-pie",), ("-no-pie", "-Wl,-Ttext-segment=0x7000000")])
@pytest.mark.parametrize("name", ["alpha", "beta", "hidden", "main"])
def test_places_are_where_nm_says(tmp_path: Path, flags: tuple[str, ...], name: str) -> None:
    path = built(tmp_path, SOURCE, "program", *flags)
    (place,) = find(path, name)
    assert place == Place("USER", f"program:{name}", str(path), offset_by_readelf(path, name))


def test_a_function_of_several_names_counts_once(program: Path) -> None:
    assert labels(find(program, "alpha*")) == ["alpha"]
    assert labels(find(program, "alpha_o*")) == ["alpha_other_name"]
    assert find(program, "alpha_o*")[0].address == find(program, "alpha")[0].address


def test_what_is_not_called_is_no_function(program: Path) -> None:
    everything = set(labels(find(program, "*")))
    assert {"alpha", "beta", "hidden", "main", "one", "__chosen_fast"} <= everything
    # Undefined, data, a part of a function, a resolver by either of its names.
    assert not everything & {"puts", "data_object", "moved.cold", "chosen", "choose"}
    assert not any("@" in name for name in everything)


def test_a_function_that_is_chosen_at_run_time_is_refused(program: Path) -> None:
    with pytest.raises(NoSuchProbe, match=r"chosen of .*\(GNU_IFUNC\)") as raised:
        find(program, "chosen")
    assert "__chosen_fast" in raised.value.remedy
    matches = user_functions.match(parse_pattern(f"{program}:*"))
    assert matches.refused == {user_functions.CHOSEN: (f"{program.name}:chosen",)}


def test_stripped_files_have_what_linking_needs(tmp_path: Path) -> None:
    library = built(tmp_path, SOURCE, "libsome.so", "-shared", "-fPIC")
    whole = find(library, "alpha")
    subprocess.run(["strip", str(library)], check=True)
    assert find(library, "alpha") == whole
    with pytest.raises(NoSuchProbe) as raised:
        find(library, "hidden")
    assert "debug symbols" in raised.value.remedy


@pytest.mark.parametrize("hash_style", ["gnu", "sysv"])
def test_files_without_section_headers_have_what_linking_needs(
    tmp_path: Path, hash_style: str
) -> None:
    flags = ("-shared", "-fPIC", f"-Wl,--hash-style={hash_style}")
    library = built(tmp_path, SOURCE, "libsome.so", *flags)
    subprocess.run(["strip", str(library)], check=True)
    whole = find(library, "*")
    library.write_bytes(without_section_headers(library.read_bytes()))
    assert "alpha" in labels(whole)
    assert find(library, "*") == whole
    with pytest.raises(NoSuchProbe, match="matches 'hidden'") as raised:
        find(library, "hidden")
    assert "It has no section headers" in raised.value.remedy


def test_a_static_program_without_section_headers_has_no_names(tmp_path: Path) -> None:
    program = built(tmp_path, SOURCE, "program", "-static")
    program.write_bytes(without_section_headers(program.read_bytes()))
    with pytest.raises(NoSuchProbe, match="matches '\\*'") as raised:
        find(program, "*")
    assert "It has no section headers" in raised.value.remedy


def test_damaged_tables_for_linking_are_refused(tmp_path: Path) -> None:
    """Each byte of the dynamic section, of a file that has nothing else to go by."""
    library = built(tmp_path, SOURCE, "libsome.so", "-shared", "-fPIC")
    headers = subprocess.run(
        ["readelf", "-lW", str(library)], capture_output=True, text=True, check=True
    ).stdout
    (offset,) = re.findall(r"DYNAMIC +0x(\w+)", headers)
    good = without_section_headers(library.read_bytes())
    refused = 0
    for at in range(int(offset, 16), int(offset, 16) + 400):
        image = bytearray(good)
        image[at] ^= 0xFF
        library.write_bytes(bytes(image))
        try:
            find(library, "alpha")
        except NoSuchProbe:
            continue
        except UnusableFile as error:
            assert "corrupt ELF file" in error.message
            refused += 1
    assert refused


def test_the_debug_file_of_a_stripped_one_is_used(tmp_path: Path) -> None:
    program = built(tmp_path, SOURCE, "program")
    whole = find(program, "*")
    debug = f"{program}.debug"
    subprocess.run(["objcopy", "--only-keep-debug", str(program), debug], check=True)
    subprocess.run(["strip", str(program)], check=True)
    with pytest.raises(NoSuchProbe):
        find(program, "hidden")
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", str(program)], check=True)
    assert find(program, "*") == whole


def test_compressed_symbols_of_a_stripped_file_are_used(tmp_path: Path) -> None:
    program = built(tmp_path, SOURCE, "program")
    (whole,) = find(program, "hidden")
    debug = tmp_path / "inner"
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(debug)], check=True)
    subprocess.run(["strip", "--strip-debug", str(debug)], check=True)
    subprocess.run(["xz", str(debug)], check=True)
    subprocess.run(["strip", str(program)], check=True)
    section = f".gnu_debugdata={debug}.xz"
    subprocess.run(["objcopy", "--add-section", section, str(program)], check=True)
    assert find(program, "hidden") == [whole]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("shop::Till::add", {"shop::Till::add(int, long)", "shop::Till::add(int)"}),
        ("shop::*", {"shop::Till::add(int, long)", "shop::Till::add(int)"}),
        ("_ZN4shop4Till3addEi", {"shop::Till::add(int)"}),
        ("main", {"main"}),
    ],
)
def test_cxx_functions_by_either_name(tmp_path: Path, pattern: str, expected: set[str]) -> None:
    program = built(tmp_path, CXX, "till", compiler="g++")
    assert set(labels(find(program, pattern))) == expected


LONG = "".join(f"struct a_struct_with_a_long_name_{number} {{ int x; }};" for number in range(4))
TEMPLATES = (
    LONG
    + """
#include <cstdio>
#define NOINLINE __attribute__((noinline))
namespace ns {
template <class T> NOINLINE T tf(T x) { std::puts("tf"); return x; }
template <class T> struct Box {
  NOINLINE int get(int a) { return std::puts("get") + a; }
  template <class U> NOINLINE Box &operator<<(U) { std::puts("shift"); return *this; }
  NOINLINE operator int() { return std::puts("int"); }
};
template <class T> NOINLINE void (*pick(T))(int) { std::puts("pick"); return 0; }
}
namespace { template <class T> NOINLINE int inner(T x) { return std::puts("inner") + x; } }
#define MANY const a_struct_with_a_long_name_0 &, const a_struct_with_a_long_name_1 &, \\
    const a_struct_with_a_long_name_2 &, const a_struct_with_a_long_name_3 &
NOINLINE int many(MANY, int x) { return std::puts("int") + x; }
NOINLINE int many(MANY, double x) { return std::puts("double") + x; }
int main() {
  a_struct_with_a_long_name_0 a{}; a_struct_with_a_long_name_1 b{};
  a_struct_with_a_long_name_2 c{}; a_struct_with_a_long_name_3 d{};
  ns::Box<int> box;
  box << 1L;
  ns::pick(1);
  return ns::tf(1) + ns::tf(2L) + box.get(1) + box + inner(1) + many(a, b, c, d, 1) +
      many(a, b, c, d, 1.0);
}
"""
)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("templates"), TEMPLATES, "templates", compiler="g++")


@needs_demangler
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["ns::tf", "ns::tf*"], {"ns::tf<int>(int)", "ns::tf<long>(long)"}),
        (["ns::tf<int>", "ns::tf<int>(int)", "int ns::tf<int>(int)", "ns::tf(int)"],
         {"ns::tf<int>(int)"}),
        (["ns::*"],
         {"ns::tf<int>(int)", "ns::tf<long>(long)", "ns::Box<int>::get(int)", "ns::pick<int>(int)",
          "ns::Box<int>::operator<<<long>(long)", "ns::Box<int>::operator int()"}),
        (["ns::Box::operator<<"], {"ns::Box<int>::operator<<<long>(long)"}),
        (["ns::Box<int>::operator int"], {"ns::Box<int>::operator int()"}),
        (["(anonymous namespace)::inner"], {"(anonymous namespace)::inner<int>(int)"}),
    ],
)  # fmt: skip
def test_template_functions_as_people_write_them(
    templates: Path, patterns: list[str], expected: set[str]
) -> None:
    for pattern in patterns:
        assert set(labels(find(templates, pattern))) == expected


@needs_demangler
def test_long_overloads_are_told_apart(templates: Path) -> None:
    both = labels(find(templates, "many"))
    assert len(set(both)) == len(both) == 2
    assert all(len(label) > 120 for label in both)
    for label in both:
        assert labels(find(templates, label)) == [label]


@needs_demangler
def test_every_label_is_a_pattern_for_itself(templates: Path) -> None:
    for place in find(templates, "*"):
        assert place in find(templates, place.label.partition(":")[2])


@needs_demangler
def test_every_name_has_the_piece_of_what_it_is_written_as() -> None:
    """Or functions would not be found by it."""
    found = find_file("libstdc++")
    functions = read_code(found, lambda file: functions_of(file, found))
    names = [each.name for each in functions.known if in_words(each.name) != each.name]
    assert len(names) > 3000
    written = [(name, each) for name in names for each in spellings(in_words(name))]
    assert not [(name, each) for name, each in written if piece_of(each) not in name]
    # Nor is a word of theirs that a wildcard may leave.
    words = [(name, word) for name in names for word in re.findall(r"\w+", in_words(name))]
    assert not [each for each in words if piece_of(f"*{each[1]}*") not in each[0]]
    # Most have one.
    assert sum(bool(piece_of(each)) for _, each in written) > 0.9 * len(written)


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        ("shop::T[ix]ll::add_*", "shop"), ("*nsigned*", ""), ("at[0-9abc]*", ""), ("f", ""),
        ("<a::Some as b::T>::fmt", "Some"), ("x<-0x8000>", ""), ("std::string::append", "append"),
        ("größe", ""), ("Pad<4096ul>::use", "Pad"), ("*4096ul*", ""), ("*96ull>", ""),
        ("*lambda0*", ""), ("*mbda12*", ""), ("f<0x1p+0f>", ""), ("*x1p*", ""),
    ],
)  # fmt: skip
def test_pieces(pattern: str, piece: str) -> None:
    assert piece_of(pattern) == piece


DESTRUCTORS = """
#include <cstdio>
struct Base { virtual ~Base(); };
struct Plain : Base { ~Plain() override; };
struct Virtual : virtual Base { ~Virtual() override; };
Base::~Base() { std::puts("Base"); }
Plain::~Plain() { std::puts("Plain"); }
Virtual::~Virtual() { std::puts("Virtual"); }
int main() { Base *plain = new Plain, *other = new Virtual; delete plain; delete other; }
"""


@needs_demangler
def test_parts_of_a_destructor_are_told_apart(tmp_path: Path) -> None:
    program = built(tmp_path, DESTRUCTORS, "destructors", compiler="g++")
    assert sorted(labels(find(program, "Plain::~Plain"))) == [
        "Plain::~Plain()", "Plain::~Plain() (deleting)",
    ]  # fmt: skip
    parts = {"Virtual::~Virtual()", "Virtual::~Virtual() (base)", "Virtual::~Virtual() (deleting)"}
    assert set(labels(find(program, "Virtual::~Virtual()"))) == parts
    for label in parts:
        places = find(program, label)
        assert label in labels(places)
        assert label == "Virtual::~Virtual()" or len(places) == 1


TWICE = """
#include <cstdio>
template <class T> __attribute__((noinline)) int twice(T x) { return std::puts("int") + x; }
template <class T> __attribute__((noinline)) auto twice(T x) -> long { return std::puts("l") + x; }
template int twice<int>(int);
template long twice<int>(int);
template <class T> __attribute__((noinline)) int once(T x) { return std::puts("once") + x; }
int main() { return once(1); }
"""


@needs_demangler
def test_functions_that_only_return_types_tell_apart(tmp_path: Path) -> None:
    program = built(tmp_path, TWICE, "twice", compiler="g++")
    both = {"int twice<int>(int)", "long twice<int>(int)"}
    assert set(labels(find(program, "twice"))) == both
    for label in both:
        assert labels(find(program, label)) == [label]
    assert labels(find(program, "once")) == ["once<int>(int)"]


def test_without_a_demangler_it_is_said(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demangle, "_library", lambda: None)
    demangle.in_words.cache_clear()
    try:
        with pytest.raises(NoSuchProbe, match="'ns::tf'") as raised:
            find(templates, "ns::tf")
        assert "pydemumble is missing" in raised.value.remedy
        with pytest.raises(NoSuchProbe) as raised:
            find(templates, "maim")
        assert "main" in raised.value.remedy
        assert find(templates, "_ZN2ns2tfIiEET_S1_")
    finally:
        demangle.in_words.cache_clear()


def test_names_that_are_not_there_are_answered_with_similar_ones() -> None:
    with pytest.raises(NoSuchProbe, match="no function of .*libc.so.6 matches 'malloq'") as raised:
        find("libc", "malloq")
    assert "malloc" in raised.value.remedy


def test_functions_that_have_moved_to_libc() -> None:
    assert labels(find("libc", "pthread_create")) == ["pthread_create"]
    with pytest.raises(NoSuchProbe) as raised:
        find("pthread", "pthread_create")
    assert "libc:pthread_create" in raised.value.remedy


def test_all_of_libc_is_what_readelf_says() -> None:
    """Every function that programs can link with, and each place of libc once."""
    path = find_file("libc").path_to_open
    listed = subprocess.run(
        ["readelf", "-sW", "--dyn-syms", path], capture_output=True, text=True, check=True
    ).stdout
    rows = [row.split() for row in listed.splitlines()]
    functions = {
        (row[7].partition("@")[0], int(row[1], 16)): row[3]
        for row in rows
        if len(row) == 8 and row[3] in ("FUNC", "IFUNC") and row[6].isdigit()
    }
    assert len(functions) > 2000
    found = user_functions.match(parse_pattern("libc:*"))
    offsets = [place.address for place in found.places]
    assert len(offsets) == len(set(offsets))
    resolvers = {name for (name, _), kind in functions.items() if kind == "IFUNC"}
    assert "strlen" in resolvers
    assert {f"libc:{name}" for name in resolvers} <= set(found.refused[user_functions.CHOSEN])
    choosing = {address for (_, address), kind in functions.items() if kind == "IFUNC"}
    # In libc's file, addresses of code are offsets.
    with_names = {address for _, address in functions} - choosing
    assert with_names <= set(offsets)
    assert not choosing & set(offsets)


@pytest.mark.parametrize("name", ["malloc", "free", "read", "write", "mmap", "munmap", "open"])
def test_functions_are_called_what_users_call_them(name: str) -> None:
    assert f"libc:{name}" in {place.label for place in find("libc", "*")}


def test_of_a_process(program: Path) -> None:
    (mine,) = user_functions.find(parse_pattern("libc:malloc"), os.getpid())
    assert mine.label == "libc:malloc"
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            (place,) = user_functions.find(parse_pattern("c:malloc"), process.pid)
        finally:
            process.kill()
    assert place._replace(version=()) == find("libc", "malloc")[0]
