"""Where arguments of static probes are on x86-64, in AT&T's syntax."""

from __future__ import annotations

import re
from typing import Optional

from corelock.probes.operands import NO_REGISTER, Index, Operand
from corelock.probes.usdt_arguments import NotFound, Site, Value, sum_of

# struct pt_regs of x86-64: eight bytes each, in this order.
_ORDER = (
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
    "orig_ax", "ip", "cs", "flags", "sp", "ss",
)  # fmt: skip
OFFSETS = {name: 8 * place for place, name in enumerate(_ORDER)}
_IP = OFFSETS["ip"]

_MEMORY = re.compile(
    r"(?P<sum>[^()%]*)"
    r"(?:\(\s*(?P<base>%\w+)?\s*(?:,\s*(?P<index>%\w+)\s*(?:,\s*(?P<scale>[1248])\s*)?)?\))?"
)
_FLOATING = re.compile(r"%(?:[xyz]?mm|st|k)\d*(?:\(\d\))?")


def _registers() -> tuple[dict[str, int], dict[str, int]]:
    """Offsets of registers by all of their names, and by those with 64 bits alone."""
    whole = {f"r{name}": OFFSETS[name] for name in ("ax", "bx", "cx", "dx", "si", "di", "bp")}
    whole.update(rsp=OFFSETS["sp"], rip=_IP)
    parts = {}
    for name, offset in whole.items():
        parts.update({f"e{name[1:]}": offset, name[1:]: offset, f"{name[1:]}l": offset})
    for letter in "abcd":
        offset = whole[f"r{letter}x"]
        parts.update({f"{letter}l": offset, f"{letter}h": offset + 1})
    for number in range(8, 16):
        name = f"r{number}"
        whole[name] = OFFSETS[name]
        parts.update({name + end: OFFSETS[name] for end in "dwbl"})
    return {**parts, **whole}, whole


_ALL, _WHOLE = _registers()


def find(place: str, value: Value, site: Site) -> Operand:
    """``%edi``, ``$-1``, ``-8(%rbp)``, ``(%rax,%rdx,8)``, ``name+4(%rip)``...

    Raises:
        NotFound: it is somewhere else.
    """
    if place.startswith("$"):
        return _constant(place[1:], value, site)
    if _FLOATING.fullmatch(place):
        raise NotFound("registers for floating-point numbers and vectors are not read")
    if re.match(r"\*?%\w+:", place):
        raise NotFound("it is in thread-local storage")
    if place.startswith("%"):
        offset = _ALL.get(place[1:])
        if offset is None:
            raise NotFound("its form is not known")
        if place[1:] in ("ah", "bh", "ch", "dh") and value.size != 1:
            raise NotFound("it does not fit into that register")
        return value.register(offset)
    found = _MEMORY.fullmatch(place)
    if found is None or not place:
        raise NotFound("its form is not known")
    return _memory(found, value, site)


def _constant(text: str, value: Value, site: Site) -> Operand:
    number, symbol = sum_of(text)
    if symbol is not None:
        if not site.fixed:
            raise NotFound("an address that is only known when the file is loaded")
        number += site.address_of(symbol)
    return value.constant(number)


def _memory(found: re.Match[str], value: Value, site: Site) -> Operand:
    number, symbol = sum_of(found["sum"])
    base = NO_REGISTER if found["base"] is None else _whole(found["base"])
    added: Optional[Index] = None
    if found["index"]:
        shift = (1, 2, 4, 8).index(int(found["scale"] or 1))
        added = Index(_whole(found["index"]), shift=shift)
    if base == _IP:
        # As printed it would be relative to the end of an instruction; there is none.
        if symbol is None or added is not None:
            raise NotFound("it is relative to an instruction that there is none of")
        number += site.address_of(symbol) - site.address
    elif symbol is not None:
        if not site.fixed:
            raise NotFound("an address that is only known when the file is loaded")
        number += site.address_of(symbol)
    return Operand("MEMORY", base, value.size, value.signed, number, added)


def _whole(name: str) -> int:
    offset = _WHOLE.get(name[1:])
    if offset is None:
        raise NotFound("its form is not known")
    return offset
