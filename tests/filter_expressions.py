"""Filters for tests, as trees: what a user writes, and what that comes to on an event.

The latter is worked out straight from the tree and the event, and has nothing in common with
what it is a witness of.
"""

from __future__ import annotations

import operator
from typing import Any, Callable, NamedTuple, Union

from hypothesis import strategies as st

from corelock.probes import filters
from corelock.probes.operands import COMMON, TEXT_BYTES, Operand

#: Where addresses of the user are, in an event.
USER = 0x7F0000001000

# --- numbers --------------------------------------------------------------------

SIZES = (1, 2, 4, 8)
EDGES = sorted(
    {edge + by for bits in (0, 7, 8, 15, 16, 31, 32, 63, 64) for edge in (2**bits, -(2**bits))
     for by in (-1, 0, 1)} | {-1, 0, 1}
)  # fmt: skip
FORMS = [(size, signed) for size in SIZES for signed in (False, True)]


def within(size: int, signed: bool) -> tuple[int, int]:
    bits = 8 * size
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def numbers_within(low: int, high: int) -> st.SearchStrategy[int]:
    return st.sampled_from([e for e in EDGES if low <= e <= high]) | st.integers(low, high)


# --- events ---------------------------------------------------------------------


class Task(NamedTuple):
    pid: int = 7
    tid: int = 8
    cpu: int = 3
    comm: bytes = b"worker"


class Event(NamedTuple):
    """A record with fields of every form, and what they are."""

    record: bytes
    user: bytes
    task: Task
    values: dict[str, Union[int, bytes]]


FIELDS: dict[str, Operand] = {}
for _size, _signed in FORMS:
    FIELDS[f"{'s' if _signed else 'u'}{8 * _size}"] = Operand(
        "CONTEXT", 8 * len(FIELDS), _size, _signed
    )
NUMBERS = [*FIELDS, "pid", "tid", "cpu"]
FIELDS["name"] = Operand("CONTEXT", 64, text="INLINE", length=8)
FIELDS["path"] = Operand("CONTEXT", 72, size=4, text="DATA_LOC", length=TEXT_BYTES)
FIELDS["address"] = Operand("CONTEXT", 80)
ROOM = {"name": 7, "path": 63, "str(address)": 63, "comm": 15}


@st.composite
def texts(draw: st.DrawFn, most: int) -> bytes:
    """Often the same ones, or such as differ at their ends."""
    size = draw(st.sampled_from([0, 1, most - 1, most, most + 1, most + 20]))
    text = bytearray(b"abcdefghij" * 10)[:size]
    if text and draw(st.booleans()):
        text[-1] = draw(st.sampled_from(b'xyz"\\\n\xff'))
    return bytes(text)


@st.composite
def events(draw: st.DrawFn) -> Event:
    values: dict[str, Union[int, bytes]] = {}
    record = bytearray(b"\xee" * 88)
    for name, operand in FIELDS.items():
        if name in NUMBERS:
            value = draw(numbers_within(*within(operand.size, operand.signed)))
            content = value.to_bytes(operand.size, "little", signed=operand.signed)
            record[operand.offset : operand.offset + operand.size] = content
            values[name] = value
    name = draw(texts(7))[:7]
    record[64:72] = name.ljust(8, b"\0")
    path, user = draw(texts(63)), draw(texts(63))
    record[72:76] = (len(path) + 1 << 16 | 88).to_bytes(4, "little")
    record[80:88] = USER.to_bytes(8, "little")
    low = st.integers(0, 2**22)
    task = Task(draw(low), draw(low), draw(st.integers(0, 8191)), draw(texts(15))[:15])
    values.update(pid=task.pid, tid=task.tid, cpu=task.cpu, comm=task.comm, name=name)
    values.update({"path": path[:63], "str(address)": user[:63], "address": USER})
    return Event(bytes(record) + path + b"\0", user + b"\0", task, values)


# --- expressions ----------------------------------------------------------------

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Expression(NamedTuple):
    """What a user writes, and what it should come to."""

    text: str
    holds: Callable[[Event], bool]
    tests: int = 1


def written(draw: st.DrawFn, number: int) -> str:
    """In one of the ways of writing a number."""
    sign, size = "-" if number < 0 else "", abs(number)
    forms = [f"{sign}{size}", f"{sign}{size:#x}", f"{sign}{size:#o}", f"{sign}0{size:o}"]
    for suffix, factor in ("K", 1024), ("m", 1024**2), ("G", 1024**3):
        forms += [f"{sign}{size // factor}{suffix}"] * (size % factor == 0)
    return draw(st.sampled_from(forms))


def quoted(text: bytes) -> str:
    letters = (
        {34: '\\"', 92: "\\\\", 10: "\\n"}.get(byte, chr(byte) if byte < 127 else f"\\x{byte:02x}")
        for byte in text
    )
    return f'"{"".join(letters)}"'


class Number(NamedTuple):
    """A field, or its low bytes: what a user writes, and what it is."""

    text: str
    size: int
    value: Callable[[Event], int]


@st.composite
def fields_and_low_bytes(draw: st.DrawFn) -> Number:
    name = draw(st.sampled_from(NUMBERS))
    whole = {**COMMON, **FIELDS}[name].size
    if name in COMMON or draw(st.booleans()):
        return Number(name, whole, lambda event: event.values[name])
    size, signed = draw(st.sampled_from([form for form in FORMS if form[0] <= whole]))
    low, _ = within(size, signed)
    text = draw(st.sampled_from(["{}({})", "{} ( {} )"])).format(
        f"{'s' if signed else 'u'}{8 * size}", name
    )
    return Number(text, size, lambda event: (event.values[name] - low) % 2 ** (8 * size) + low)


@st.composite
def number_sides(draw: st.DrawFn) -> tuple[str, Callable[[Event], int]]:
    name, size, value = draw(fields_and_low_bytes())
    if draw(st.booleans()):
        return name, value
    mask = draw(numbers_within(-(2**63), 2**64 - 1))
    word = written(draw, mask)
    text = draw(st.sampled_from([f"{name} & {word}", f"{word}&{name}", f"({name} & ({word}))"]))
    return text, lambda event: value(event) % 2 ** (8 * size) & mask % 2**64


@st.composite
def leaves(draw: st.DrawFn) -> Expression:
    if draw(st.integers(0, 3)) == 0:
        field = draw(st.sampled_from(list(ROOM)))
        constant = draw(texts(ROOM[field]))[: ROOM[field]]
        relation = draw(st.sampled_from(["==", "!="]))
        sides = [field, quoted(constant)]
        turned = draw(st.booleans())
        return Expression(
            f" {relation} ".join(reversed(sides) if turned else sides),
            lambda event: RELATIONS[relation](event.values[field], constant),
        )
    text, value = draw(number_sides())
    if draw(st.integers(0, 4)) == 0:
        return Expression(text, lambda event: value(event) != 0)
    relation = draw(st.sampled_from(list(RELATIONS)))
    if draw(st.booleans()):
        number = draw(numbers_within(-(2**63), 2**64 - 1))
        other, right = written(draw, number), lambda event: number
    else:
        other, _, right = draw(fields_and_low_bytes())
    if draw(st.booleans()):
        return Expression(
            f"{other}{relation}{text}",
            lambda event: RELATIONS[relation](right(event), value(event)),
        )
    return Expression(
        f"{text} {relation} {other}", lambda event: RELATIONS[relation](value(event), right(event))
    )


def negated(one: Expression) -> Expression:
    return Expression(f"!({one.text})", lambda event: not one.holds(event), one.tests)


def joined(parts: list[Expression], word: str, combine: Callable[[Any], bool]) -> Expression:
    return Expression(
        f" {word} ".join(f"({part.text})" for part in parts),
        lambda event: combine(part.holds(event) for part in parts),
        sum(part.tests for part in parts),
    )


def either_and_both(parts: list[Expression]) -> Expression:
    """``a && b || c && d``, by precedence alone. Parts that are joined have parentheses."""
    words = [part.text if part.tests == 1 else f"({part.text})" for part in parts]
    text = "".join(
        word + (" " if last else (" && " if index % 2 == 0 else " || "))
        for index, word in enumerate(words)
        for last in [index == len(words) - 1]
    )
    return Expression(
        text,
        lambda event: any(
            all(part.holds(event) for part in parts[index : index + 2])
            for index in range(0, len(parts), 2)
        ),
        sum(part.tests for part in parts),
    )


def grown(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(parts, min_size=2, max_size=4)
    return st.one_of(
        parts.map(negated),
        several.map(lambda found: joined(found, "&&", all)),
        several.map(lambda found: joined(found, "||", any)),
        several.map(either_and_both),
    )


EXPRESSIONS = st.recursive(leaves(), grown, max_leaves=20).filter(
    lambda one: one.tests <= filters.MOST_TESTS
)
