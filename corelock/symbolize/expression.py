"""DWARF expressions, as far as call frame information uses them (DWARF 5, 2.5 and 6.4.2)."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Callable

#: Values are of the size of an address.
MASK = (1 << 64) - 1


class Unavailable(Exception):
    """A value that cannot be computed; the message says why, in a few words."""


def evaluate(
    expression: Sequence[int],
    registers: Mapping[int, int],
    read: Callable[[int], int],
    *initial: int,
) -> int:
    """The value of an expression; ``initial`` is on its stack when it begins.

    ``registers`` go by DWARF number; ``read(address)`` gives 8 bytes of memory.

    Raises:
        Unavailable: it needs something that is not known, or makes no sense.
    """
    stack = list(initial)
    try:
        for operation in _parser().parse_expr(bytes(expression)):
            _apply(operation.op_name[len("DW_OP_") :], operation.args, stack, registers, read)
        return stack[-1]
    except Unavailable:
        raise
    except Exception as error:
        # Corrupt bytes: an empty stack, no such operation...
        raise Unavailable("unknown call frame expression") from error


def register(registers: Mapping[int, int], number: int) -> int:
    """The value of a register.

    Raises:
        Unavailable: it is not known.
    """
    try:
        return registers[number]
    except KeyError:
        raise Unavailable(f"register {number} is not known") from None


def _apply(
    name: str,
    arguments: Sequence[int],
    stack: list[int],
    registers: Mapping[int, int],
    read: Callable[[int], int],
) -> None:
    if name in _BINARY:
        top, second = stack.pop(), stack.pop()
        value = int(_BINARY[name](second, top))
    elif name in _UNARY:
        value = _UNARY[name](stack.pop())
    elif name == "drop":
        stack.pop()
        return
    elif name == "swap":
        stack[-1], stack[-2] = stack[-2], stack[-1]
        return
    elif name == "nop":
        return
    elif name.startswith("breg"):
        number, offset = arguments if name == "bregx" else (int(name[4:]), arguments[0])
        value = register(registers, number) + offset
    elif name.startswith("lit"):
        value = int(name[3:])
    elif name.startswith("const"):
        value = arguments[0]
    elif name == "plus_uconst":
        value = stack.pop() + arguments[0]
    elif name == "deref":
        value = read(stack.pop())
    elif name == "dup":
        value = stack[-1]
    elif name == "over":
        value = stack[-2]
    else:
        raise Unavailable(f"unknown call frame expression (DW_OP_{name})")
    stack.append(value & MASK)


def _signed(value: int) -> int:
    return value - (value >> 63 << 64)


def _compare(function: Callable[[int, int], bool]) -> Callable[[int, int], bool]:
    # DWARF 5, 2.5.1.5: addresses are compared as signed integers.
    return lambda left, right: function(_signed(left), _signed(right))


# A shift by more bits than there are leaves none, and would fill our memory.
_BINARY: dict[str, Callable[[int, int], int]] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "plus": operator.add,
    "minus": operator.sub,
    "mul": operator.mul,
    "shl": lambda value, bits: value << min(bits, 64),
    "shr": operator.rshift,
    "shra": lambda value, bits: _signed(value) >> bits,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": _compare(operator.ge),
    "gt": _compare(operator.gt),
    "le": _compare(operator.le),
    "lt": _compare(operator.lt),
}
_UNARY: dict[str, Callable[[int], int]] = {
    "neg": operator.neg,
    "not": operator.invert,
    "abs": lambda value: abs(_signed(value)),
}


@lru_cache(maxsize=1)
def _parser() -> Any:
    from elftools.dwarf.dwarf_expr import DWARFExprParser
    from elftools.dwarf.structs import DWARFStructs

    return DWARFExprParser(DWARFStructs(little_endian=True, dwarf_format=32, address_size=8))
