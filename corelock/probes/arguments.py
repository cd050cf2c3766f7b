"""The arguments of functions, by the rules of calling them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from corelock.probes.operands import Operand
from corelock.probes.places import Field

#: What nothing says the type of: all of a register.
UNTYPED = "register"

_WORD = 8
_X86 = ("di", "si", "dx", "cx", "r8", "r9")
_ARM64_REGISTERS = 8


class Argument(Protocol):
    """What is known of an argument."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def signed(self) -> bool: ...
    @property
    def is_pointer(self) -> bool: ...


@lru_cache(maxsize=4)
def register_offsets(machine: str = "") -> tuple[int, ...]:
    """Where in struct pt_regs a function's first arguments are at its entry."""
    machine = machine or os.uname().machine
    if machine == "aarch64":
        return tuple(_WORD * number for number in range(_ARM64_REGISTERS))
    if machine == "x86_64":
        from corelock.probes.usdt_x86 import OFFSETS

        return tuple(OFFSETS[name] for name in _X86)
    return ()


def untyped(offsets: Sequence[int], of_user: bool = False) -> tuple[Field, ...]:
    """``arg1`` and so on: what is at these offsets, whatever it is."""
    return tuple(
        Field(f"arg{number}", UNTYPED, Operand("CONTEXT", offset, of_user=of_user))
        for number, offset in enumerate(offsets, 1)
    )


def array_offsets(count: int) -> list[int]:
    """Where arguments are that come in an array."""
    return [_WORD * number for number in range(count)]


def typed(arguments: Sequence[Argument], offsets: Sequence[int]) -> tuple[Field, ...]:
    """The arguments by their names, and as ``arg1`` and so on."""
    return (*_named(arguments, offsets), *untyped(offsets[: len(arguments)]))


def _named(arguments: Sequence[Argument], offsets: Sequence[int]) -> Iterator[Field]:
    for argument, offset in zip(arguments, offsets):
        if argument.name:
            type_ = f"{'s' if argument.signed else 'u'}{8 * argument.size}"
            operand = Operand("CONTEXT", offset, argument.size, argument.signed)
            yield Field(argument.name, "void *" if argument.is_pointer else type_, operand)
