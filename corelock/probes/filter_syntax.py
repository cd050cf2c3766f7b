"""The grammar of filters, text to tree. What names stand for is not known here (``filters``)."""

from __future__ import annotations

from typing import Literal, NamedTuple, NoReturn, Union, get_args

from corelock.probes.filter_words import Word, bytes_of, fail, number_of, words
from corelock.probes.forms import SIZED_FORMS, is_sized

Relation = Literal["==", "!=", "<", "<=", ">", ">="]


class Name(NamedTuple):
    """A field, or a ``form`` of it: "str", the text at the address that it is, or one of
    ``forms.sized``.
    """

    position: int
    name: str
    form: str = ""


class Number(NamedTuple):
    """A constant, from -2**63 up to 2**64 - 1."""

    position: int
    value: int


class Text(NamedTuple):
    """A constant, as the bytes that it is in memory, without its end."""

    position: int
    value: bytes


class Masked(NamedTuple):
    """Some bits of a field."""

    position: int
    field: Name
    mask: Number


class Comparison(NamedTuple):
    """``position`` is that of the relation."""

    position: int
    relation: Relation
    left: Value
    right: Value


class Truth(NamedTuple):
    """That a value is not 0."""

    position: int
    value: Value


class Not(NamedTuple):
    """The opposite."""

    position: int
    of: Logical


class Joined(NamedTuple):
    """Two and more conditions, of which all must hold (``&&``), or any (``||``)."""

    position: int
    by: Literal["&&", "||"]
    parts: tuple[Logical, ...]


Value = Union[Name, Number, Text, Masked]
Logical = Union[Comparison, Truth, Not, Joined]
Node = Union[Value, Logical]

#: Parentheses and negations within each other: more than a person can read, less than Python's
#: stack has room for.
MOST_LEVELS = 32

_VALUES = (Name, Number, Text, Masked)
_RELATIONS: dict[str, Relation] = {relation: relation for relation in get_args(Relation)}


def parse(text: str) -> Logical:
    """The tree of a filter.

    Raises:
        InvalidArgument: it is none; the message marks where it stops being one.
    """
    return _Parser(text).filter()


class _Parser:
    """By recursive descent; each method reads what it is called, from the next token on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = words(text)
        self._next = next(self._words)
        self._levels = 0

    def filter(self) -> Logical:
        if self._next.kind == "end":
            self._fail("it is empty")
        tree = self._logical(self._any())
        if self._next.kind != "end":
            self._refuse_rest()
        return tree

    def _any(self) -> Node:
        return self._joined(self._all(), "||")

    def _all(self) -> Node:
        return self._joined(self._condition(), "&&")

    def _joined(self, first: Node, by: Literal["&&", "||"]) -> Node:
        position = self._next.position
        parts = [first]
        while self._accept(by):
            parts.append(self._all() if by == "||" else self._condition())
        if len(parts) == 1:
            return first
        return Joined(position, by, tuple(self._logical(part) for part in parts))

    def _condition(self) -> Node:
        if self._next.word != "!":
            return self._comparison()
        position = self._take().position
        self._enter(position)
        negated = self._condition() if self._next.word == "!" else self._operand()
        self._levels -= 1
        if self._next.word in _RELATIONS or self._next.word == "&":
            self._fail(
                f"does the ! before include this {self._next.word}?",
                "Write !(a == b), or (!a) by itself.",
            )
        return Not(position, self._logical(negated))

    def _comparison(self) -> Node:
        left = self._bits()
        if self._next.word not in _RELATIONS:
            return left
        position, _, word = self._take()
        right = self._bits()
        if self._next.word in _RELATIONS:
            self._fail("comparisons do not chain", "Join them: a < b && b < c.")
        if isinstance(left, _VALUES) and isinstance(right, _VALUES):
            return Comparison(position, _RELATIONS[word], left, right)
        self._fail(f"{word} compares fields and constants, not conditions", at=position)

    def _bits(self) -> Node:
        value = self._operand()
        if self._next.word != "&":
            return value
        position = self._take().position
        mask = self._operand()
        if isinstance(value, Number):
            value, mask = mask, value
        if not (isinstance(value, Name) and value.form != "str" and isinstance(mask, Number)):
            self._fail(
                "& takes a field and a number",
                "Conditions are joined by &&, and a comparison needs no parentheses: "
                "flags & 6 == 2 is (flags & 6) == 2.",
                at=position,
            )
        if self._next.word == "&":
            self._fail("one & is enough", "Put the bits together in one number.")
        return Masked(position, value, mask)

    def _operand(self) -> Node:
        position, kind, word = self._next
        if word == "(":
            return self._parenthesized()
        if kind not in ("number", "string", "name") and word != "-":
            self._expect("a field, a number or a string")
        taken = self._take()
        if kind == "number":
            return Number(position, number_of(self._text, taken))
        if kind == "string":
            return Text(position, bytes_of(self._text, taken))
        if kind == "name":
            return self._call(taken) if self._next.word == "(" else Name(position, word)
        if self._next.kind != "number":
            self._expect("a number after -")
        return Number(position, number_of(self._text, self._take(), -1))

    def _parenthesized(self) -> Node:
        position = self._take().position
        self._enter(position)
        inside = self._any()
        if not self._accept(")"):
            self._expect(f"the ) of the ( at column {position + 1}")
        self._levels -= 1
        return inside

    def _call(self, function: Word) -> Name:
        if function.word != "str" and not is_sized(function.word):
            remedy = f"There are str(FIELD), and {SIZED_FORMS}."
            self._fail(f"there is no function {function.word}", remedy, at=function.position)
        self._take()
        field = self._next
        if field.kind != "name":
            self._expect("a field")
        self._take()
        if not self._accept(")"):
            self._expect(f"the ) of {function.word}(")
        return Name(field.position, field.word, function.word)

    # --- words ---

    def _take(self) -> Word:
        taken = self._next
        self._next = next(self._words)
        return taken

    def _accept(self, word: str) -> bool:
        is_next = self._next.kind == "symbol" and self._next.word == word
        if is_next:
            self._take()
        return is_next

    def _enter(self, position: int) -> None:
        self._levels += 1
        if self._levels > MOST_LEVELS:
            self._fail(f"it is nested deeper than {MOST_LEVELS} levels", at=position)

    def _logical(self, node: Node) -> Logical:
        return Truth(node.position, node) if isinstance(node, _VALUES) else node

    # --- refusals ---

    def _fail(self, problem: str, remedy: str = "", at: int = -1) -> NoReturn:
        fail(self._text, self._next.position if at < 0 else at, problem, remedy)

    def _expect(self, what: str) -> NoReturn:
        found = "it ends here" if self._next.kind == "end" else f"this is {self._next.word[:40]}"
        self._fail(f"expected {what}, but {found}")

    def _refuse_rest(self) -> NoReturn:
        word = self._next.word
        if word == ")":
            self._fail("nothing opens this )")
        if word in ("and", "or"):
            by = "&&" if word == "and" else "||"
            self._fail(f"{word} does not join conditions", f"Write {by}.")
        self._expect("&& or ||")
