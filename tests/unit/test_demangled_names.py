"""Demangled names taken apart: what a person may write for a C++ or Rust function."""

from __future__ import annotations

import pytest

from corelock.probes.demangled_names import Parts, parts_of, spellings, without_result


@pytest.mark.parametrize(
    ("result", "name", "parameters"),
    [
        ("", "f", "(int)"),
        ("", "a::b::~b", "()"),
        ("", "a::b", "(void (*)(int), c<d>) const"),
        ("int", "ns::tf<int>", "(int)"),
        ("unsigned long", "f<int>", "(int)"),
        ("ns::Box<int>&", "ns::Box<int>::put<char const>", "(char const*)"),
        ("std::function<int (int)>", "ns::sf<int>", "(int)"),
        ("decltype(fp.val())", "ns::dt<ns::V>", "(ns::V)"),
        ("decltype((fp) > (1))", "ns::dt<ns::V>", "(ns::V)"),
        ("int", "(anonymous namespace)::f<int>", "(int)"),
        ("", "(anonymous namespace)::f", "(int)"),
        ("int", "ns::app<main::'lambda'(int)>", "(main::'lambda'(int))"),
        ("auto", "main::'lambda0'(auto)::operator()<int>", "(auto) const"),
        ("", "a::f(int) const::'lambda'(int)::operator()", "(int) const"),
        ("", "operator new", "(unsigned long)"),
        ("", "ns::Box<int>::operator new[]", "(unsigned long)"),
        ("", "ns::Box<int>::operator()", "(int)"),
        ("", "ns::Box<int>::operator int", "()"),
        ("", "ns::Box<int>::operator unsigned long", "() const"),
        ("", "ns::Box<int>::operator char*<char>", "()"),
        ("", "a::operator void (*)(int)", "()"),
        ("", "a::operator void (*)()", "()"),
        ("", "ns::Box<int>::operator<<", "(int)"),
        ("ns::Box<int>&", "ns::Box<int>::operator<<<char const>", "(char const*)"),
        ("bool", "operator<<int>", "(A<int>, A<int>)"),
        ("bool", "operator><int>", "(A<int>, A<int>)"),
        ("auto", "operator<=><int>", "(A<int>, A<int>)"),
        ("int*", "a::operator-><int>", "()"),
        ("", 'operator"" _km', "(unsigned long long)"),
        ("void", "f<int>", "(int) (.constprop.0)"),
        ("int", "f<(2) < (3)>", "(int)"),
        ("", "operators", "(int)"),
        ("", "virtual thunk to a::f()", ""),
        ("", "non-virtual thunk to a::f()", ""),
        ("", "<a::S as a::b::T>::f", ""),
        ("", "<impl core::ops::Fn() -> i32 as a::T>::f", ""),
        ("", "core::fmt::num::<impl core::fmt::Debug for u32>::fmt", ""),
        ("", "std::mem::drop::<a::b>", ""),
        ("", "a::b::{{closure}}", ""),
        ("", "a::f::{closure#0}", " (.llvm.3679397353913339622)"),
    ],
)
def test_parts(result: str, name: str, parameters: str) -> None:
    words = f"{result} {name}{parameters}" if result else name + parameters
    assert parts_of(words) == Parts(result, name, parameters)
    assert without_result(words) == name + parameters


def test_a_function_that_returns_a_pointer_to_one() -> None:
    words = "void (*ns::fp<int>(int))(int)"
    assert parts_of(words) == Parts("void (*)(int)", "ns::fp<int>", "(int)")
    assert without_result("int (&f<int>(long))[3]") == "f<int>(long)"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("int ns::tf<int>(int)", "ns::tf|ns::tf<int>|ns::tf<int>(int)|int ns::tf<int>|ns::tf(int)"),
        ("ns::Box<int>::get(int) const", "ns::Box::get|ns::Box<int>::get"),
        ("void a<b>::c<d>(e<f>)", "a<b>::c|a::c|a::c(e<f>)|void a::c"),
        ("ns::Box<int>& ns::Box<int>::operator<<<char const>(char const*)",
         "ns::Box<int>::operator<<|ns::Box::operator<<"),
        ("bool operator<<int>(A<int>)", "operator<|bool operator<"),
        ("<a::S<b> as a::T>::f::<c>", "<a::S<b> as a::T>::f"),
        ("n::<impl D for u32>::fmt", "n::<impl D for u32>::fmt"),
        ("std::mem::drop::<a::b>", "std::mem::drop"),
        ("a::f[abi:cxx11](int)", "a::f|a::f(int)|a::f[abi:cxx11]"),
        ("a::f::{closure#0} (.llvm.36793)", "a::f::{closure#0}"),
        ("void f<int>(int) (.isra.0)", "f (.isra.0)|f<int>(int) (.isra.0)"),
    ],
)  # fmt: skip
def test_spellings(words: str, written: str) -> None:
    every = list(spellings(words))
    assert every[0] == words
    assert set(written.split("|")) <= set(every)


def test_what_is_no_spelling() -> None:
    # Moved out of a function by the compiler, and what leads to one: other places.
    assert "f" not in spellings("void f<int>(int) (.isra.0)")
    assert "a::f" not in spellings("virtual thunk to a::f()")
    assert "S::f" not in spellings("<a::S as a::T>::f")
