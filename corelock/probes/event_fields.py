"""The fields of one event as what is counted and as parts of keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from corelock.errors import InvalidArgument
from corelock.probes.forms import SIZED_FORMS, NoSuchForm, pointed_text, sized
from corelock.probes.nearest import nearest
from corelock.probes.operands import COMMON, Operand
from corelock.probes.places import Field
from corelock.probes.tracepoints import no_field

#: Parts of a key, and their bytes, at most (``CORELOCK_HIST_*``).
MOST_PARTS, KEY_BYTES = 4, 96

_NUMBER_BYTES = 8
_FORM = re.compile(r"(\w+)\((\w+)\)")


class Part(NamedTuple):
    """A part of a key: how it is found, its type in C, where its bytes are.

    The type is "" of what all events have, and of low bytes of a field.
    """

    name: str
    operand: Operand
    type: str = ""
    offset: int = 0

    @property
    def size(self) -> int:
        """Its bytes in a key."""
        return -(-self.operand.length // 8) * 8 if self.operand.is_text else _NUMBER_BYTES


def laid_out(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts one behind the other."""
    ends = itertools.accumulate(part.size for part in parts)
    return tuple(part._replace(offset=end - part.size) for part, end in zip(parts, ends))


class EventFields:
    """The fields of one event, by name, for what is said of them.

    Methods raise an :class:`InvalidArgument` where there is no such field, or it will not do.
    """

    def __init__(self, label: str, fields: Sequence[Field]) -> None:
        self.label = label
        self._fields = {field.name: field for field in fields}

    @property
    def operands(self) -> dict[str, Operand]:
        """Its own, by name."""
        return {name: each.operand for name, each in self._fields.items() if each.operand}

    def number(self, name: str) -> Operand:
        """A field that is a number."""
        operand = self._operand(self._fields, name)
        if operand.is_text:
            raise InvalidArgument(
                f"{name} of {self.label} is a text ({self._fields[name].type}), and a histogram "
                "is of numbers",
                f"Use it as a key, in by: --by {name}.",
            )
        return operand

    def has(self, name: str) -> bool:
        """Whether it is a field of the event's own, not what all events have."""
        return name in self._fields

    @property
    def names(self) -> str:
        """Those, in words."""
        return ", ".join(self._fields)

    def parts(self, names: Sequence[str], what: str) -> tuple[Part, ...]:
        """Fields as parts of a key, and the names that all events have."""
        if len(names) > MOST_PARTS:
            raise InvalidArgument(
                f"{what} has {len(names)} parts: {','.join(names)}", f"{MOST_PARTS} is the most."
            )
        found = [self._part(name) for name in names]
        needed = sum(part.size for part in found)
        if needed > KEY_BYTES:
            sizes = ", ".join(f"{part.name} {part.size}" for part in found)
            raise InvalidArgument(
                f"{what} takes {needed} bytes of {self.label} ({sizes}), and {KEY_BYTES} is the "
                "most",
                "Leave one out.",
            )
        return laid_out(found)

    def _part(self, name: str) -> Part:
        formed = _FORM.fullmatch(name)
        known = {
            **{common: Field(common, "", operand) for common, operand in COMMON.items()},
            **self._fields,
        }
        if not formed:
            operand = self._operand(known, name)
            return Part(name, operand, known[name].type)
        form, field = formed.groups()
        operand = self._operand(known, field)
        if form != "str":
            return Part(name, self._sized(form, field, operand))
        text = pointed_text(operand)
        if text is None:
            raise InvalidArgument(
                f"{field} of {self.label} is no address, as str() needs one",
                f"Use {field} as it is.",
            )
        return Part(name, text, known[field].type)

    def _sized(self, form: str, field: str, operand: Operand) -> Operand:
        try:
            return sized(form, field, operand)
        except NoSuchForm as error:
            raise InvalidArgument(
                f"{form}({field}) of {self.label} makes no sense: {error}",
                f"Write FIELD, str(FIELD), or {SIZED_FORMS}.",
            ) from None

    def _operand(self, known: Mapping[str, Field], name: str) -> Operand:
        if name not in known:
            self._no_field(known, name)
        field = known[name]
        if field.operand is None:
            raise InvalidArgument(
                f"{name} of {self.label} cannot be had: {field.why}",
                f"It is declared as {field.type} {name}. {self._there_are(known)}",
            )
        return field.operand

    def _no_field(self, known: Mapping[str, Field], name: str) -> NoReturn:
        why = no_field(name)
        near = nearest(name, known)
        meant = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InvalidArgument(
            f"{self.label} has no field {name!r}" + (f": {why}" if why else ""),
            meant + self._there_are(known),
        )

    def _there_are(self, known: Mapping[str, Field]) -> str:
        return f"There are: {', '.join(known)}."
