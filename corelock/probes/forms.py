"""Forms of a field: ``str(name)``, the text at an address; ``s32(arg1)``, a number of low bytes."""

from __future__ import annotations

import re
from typing import Optional

from corelock.probes.operands import TEXT_BYTES, Operand

#: How fewer bytes of a field are written, for remedies.
SIZED_FORMS = "s32(FIELD) and the like (s8 to u64)"

_SIZED = re.compile(r"([su])(8|16|32|64)")
_ADDRESS_BYTES = 8


class NoSuchForm(Exception):
    """A field cannot be had so; why is its text."""


def pointed_text(address: Operand) -> Optional[Operand]:
    """The text at the address that an operand is; None: it can be none."""
    if address.is_text or address.size != _ADDRESS_BYTES:
        return None
    if address.source not in ("CONTEXT", "MEMORY", "CONSTANT"):
        return None
    return address._replace(text="OF_USER" if address.of_user else "POINTED", length=TEXT_BYTES)


def is_sized(form: str) -> bool:
    """Whether ``form`` is one of low bytes, as :func:`sized` takes it."""
    return _SIZED.fullmatch(form) is not None


def sized(form: str, name: str, operand: Operand) -> Operand:
    """The number that the low bytes of a field are: of ``s32`` four, with a sign.

    Raises:
        NoSuchForm: it has not as many, or is none that can be had in part.
    """
    found = _SIZED.fullmatch(form)
    if found is None:
        raise NoSuchForm(f"there is no form {form}")
    if operand.is_text:
        raise NoSuchForm(f"{name} is a text")
    if operand.source not in ("CONTEXT", "MEMORY"):
        raise NoSuchForm(f"{name} has no other form")
    size = int(found[2]) // 8
    if size > operand.size:
        raise NoSuchForm(f"{name} has {8 * operand.size} bits only")
    # Of what both architectures have in memory and registers, low bytes come first.
    return operand._replace(size=size, signed=found[1] == "s")
