"""What filters may say: what is refused, where it is marked, and that nothing else is raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.errors import InvalidArgument
from corelock.probes import filters
from corelock.probes.forms import pointed_text
from corelock.probes.operands import COMMON, Index, Operand

FIELDS = {
    "length": Operand("CONTEXT", 8, 4),
    "flags": Operand("CONTEXT", 16, 8, signed=True),
    "name": Operand("CONTEXT", 24, 4, text="DATA_LOC", length=64),
    "arg1": Operand("MEMORY", 112, constant=-8, added=Index(104, 4, True, 3)),
}


def refused(text: str) -> tuple[str, str]:
    """The problem, and what stands at the mark below the expression."""
    with pytest.raises(InvalidArgument) as raised:
        filters.compile_filter(text, FIELDS)
    problem, line, mark = raised.value.message.split("\n")
    assert raised.value.remedy
    assert line.startswith("    ") and mark.strip() == "^"
    return problem, line[mark.index("^") :]


def only(text: str) -> filters.Test:
    (test,) = filters.compile_filter(text, FIELDS)
    return test


# --- what it means --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("00", 0), ("10", 10), ("-10", -10), ("- 10", -10), ("0xfF", 255), ("0o17", 15),
        ("017", 15), ("4K", 4096), ("4k", 4096), ("2M", 2 << 20), ("1G", 1 << 30), ("-1K", -1024),
        ("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_numbers_are_written_as_in_c_and_with_suffixes(text: str, number: int) -> None:
    for expression in f"length == {text}", f"{text} == length":
        test = only(expression)
        assert test.left == FIELDS["length"]
        assert test.right == Operand("CONSTANT", constant=number, signed=number < 0)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('""', b""), ("'it'", b"it"), ('"it\'s"', b"it's"), (r'"\"\\\n\t\r\'"', b"\"\\\n\t\r'"),
        (r'"\x41\xff"', b"A\xff"), ('"für"', "für".encode()), ('"\udcff"', b"\xff"),
    ],
)  # fmt: skip
def test_strings(text: str, content: bytes) -> None:
    assert only(f"name == {text}").right.words == content


def test_a_pointed_text() -> None:
    assert only('str(arg1) != "/tmp"').left == FIELDS["arg1"]._replace(text="POINTED", length=64)
    user = FIELDS["arg1"]._replace(of_user=True)
    assert pointed_text(user) == user._replace(text="OF_USER", length=64)
    assert pointed_text(COMMON["pid"]) is None
    assert pointed_text(FIELDS["name"]) is None
    assert pointed_text(FIELDS["length"]) is None


@pytest.mark.parametrize("name", ["length", "flags", "arg1"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_low_bytes_of_a_field(name: str, size: int, signed: bool) -> None:
    form = f"{'s' if signed else 'u'}{8 * size}({name})"
    if size > FIELDS[name].size:
        assert refused(f"{form} < 0") == (
            f"cannot use the filter: {name} has 32 bits only", f"{name}) < 0"
        )  # fmt: skip
        return
    low = FIELDS[name]._replace(size=size, signed=signed)
    assert only(f"{form} < 0").left == low
    assert only(form).left == low
    assert only(f"{form} & 6 == 2").left == low._replace(signed=False)


def test_a_masked_number_is_unsigned() -> None:
    test = only("flags & -2 == 4")
    assert test == (FIELDS["flags"]._replace(signed=False), "EQ", test.right, 254, 255, 2**64 - 2)


def test_the_events_own_field_comes_before_what_every_event_has() -> None:
    own = Operand("CONTEXT", 40, 4, signed=True)
    (test,) = filters.compile_filter("pid == 1", {"pid": own})
    assert test.left == own
    assert only("pid == 1").left == COMMON["pid"]


def test_and_binds_closer_than_or() -> None:
    assert filters.compile_filter("length || flags && pid", FIELDS) == filters.compile_filter(
        "length || (flags && pid)", FIELDS
    )
    assert filters.compile_filter("length && flags || pid", FIELDS) == filters.compile_filter(
        "(length && flags) || pid", FIELDS
    )


# --- what is refused, and where -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem", "rest"),
    [
        ("", "it is empty", "^"),
        ("length >", "expected a field, a number or a string, but it ends here", "^"),
        ("length > > 3", "expected a field, a number or a string, but this is >", "> 3"),
        ("length = 3", "one = compares nothing", "= 3"),
        ("length == 1 | flags", "one | joins nothing", "| flags"),
        ("length == 1 & flags == 2", "comparisons do not chain", "== 2"),
        ("1 < length < 3", "comparisons do not chain", "< 3"),
        ("(length == 1) == flags", "== compares fields and constants, not conditions", "== flags"),
        ("length == 1 and flags", "and does not join conditions", "and flags"),
        ('length == 1 "a\nb"', 'expected && or ||, but this is "a b"', '"a b"'),
        ("length == 1 flags", "expected && or ||, but this is flags", "flags"),
        ("!length == 1", "does the ! before include this ==?", "== 1"),
        ("!flags & 1", "does the ! before include this &?", "& 1"),
        ("(length == 1", "expected the ) of the ( at column 1, but it ends here", "^"),
        ("length == 1)", "nothing opens this )", ")"),
        ("length & flags", "& takes a field and a number", "& flags"),
        ("flags & 1 & 2", "one & is enough", "& 2"),
        (
            "flags & 1 == length & 2",
            "one side of a comparison has a mask, not both",
            "== length & 2",
        ),
        ("name & 1", "a text has no bits to take", "& 1"),
        ("1 == 2", "this compares two constants", "== 2"),
        ("length || 1", "a constant by itself is always the same", "1"),
        ("comm", "a text is neither true nor false", "comm"),
        ('name < "x"', "texts have no order, < is for numbers", '< "x"'),
        ("name == comm", "two texts of an event are not compared", "== comm"),
        ("name == 5", "this compares a text with a number", "== 5"),
        ('length == "5"', "this compares a text with a number", '== "5"'),
        ("length == 089", "089 is no number", "089"),
        ("length == 1e6", "1e6 is no number", "1e6"),
        (
            "length == 18446744073709551616",
            "no field is as large as this number",
            "1844674407370955",
        ),
        (
            "length == -9223372036854775809",
            "no field is as large as this number",
            "922337203685477",
        ),
        ("length == " + "9" * 5000, "no field is as large as this number", "9999"),
        ('comm == "abc', "this string has no end", '"abc'),
        (r'comm == "a\q"', "this stands for nothing", r'\q"'),
        (r'comm == "a\x00"', "a text has no zero byte in it, it ends there", r'\x00"'),
        ("length ~ 3", "there are no patterns here", "~ 3"),
        ("length % 3", "'%' means nothing here", "% 3"),
        ("lenght > 3", "there is no field lenght", "lenght > 3"),
        ("comm == bash", "there is no field bash", "bash"),
        ("strlen(name)", "there is no function strlen", "strlen(name)"),
        ('str(length) == ""', "length is no address, as str() needs one", 'length) == ""'),
        ("s32(name) == 1", "name is a text", "name) == 1"),
        ("u8(tid)", "tid has no other form", "tid)"),
        ("s24(flags)", "there is no function s24", "s24(flags)"),
        ("hex(flags) == 1", "there is no function hex", "hex(flags) == 1"),
        ("u8(lenght)", "there is no field lenght", "lenght)"),
        ("u8(flags", "expected the ) of u8(, but it ends here", "^"),
        ("u8(flags & 1)", "expected the ) of u8(, but this is &", "& 1)"),
        ("str(5)", "expected a field, but this is 5", "5)"),
        ("str(arg1", "expected the ) of str(, but it ends here", "^"),
        ('comm == "0123456789abcdef"', "this string has 16 bytes, and", '"0123456789abcdef"'),
        (f'name == "{"x" * 64}"', "this string has 64 bytes, and", '"xxxx'),
        ("(" * 10_000, "it is nested deeper than 32 levels", "(((("),
        ("!" * 10_000 + "length", "it is nested deeper than 32 levels", "!!!!"),
    ],
)
def test_refused(text: str, problem: str, rest: str) -> None:
    found, at = refused(text)
    assert found.startswith(f"cannot use the filter: {problem}")
    # At its end there is nothing but the mark itself to find.
    assert at.startswith(rest) if rest != "^" else at == ""


@pytest.mark.parametrize(
    ("text", "content"),
    [("comm", "012345678901234"), ("name", "x" * 63), ("str(arg1)", "x" * 63)],
)
def test_a_string_may_be_as_long_as_the_text(text: str, content: str) -> None:
    assert only(f'{text} == "{content}"').right.words == content.encode()


def test_the_nearest_fields_are_named() -> None:
    with pytest.raises(InvalidArgument) as raised:
        filters.compile_filter("lenght > 3", FIELDS)
    assert raised.value.remedy.startswith("Did you mean length? ")
    for name in (*FIELDS, *COMMON):
        assert name in raised.value.remedy


def test_as_many_tests_as_there_is_room_for() -> None:
    most = " || ".join(["length"] * filters.MOST_TESTS)
    assert len(filters.compile_filter(most, FIELDS)) == filters.MOST_TESTS
    found, at = refused(f"{most} || flags")
    assert "it has 33 comparisons, and 32 is the most" in found
    assert at == "flags"


def test_as_deep_as_may_be() -> None:
    assert only("(" * 32 + "length" + ")" * 32) == only("length")
    assert only("!" * 32 + "length") == only("length")


def test_the_mark_is_below_its_place_behind_wide_letters() -> None:
    with pytest.raises(InvalidArgument) as raised:
        filters.compile_filter('comm == "日本" && x', FIELDS)
    _, line, mark = raised.value.message.split("\n")
    # Two letters of two columns each.
    assert mark.index("^") == line.index("x") + 2


def test_of_a_long_expression_the_part_around_the_place_is_shown() -> None:
    text = "length == 1 && " * 15 + "lenght" + " && length == 1" * 15
    found, at = refused(text)
    assert "no field lenght" in found and at.startswith("lenght &&")
    with pytest.raises(InvalidArgument) as raised:
        filters.compile_filter(text, FIELDS)
    assert max(map(len, raised.value.message.split("\n"))) <= 80


# --- any text -------------------------------------------------------------------

PIECES = st.sampled_from(
    [*FIELDS, *COMMON, *"()!&<>=|-\"'\\ \n", "==", "!=", "<=", ">=", "&&", "||", "str(", "s32(",
     "u8(", "0", "1K", "0x10", "-1", '"qemu"', "'a'", "\\x41"]
)  # fmt: skip
ANY = st.text(st.characters(), max_size=60) | st.lists(PIECES, max_size=30).map("".join)


@settings(max_examples=1500)
@given(ANY | st.lists(PIECES, max_size=30).map(" ".join))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        tests = filters.compile_filter(text, FIELDS)
    except InvalidArgument as error:
        assert len(error.message.split("\n")) == 3 and error.remedy
    else:
        assert 1 <= len(tests) <= filters.MOST_TESTS


@pytest.mark.parametrize(
    "text", ['"' * 100_001, "(length)" * 50_000, "length&&" * 50_000, "\ud800"]
)
def test_hostile_texts(text: str) -> None:
    with pytest.raises(InvalidArgument):
        filters.compile_filter(text, FIELDS)
