"""The words of filters: fields' names, numbers, strings and symbols, each with its position."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from corelock.errors import InvalidArgument

_SUFFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", '"': b'"', "'": b"'"}
_MOST_DIGITS = 40
_SHOWN_COLUMNS = 72

_WORD = re.compile(
    r"""(?P<space>\s+)
    | (?P<number>[0-9]\w*)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<string>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<symbol>&& | \|\| | [=!<>]= | [<>!&()-])
    | (?P<end>\Z)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_NUMBER = re.compile(
    r"""0x(?P<hex>[0-9a-f]+) | 0o?(?P<octal>[0-7]+)
    | (?P<decimal>0|[1-9][0-9]*)(?P<suffix>[KMG]?)""",
    re.VERBOSE | re.IGNORECASE,
)
_LETTER = re.compile(r"\\x(?P<code>[0-9A-Fa-f]{2})|\\(?P<escaped>.)|(?P<itself>.)", re.DOTALL)


class Word(NamedTuple):
    """``kind`` is "number", "name", "string", "symbol", or "end": there is no further one."""

    position: int
    kind: str
    word: str


def fail(text: str, position: int, problem: str, remedy: str = "", label: str = "") -> NoReturn:
    """Refuse a filter, marking the place in it; ``label``: of what it makes no sense.

    Raises:
        InvalidArgument: always.
    """
    line = _printable(text)
    first = max(0, min(position - _SHOWN_COLUMNS // 2, len(line) - _SHOWN_COLUMNS))
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line[first:position])
    of = f" for {_printable(label)}" if label else ""
    raise InvalidArgument(
        f"cannot use the filter{of}: {_printable(problem)}\n"
        f"    {line[first : first + _SHOWN_COLUMNS].rstrip()}\n"
        f"    {' ' * (position - first + wide)}^",
        remedy or 'Filters look like this: length > 4K && (flags & 0x10 || comm != "qemu").',
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def words(text: str) -> Iterator[Word]:
    """All words, one by one; the last is of the kind "end".

    Raises:
        InvalidArgument: what comes next is no word.
    """
    position = 0
    while True:
        found = _WORD.match(text, position)
        if found is None:
            _refuse(text, position)
        kind = str(found.lastgroup)
        if kind != "space":
            yield Word(position, kind, found.group())
        if kind == "end":
            return
        position = found.end()


def number_of(text: str, word: Word, sign: int = 1) -> int:
    """What a number is worth.

    Raises:
        InvalidArgument: it is none, or no field could be as large.
    """
    found = _NUMBER.fullmatch(word.word)
    if found is None:
        remedy = "Numbers are like 4096, 4K, 0x1000 or 0o10000; texts are in quotes."
        fail(text, word.position, f"{word.word[:_MOST_DIGITS]} is no number", remedy)
    value = 2**64
    if len(word.word) <= _MOST_DIGITS:
        value = int(found["hex"] or "0", 16) + int(found["octal"] or "0", 8)
        value += int(found["decimal"] or "0") * _SUFFIXES[(found["suffix"] or "").upper()]
    value *= sign
    if not -(2**63) <= value < 2**64:
        remedy = "Numbers are from -2**63 to 2**64 - 1."
        fail(text, word.position, "no field is as large as this number", remedy)
    return value


def bytes_of(text: str, word: Word) -> bytes:
    """What a string is in memory, without its end.

    Raises:
        InvalidArgument: it has something in it that stands for nothing.
    """
    value = bytearray()
    for letter in _LETTER.finditer(word.word, 1, len(word.word) - 1):
        position = word.position + letter.start()
        if letter["code"]:
            value += bytes.fromhex(letter["code"])
        elif letter["itself"]:
            value += _encoded(text, position, letter["itself"])
        elif letter["escaped"] in _ESCAPES:
            value += _ESCAPES[letter["escaped"]]
        else:
            known = " ".join(f"\\{letter}" for letter in _ESCAPES)
            fail(text, position, "this stands for nothing", f"Known: {known} \\xHH.")
        if value[-1] == 0:
            fail(text, position, "a text has no zero byte in it, it ends there")
    return bytes(value)


def _encoded(text: str, position: int, letter: str) -> bytes:
    try:
        # What the command line could not decode comes back as what it was.
        return letter.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        fail(text, position, "no text has this in it")


def _refuse(text: str, position: int) -> NoReturn:
    letter = text[position]
    if letter in "\"'":
        fail(text, position, "this string has no end", f"Close it by a second {letter}")
    if letter == "=":
        fail(text, position, "one = compares nothing", "Write ==.")
    if letter == "|":
        fail(text, position, "one | joins nothing", "Write ||.")
    if letter == "~":
        fail(text, position, "there are no patterns here", "Texts are compared by == and !=.")
    fail(text, position, f"{letter!r} means nothing here")
