"""Demangled names, and what happens without a library for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corelock.symbolize import demangle
from corelock.symbolize.demangle import demangled, in_words, without_parameters

needs_library = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="no wheels of the library for Python 3.9"
)

VECTOR = "_ZNSt6vectorIiSaIiEE9push_backERKi"


@needs_library
@pytest.mark.parametrize(
    ("mangled", "expected"),
    [
        (VECTOR, "std::vector<int, std::allocator<int>>::push_back(int const&)"),
        ("_ZN3foo3barEv.cold", "foo::bar() (.cold)"),
        # Rust, legacy: the hash at the end is no part of the name.
        ("_ZN4core3fmt9Formatter9write_str17h05af221e174051e8E", "core::fmt::Formatter::write_str"),
        (
            "_ZN44_$LT$Foo$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE",
            "<Foo as foo::Bar<Test>>::bar",
        ),
        # Rust, v0.
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("mmap", "mmap"),
        ("", ""),
        ("_Zbogus", "_Zbogus"),
        ("_Z\udc80", "_Z\udc80"),
    ],
)
def test_demangled(mangled: str, expected: str) -> None:
    assert demangled(mangled) == expected


@needs_library
def test_agrees_with_the_demangler_of_binutils() -> None:
    """On names that both write alike: they differ in spaces and standard abbreviations."""
    names = ["_ZN1a1b1cEv", "_ZNK1a1bEi", "_Znwm", "_ZN1aC1Ev", "_ZN1aD0Ev", "_ZN1aplERKS_"]
    output = subprocess.run(
        ["c++filt", *names], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert list(map(demangled, names)) == output


@needs_library
def test_long_names_lose_their_parameters() -> None:
    many = "".join(f"N9namespace7klass{number}E" for number in range(10, 40))
    assert demangled("_ZN1a1bE" + many) == "a::b(...)"
    assert demangled("_ZN1a1bE" + many[:20]) == "a::b(namespace::klass10)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f(int)", "f(...)"),
        ("f()", "f()"),
        ("a::(anonymous namespace)::f<void (*)(int)>(void (*)(int)) const",
         "a::(anonymous namespace)::f<void (*)(int)>(...) const"),
        ("operator new", "operator new"),
        ("f)", "f)"),
        ("", ""),
    ],
)  # fmt: skip
def test_without_parameters(name: str, expected: str) -> None:
    assert without_parameters(name) == expected


def test_without_a_library_names_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydemumble", None)
    demangle._library.cache_clear()
    in_words.cache_clear()
    try:
        assert demangled(VECTOR) == VECTOR
    finally:
        demangle._library.cache_clear()
        in_words.cache_clear()


def test_a_library_that_breaks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> str:
        raise RuntimeError(name)

    for library in (broken, lambda name: "", lambda name: None):
        in_words.cache_clear()
        monkeypatch.setattr(demangle, "_library", lambda library=library: library)
        assert demangled(VECTOR) == VECTOR
    in_words.cache_clear()


def test_is_imported_when_a_name_needs_it() -> None:
    program = (
        "import sys; from corelock.symbolize.demangle import demangled; demangled('mmap');"
        "print('pydemumble' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"
