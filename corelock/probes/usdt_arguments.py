"""The arguments of static probes, as assemblers print them, to operands.

``-4@%edi 8@16(%rsp)``: of each its size in bytes, negative if it is signed, and where it is.
"""

from __future__ import annotations

import re
from typing import Callable, NamedTuple, Optional

from corelock.probes.operands import Operand
from corelock.probes.places import Field

SIZES = (1, 2, 4, 8)
_WORD = 8
#: The note's: size, sign, whether it is a floating-point number, and where it is.
_ARGUMENT = re.compile(r"(?:(-?)(\d+)(f?)@)?(.+)", re.DOTALL)
# A blank between arguments, not one in brackets.
_BETWEEN = re.compile(r"\s+(?![^\[]*\])")
_TERM = re.compile(r"\s*([+-]?)\s*(?:(0[xX][0-9a-fA-F]+|\d+)|([A-Za-z_.$][\w.$]*))\s*")


class NotFound(Exception):
    """No program can find it; the argument says why."""


class Site(NamedTuple):
    """Where a static probe is: the address of its code as linked, and what is known of the file.

    ``fixed``: it is loaded to where it is linked. ``address_of`` knows symbols; it raises
    NotFound.
    """

    machine: str
    address: int
    fixed: bool
    address_of: Callable[[str], int]


class Value(NamedTuple):
    """Size in bytes and sign of an argument."""

    size: int
    signed: bool

    def constant(self, number: int) -> Operand:
        """A number that is known, cut to size."""
        number &= (1 << 8 * self.size) - 1
        if self.signed and number >> 8 * self.size - 1:
            number -= 1 << 8 * self.size
        return Operand("CONSTANT", size=self.size, signed=self.signed, constant=number)

    def register(self, offset: int) -> Operand:
        """The low bytes of a register.

        The note's size counts, not the name's: compilers may print a longer or shorter name of
        the same register.
        """
        return Operand("CONTEXT", offset, self.size, self.signed)


def parse_arguments(text: str, site: Site) -> tuple[Field, ...]:
    """The arguments of one probe, ``arg1`` and so on.

    Operands' offsets are in the kernel's struct pt_regs of the file's machine.
    """
    parts = [part for part in _BETWEEN.split(text.strip()) if part]
    return tuple(_field(f"arg{n}", part, site) for n, part in enumerate(parts, 1))


def _field(name: str, text: str, site: Site) -> Field:
    found = _ARGUMENT.fullmatch(text)
    if found is None:  # pragma: no cover - every text that is not empty matches
        raise AssertionError(text)
    minus, digits, floating, place = found.groups()
    size = int(digits) if digits and len(digits) < 6 else 0 if digits else _WORD
    value = Value(size, bool(minus))
    try:
        if floating:
            raise NotFound("floating-point numbers are not read")
        if size not in SIZES:
            raise NotFound(f"it has {digits} bytes")
        return Field(name, _type(value), _find(place, value, site)._replace(of_user=True))
    except NotFound as error:
        type_ = {4: "float", 8: "double"}.get(size, "float") if floating else _type(value)
        return Field(name, type_, None, f"{error} ({text})")


def _type(value: Value) -> str:
    if value.size not in SIZES:
        return f"char[{value.size}]"
    return f"{'' if value.signed else 'u'}int{8 * value.size}_t"


def _find(place: str, value: Value, site: Site) -> Operand:
    # Each of these imports what is above.
    from corelock.probes import usdt_arm64, usdt_x86

    if site.machine == "EM_X86_64":
        return usdt_x86.find(place, value, site)
    if site.machine == "EM_AARCH64":
        return usdt_arm64.find(place, value, site)
    raise NotFound(f"arguments of {site.machine} are not known")


def sum_of(text: str) -> tuple[int, Optional[str]]:
    """The number and the symbol of ``8``, ``-8``, ``name``, ``name+8``, ``8+name``, or nothing.

    Raises:
        NotFound: it is another expression.
    """
    number, symbol, at = 0, None, 0
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or (at and not term[1]):
            raise NotFound("its form is not known")
        sign, digits, name = term.groups()
        if digits:
            number += _number(digits) * (-1 if sign == "-" else 1)
        elif symbol is None and sign != "-":
            symbol = name
        else:
            raise NotFound("its form is not known")
        at = term.end()
    return number, symbol


def _number(digits: str) -> int:
    try:
        return int(digits, 0) & (1 << 64) - 1
    except ValueError:  # 010
        raise NotFound("its form is not known") from None
