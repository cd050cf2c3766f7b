"""Arguments of static probes: every form that compilers print, and anything else refused."""

from __future__ import annotations

from functools import partial
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.probes.operands import NO_REGISTER, Index, Operand
from corelock.probes.places import Field
from corelock.probes.usdt_arguments import NotFound, Site, parse_arguments

# By Linux's uapi headers, asm/ptrace.h: x86-64's in order, arm64's by number.
X86 = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
).split()
ADDRESSES = {"counter": 0x5000, ".LC0": 0x4100, "_ZN1a1bE": 0x6008, "a.0": 0x7010}
AT = 0x1234
MACHINES = {"x86": "EM_X86_64", "arm": "EM_AARCH64"}

of_user = partial(Operand, of_user=True)


def x86(name: str) -> int:
    return 8 * X86.index(name)


def address_of(name: str) -> int:
    if name not in ADDRESSES:
        raise NotFound(f"no symbol {name}")
    return ADDRESSES[name]


def parse(machine: str, text: str, fixed: bool = False) -> Field:
    site = Site(MACHINES.get(machine, machine), AT, fixed, address_of)
    (field,) = parse_arguments(text, site)
    assert field.name == "arg1"
    return field


def memory(base: int, constant: int = 0, added: Optional[Index] = None, size: int = 8) -> Operand:
    return of_user("MEMORY", base, size, False, constant, added)


@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("-4@%eax", "int32_t", of_user("CONTEXT", x86("rax"), 4, True)),
        ("8@%rdi", "uint64_t", of_user("CONTEXT", x86("rdi"), 8)),
        ("1@%al", "uint8_t", of_user("CONTEXT", x86("rax"), 1)),
        ("1@%ah", "uint8_t", of_user("CONTEXT", x86("rax") + 1, 1)),
        ("-1@%dh", "int8_t", of_user("CONTEXT", x86("rdx") + 1, 1, True)),
        ("1@%sil", "uint8_t", of_user("CONTEXT", x86("rsi"), 1)),
        ("1@%bpl", "uint8_t", of_user("CONTEXT", x86("rbp"), 1)),
        ("2@%r10w", "uint16_t", of_user("CONTEXT", x86("r10"), 2)),
        ("-1@%r15b", "int8_t", of_user("CONTEXT", x86("r15"), 1, True)),
        ("4@%r8d", "uint32_t", of_user("CONTEXT", x86("r8"), 4)),
        ("8@%rsp", "uint64_t", of_user("CONTEXT", x86("rsp"), 8)),
        # The name of a part of the register, for all of it.
        ("8@%eax", "uint64_t", of_user("CONTEXT", x86("rax"), 8)),
        ("4@%rax", "uint32_t", of_user("CONTEXT", x86("rax"), 4)),
        ("%rdi", "uint64_t", of_user("CONTEXT", x86("rdi"), 8)),
        ("-4@$5", "int32_t", of_user("CONSTANT", size=4, signed=True, constant=5)),
        ("8@$-1", "uint64_t", of_user("CONSTANT", constant=2**64 - 1)),
        ("-8@$-1", "int64_t", of_user("CONSTANT", signed=True, constant=-1)),
        ("-4@$4294967295", "int32_t", of_user("CONSTANT", size=4, signed=True, constant=-1)),
        ("1@$0x1ff", "uint8_t", of_user("CONSTANT", size=1, constant=255)),
        ("8@-20(%rbp)", "uint64_t", memory(x86("rbp"), -20)),
        ("8@(%rsp)", "uint64_t", memory(x86("rsp"))),
        ("-2@6(%r12)", "int16_t", of_user("MEMORY", x86("r12"), 2, True, 6)),
        ("8@(%rax,%rdx,8)", "uint64_t", memory(x86("rax"), 0, Index(x86("rdx"), shift=3))),
        ("4@16(%rax,%rdx)", "uint32_t", memory(x86("rax"), 16, Index(x86("rdx")), 4)),
        ("8@-8(%rsp,%r9,2)", "uint64_t", memory(x86("rsp"), -8, Index(x86("r9"), shift=1))),
        ("8@(,%rdx,8)", "uint64_t", memory(NO_REGISTER, 0, Index(x86("rdx"), shift=3))),
        ("4@counter(%rip)", "uint32_t", memory(x86("rip"), 0x5000 - AT, size=4)),
        ("8@counter+8(%rip)", "uint64_t", memory(x86("rip"), 0x5008 - AT)),
        ("8@counter-8(%rip)", "uint64_t", memory(x86("rip"), 0x4FF8 - AT)),
        ("-4@4+counter(%rip)", "int32_t", of_user("MEMORY", x86("rip"), 4, True, 0x5004 - AT)),
        ("8@.LC0(%rip)", "uint64_t", memory(x86("rip"), 0x4100 - AT)),
        ("8@8+_ZN1a1bE+8(%rip)", "uint64_t", memory(x86("rip"), 0x6018 - AT)),
        ("8@a.0(%rip)", "uint64_t", memory(x86("rip"), 0x7010 - AT)),
    ],
)
def test_x86(text: str, type_: str, expected: Operand) -> None:
    assert parse("x86", text) == Field("arg1", type_, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8@$counter", of_user("CONSTANT", constant=0x5000)),
        ("8@$counter+16", of_user("CONSTANT", constant=0x5010)),
        ("4@counter", memory(NO_REGISTER, 0x5000, size=4)),
        ("4@counter+4", memory(NO_REGISTER, 0x5004, size=4)),
        ("8@counter(,%rdx,8)", memory(NO_REGISTER, 0x5000, Index(x86("rdx"), shift=3))),
        ("1@counter(%rax)", memory(x86("rax"), 0x5000, size=1)),
        ("4@counter(%rip)", memory(x86("rip"), 0x5000 - AT, size=4)),
    ],
)
def test_x86_of_a_program_that_is_loaded_where_it_is_linked(text: str, expected: Operand) -> None:
    assert parse("x86", text, fixed=True).operand == expected
    if "rip" not in text:
        field = parse("x86", text)
        assert field.operand is None and "when the file is loaded" in field.why


def arm(number: int) -> int:
    return 8 * number


@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("-4@w0", "int32_t", of_user("CONTEXT", arm(0), 4, True)),
        ("8@x1", "uint64_t", of_user("CONTEXT", arm(1), 8)),
        ("-4@x30", "int32_t", of_user("CONTEXT", arm(30), 4, True)),
        ("8@sp", "uint64_t", of_user("CONTEXT", arm(31), 8)),
        ("8@fp", "uint64_t", of_user("CONTEXT", arm(29), 8)),
        ("8@xzr", "uint64_t", of_user("CONSTANT")),
        ("-4@wzr", "int32_t", of_user("CONSTANT", size=4, signed=True)),
        ("-4@[sp, 12]", "int32_t", of_user("MEMORY", arm(31), 4, True, 12)),
        ("-4@[sp,12]", "int32_t", of_user("MEMORY", arm(31), 4, True, 12)),
        ("8@[x0]", "uint64_t", memory(arm(0))),
        ("8@[x0, #16]", "uint64_t", memory(arm(0), 16)),
        ("8@[x29, -16]", "uint64_t", memory(arm(29), -16)),
        ("8@[x29, #-16]", "uint64_t", memory(arm(29), -16)),
        ("8@[x0, x1]", "uint64_t", memory(arm(0), 0, Index(arm(1)))),
        ("4@[x0, x1, lsl 2]", "uint32_t", memory(arm(0), 0, Index(arm(1), shift=2), 4)),
        ("4@[x0, x1, lsl #2]", "uint32_t", memory(arm(0), 0, Index(arm(1), shift=2), 4)),
        ("8@[x0, w1, sxtw 3]", "uint64_t", memory(arm(0), 0, Index(arm(1), 4, True, 3))),
        ("8@[x0, w1, uxtw]", "uint64_t", memory(arm(0), 0, Index(arm(1), 4))),
        ("8@[x0, xzr]", "uint64_t", memory(arm(0))),
        ("8@[x0, #:lo12:counter]", "uint64_t", memory(arm(0), 0)),
        ("8@[x3, :lo12:a.0+8]", "uint64_t", memory(arm(3), 0x18)),
        ("4@42", "uint32_t", of_user("CONSTANT", size=4, constant=42)),
        ("-4@#5", "int32_t", of_user("CONSTANT", size=4, signed=True, constant=5)),
        ("-4@-1", "int32_t", of_user("CONSTANT", size=4, signed=True, constant=-1)),
        ("4@-1", "uint32_t", of_user("CONSTANT", size=4, constant=2**32 - 1)),
    ],
)
def test_arm64(text: str, type_: str, expected: Operand) -> None:
    assert parse("arm", text) == Field("arg1", type_, expected)


@pytest.mark.parametrize(
    ("machine", "text", "why"),
    [
        ("x86", "8f@%xmm0", "floating-point numbers"),
        ("x86", "8@%xmm0", "floating-point numbers"),
        ("x86", "4f@(%rax)", "floating-point numbers"),
        ("x86", "8@%st(1)", "floating-point numbers"),
        ("x86", "8@%fs:-8(%rax)", "thread-local"),
        ("x86", "8@%fs:counter@tpoff", "thread-local"),
        ("x86", "16@(%rax)", "16 bytes"),
        ("x86", "3@%eax", "3 bytes"),
        ("x86", "0@%eax", "0 bytes"),
        ("x86", "4@%ah", "does not fit"),
        ("x86", "8@16(%rip)", "instruction"),
        ("x86", "8@missing(%rip)", "no symbol missing"),
        ("x86", "8@counter@GOTPCREL(%rip)", "form"),
        ("x86", "8@(%eax)", "form"),
        ("x86", "8@(%rax,%edx,8)", "form"),
        ("x86", "8@(%rax,%rdx,3)", "form"),
        ("x86", "8@%r16", "form"),
        ("x86", "8@x0", "when the file is loaded"),
        ("x86", "8@counter-.LC0(%rip)", "form"),
        ("x86", "8@010(%rax)", "form"),
        ("x86", "8@", "form"),
        ("arm", "8f@d0", "floating-point numbers"),
        ("arm", "8@d0", "floating-point numbers"),
        ("arm", "8@v0.d[0]", "floating-point numbers"),
        ("arm", "8@[x0, 16]!", "form"),
        ("arm", "8@[x0], 16", "form"),
        ("arm", "8@[w0]", "form"),
        ("arm", "8@[x0, w1]", "form"),
        ("arm", "8@[x0, x1, sxtw 2]", "form"),
        ("arm", "8@[x0, counter]", "form"),
        ("arm", "8@counter", "form"),
        ("arm", "8@x31", "form"),
        ("arm", "8@%rax", "form"),
        ("EM_RISCV", "8@a0", "EM_RISCV"),
    ],
)
def test_what_is_not_read_says_why(machine: str, text: str, why: str) -> None:
    fields = parse_arguments(text, Site(MACHINES.get(machine, machine), AT, False, address_of))
    assert fields[0].operand is None
    assert why in fields[0].why


def test_several() -> None:
    site = Site("EM_AARCH64", AT, False, address_of)
    fields = parse_arguments("-4@[sp, 12] 8@x1  4@42 8@[x0, w1, sxtw 3]", site)
    assert [field.name for field in fields] == ["arg1", "arg2", "arg3", "arg4"]
    assert [field.operand.source for field in fields if field.operand] == [
        "MEMORY", "CONTEXT", "CONSTANT", "MEMORY",
    ]  # fmt: skip
    assert parse_arguments("", site) == parse_arguments("  ", site) == ()


SIZES = st.sampled_from([1, 2, 4, 8])
X86_GENERAL = st.sampled_from([name for name in X86 if name[0] == "r" and name != "rip"])
NUMBERS = st.integers(-(2**31), 2**31 - 1)


def header(size: int, signed: bool) -> str:
    return f"{'-' if signed else ''}{size}@"


@given(
    SIZES, st.booleans(), NUMBERS, X86_GENERAL, st.none() | X86_GENERAL, st.integers(0, 3),
    st.sampled_from(["", "counter", "a.0"]),
)  # fmt: skip
def test_x86_memory_round_trip(
    size: int, signed: bool, number: int, base: str, index: Optional[str], shift: int, symbol: str
) -> None:
    added = f",%{index},{1 << shift}" if index else ""
    total = f"{symbol}{number:+d}" if symbol else str(number) if number else ""
    operand = parse("x86", f"{header(size, signed)}{total}(%{base}{added})", fixed=True).operand
    expected_index = Index(x86(index), shift=shift) if index else None
    constant = number + ADDRESSES.get(symbol, 0)
    assert operand == of_user("MEMORY", x86(base), size, signed, constant, expected_index)


@given(
    SIZES, st.booleans(), st.integers(0, 31), st.integers(0, 30), st.integers(0, 4),
    st.sampled_from(["lsl", "sxtw", "uxtw"]), st.sampled_from(["", "#"]),
)  # fmt: skip
def test_arm64_memory_round_trip(
    size: int, signed: bool, base: int, index: int, shift: int, kind: str, mark: str
) -> None:
    narrow = kind != "lsl"
    names = ("sp" if base == 31 else f"x{base}", f"{'w' if narrow else 'x'}{index}")
    text = f"{header(size, signed)}[{names[0]}, {names[1]}, {kind} {mark}{shift}]"
    added = Index(arm(index), 4 if narrow else 8, kind == "sxtw", shift)
    assert parse("arm", text).operand == of_user("MEMORY", arm(base), size, signed, 0, added)


@given(st.sampled_from(["x86", "arm"]), SIZES, st.booleans(), st.integers(-(2**63), 2**64 - 1))
def test_constants_are_cut_to_their_type(
    machine: str, size: int, signed: bool, number: int
) -> None:
    mark = "$" if machine == "x86" else ""
    operand = parse(machine, f"{header(size, signed)}{mark}{number}").operand
    expected = int.from_bytes(
        (number & 2**64 - 1).to_bytes(8, "little")[:size], "little", signed=signed
    )
    assert operand == of_user("CONSTANT", 0, size, signed, expected)


PIECES = st.sampled_from(
    "8@ -4@ 8f@ % $ ( ) , [ ] # : rax rip eax x0 w1 sp lsl sxtw 3 -1 0x counter + - @ lo12 ".split(
        " "
    )
)


@given(st.sampled_from(["EM_X86_64", "EM_AARCH64"]), st.text() | st.lists(PIECES).map("".join))
def test_any_text_is_read_or_refused(machine: str, text: str) -> None:
    for field in parse_arguments(text, Site(machine, AT, False, address_of)):
        assert (field.operand is None) == bool(field.why)
