"""Filters of events: ``length > 4K && comm == "qemu"``, as tests that a program goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, NoReturn, Union

from corelock.probes import filter_syntax as syntax
from corelock.probes.filter_words import fail
from corelock.probes.forms import NoSuchForm, pointed_text, sized
from corelock.probes.nearest import nearest
from corelock.probes.operands import COMMON, TEXT_BYTES, Operand

#: Of one filter, at most (``CORELOCK_TESTS``).
MOST_TESTS = 32

#: What stands for no further test (``CORELOCK_ACCEPT``, ``CORELOCK_REJECT``).
ACCEPT, REJECT = 254, 255

#: The mask that leaves a number as it is.
ALL_BITS = 2**64 - 1

Comparison = Literal["EQ", "NE", "LT", "LE", "GT", "GE"]

_COMPARISONS: dict[syntax.Relation, Comparison] = {
    "==": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE",
}  # fmt: skip
_TURNED: dict[syntax.Relation, syntax.Relation] = {
    "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=",
}  # fmt: skip


class Test(NamedTuple):
    """One comparison. Members are as of ``struct corelock_test`` in ``src/abi``, with operands
    in place of their indices.

    ``on_true`` and ``on_false`` are the tests that follow, by their place in the filter, always
    further on; or ACCEPT or REJECT.
    """

    left: Operand
    comparison: Comparison
    right: Operand
    on_true: int
    on_false: int
    mask: int = ALL_BITS


def compile_filter(text: str, fields: Mapping[str, Operand], label: str = "") -> tuple[Test, ...]:
    """The tests of a filter; the first is where a program begins.

    ``fields`` are the event's own, ``label`` what it is called in messages. The names that every
    event has (``operands.COMMON``) are known besides, and give way to the event's own.

    Raises:
        InvalidArgument: the filter has no sense, or no such field, or too many tests. The
            message has the filter in it, and a mark below the place.
    """
    tree = syntax.parse(text)
    leaves = list(_leaves(tree))
    if len(leaves) > MOST_TESTS:
        problem = f"it has {len(leaves)} comparisons, and {MOST_TESTS} is the most"
        fail(text, leaves[MOST_TESTS].position, problem, "Leave some out, or trace in two runs.")
    common = {name: operand for name, operand in COMMON.items() if name not in fields}
    compiler = _Compiler(text, {**fields, **common}, label)
    compiler.add(tree, ACCEPT, REJECT)
    return tuple(compiler.tests)


def _leaves(node: syntax.Logical) -> list[Union[syntax.Comparison, syntax.Truth]]:
    if isinstance(node, syntax.Not):
        return _leaves(node.of)
    if isinstance(node, syntax.Joined):
        return [leaf for part in node.parts for leaf in _leaves(part)]
    return [node]


class _Side(NamedTuple):
    """One side of a comparison, as it is in the program."""

    operand: Operand
    is_constant: bool = False
    mask: int = ALL_BITS


class _Compiler:
    """Adds the tests of a tree to ``tests``, in the order in which they stand in the text."""

    def __init__(self, text: str, fields: Mapping[str, Operand], label: str) -> None:
        self._text = text
        self._fields = fields
        self._label = label
        self.tests: list[Test] = []

    def add(self, node: syntax.Logical, on_true: int, on_false: int) -> None:
        """The tests of a condition that lead to one of two places, known before they are made."""
        if isinstance(node, syntax.Not):
            self.add(node.of, on_false, on_true)
        elif isinstance(node, syntax.Joined):
            for part in node.parts[:-1]:
                after = len(self.tests) + len(_leaves(part))
                if node.by == "&&":
                    self.add(part, after, on_false)
                else:
                    self.add(part, on_true, after)
            self.add(node.parts[-1], on_true, on_false)
        elif isinstance(node, syntax.Truth):
            left = self._truth(node)
            zero = Operand("CONSTANT")
            self.tests.append(Test(left.operand, "NE", zero, on_true, on_false, left.mask))
        else:
            left, relation, right = self._comparison(node)
            comparison = _COMPARISONS[relation]
            self.tests.append(
                Test(left.operand, comparison, right.operand, on_true, on_false, left.mask)
            )

    def _truth(self, node: syntax.Truth) -> _Side:
        side = self._side(node.value)
        if side.is_constant:
            self._fail(node.position, "a constant by itself is always the same")
        if side.operand.is_text:
            self._fail(
                node.position, "a text is neither true nor false", 'Compare it: comm == "qemu".'
            )
        return side

    def _comparison(self, node: syntax.Comparison) -> tuple[_Side, syntax.Relation, _Side]:
        """Its sides, a constant or what has no mask on the right."""
        left, relation, right = self._side(node.left), node.relation, self._side(node.right)
        if left.is_constant and right.is_constant:
            self._fail(node.position, "this compares two constants")
        if left.operand.is_text != right.operand.is_text:
            self._fail(
                node.position,
                "this compares a text with a number",
                "Texts are in quotes; str(FIELD) is the text at an address.",
            )
        if left.is_constant or right.mask != ALL_BITS:
            left, relation, right = right, _TURNED[relation], left
        if right.mask != ALL_BITS:
            self._fail(node.position, "one side of a comparison has a mask, not both")
        if left.operand.is_text:
            self._check_texts(node, left.operand, right)
        return left, relation, right

    def _check_texts(self, node: syntax.Comparison, text: Operand, constant: _Side) -> None:
        if node.relation not in ("==", "!="):
            self._fail(
                node.position,
                f"texts have no order, {node.relation} is for numbers",
                "Texts are compared by == and !=.",
            )
        if not constant.is_constant:
            self._fail(
                node.position,
                "two texts of an event are not compared",
                "Compare a text with a string.",
            )
        most, size = text.length - 1, len(constant.operand.words)
        if size > most:
            at = (node.left if isinstance(node.left, syntax.Text) else node.right).position
            self._fail(
                at,
                f"this string has {size} bytes, and the text it is compared with never has more "
                f"than {most}",
                f"Texts are cut after {most} bytes here: cut it likewise.",
            )

    def _side(self, value: syntax.Value) -> _Side:
        if isinstance(value, syntax.Number):
            return _Side(
                Operand("CONSTANT", constant=value.value, signed=value.value < 0), is_constant=True
            )
        if isinstance(value, syntax.Text):
            text = Operand(
                "CONSTANT", text="CONSTANT", words=value.value, length=len(value.value) + 1
            )
            return _Side(text, is_constant=True)
        if isinstance(value, syntax.Masked):
            field = self._formed(value.field)
            if field.is_text:
                self._fail(value.position, "a text has no bits to take", "& is for numbers.")
            # Of the field's own bytes, so that no bits are there that only its sign has.
            return _Side(field._replace(signed=False), mask=value.mask.value & ALL_BITS)
        return _Side(self._formed(value))

    def _field(self, name: syntax.Name) -> Operand:
        if name.name not in self._fields:
            near = nearest(name.name, self._fields)
            meant = f"Did you mean {' or '.join(near)}? " if near else ""
            self._fail(
                name.position,
                f"there is no field {name.name[:TEXT_BYTES]}",
                f"{meant}There are: {', '.join(self._fields)}. Strings are in quotes.",
            )
        return self._fields[name.name]

    def _formed(self, name: syntax.Name) -> Operand:
        field = self._field(name)
        if not name.form:
            return field
        if name.form != "str":
            try:
                return sized(name.form, name.name, field)
            except NoSuchForm as error:
                remedy = "s8, u8 and so on up to s64, u64 are the lowest bits of a number."
                self._fail(name.position, str(error), remedy)
        text = pointed_text(field)
        if text is None:
            self._fail(
                name.position,
                f"{name.name} is no address, as str() needs one",
                "A text of the event is compared as it is; pid, tid and cpu lead nowhere.",
            )
        return text

    def _fail(self, position: int, problem: str, remedy: str = "") -> NoReturn:
        fail(self._text, position, problem, remedy, self._label)
