"""Which values of an event are wanted, and how: ``len``, ``str(name)``, ``hex(flags)``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Optional

from corelock.errors import InvalidArgument
from corelock.probes.arguments import UNTYPED
from corelock.probes.forms import SIZED_FORMS, NoSuchForm, pointed_text, sized
from corelock.probes.nearest import nearest
from corelock.probes.operands import COMMON, Operand
from corelock.probes.places import Field
from corelock.probes.tracepoints import no_field

_WANTED = re.compile(r"(?:(\w+)\(\s*(\w+)\s*\)|(\w+))")
_FORMS = f"Write FIELD, str(FIELD), hex(FIELD), or {SIZED_FORMS}."


class Value(NamedTuple):
    """One that is wanted, by the name it is shown with; ``is_hex``: numbers as addresses."""

    name: str
    operand: Operand
    is_hex: bool = False


class NotThere(Exception):
    """An event has no such field; others may."""


def all_values(fields: Sequence[Field]) -> tuple[Value, ...]:
    """Those that can be shown; of registers none, as what they hold may have no meaning."""
    return tuple(
        Value(field.name, field.operand, field.type.endswith("*"))
        for field in fields
        if field.operand is not None and field.type != UNTYPED
    )


def find_value(text: str, fields: Sequence[Field]) -> Value:
    """The value that is meant by ``text``.

    Raises:
        NotThere: there is no such field.
        InvalidArgument: it cannot be had, or ``text`` makes no sense.
    """
    found = _WANTED.fullmatch(text.strip())
    if found is None:
        raise InvalidArgument(f"not a field: {text!r}", _FORMS)
    form, inner, name = found.groups()
    field = _field(inner or name, fields)
    assert field.operand is not None
    if not form:
        return Value(field.name, field.operand, field.type.endswith("*"))
    return _formed(text.strip(), form, field, field.operand)


def _field(name: str, fields: Sequence[Field]) -> Field:
    for field in fields:
        if field.name == name:
            if field.operand is None:
                _hidden(name, field.why)
            return field
    if name in COMMON:
        return Field(name, "", COMMON[name])
    why = no_field(name)
    if why:
        _hidden(name, why)
    raise NotThere(name)


def _hidden(name: str, why: str) -> NoReturn:
    raise InvalidArgument(f"the field {name} cannot be shown: {why}", "Leave it out.")


def _formed(text: str, form: str, field: Field, operand: Operand) -> Value:
    if form == "str":
        pointed = pointed_text(operand)
        if pointed is None:
            _refuse(text, f"{field.name} is no address" + " but a text itself" * operand.is_text)
        return Value(text, pointed)
    if form == "hex":
        if operand.is_text:
            _refuse(text, f"{field.name} is a text")
        return Value(text, operand._replace(signed=False), True)
    try:
        return Value(text, sized(form, field.name, operand))
    except NoSuchForm as error:
        _refuse(text, str(error))


def _refuse(text: str, why: str) -> NoReturn:
    raise InvalidArgument(f"{text} makes no sense: {why}", _FORMS)


def choose(
    wanted: Optional[Sequence[str]], fields_of: Sequence[Sequence[Field]]
) -> list[tuple[Value, ...]]:
    """What is shown of each of several places, by the fields that each has.

    Of those wanted, each shows what it has; one that nobody has is an error.

    Raises:
        InvalidArgument: as of :func:`find_value`, or nobody has one of them.
    """
    if wanted is None:
        return [all_values(fields) for fields in fields_of]
    chosen: list[list[Value]] = [[] for _ in fields_of]
    for text in wanted:
        found, missing = False, ""
        for values, fields in zip(chosen, fields_of):
            try:
                values.append(find_value(text, fields))
                found = True
            except NotThere as error:
                missing = str(error)
        if not found:
            _unknown(missing, fields_of)
    return [tuple(values) for values in chosen]


def _unknown(name: str, fields_of: Sequence[Sequence[Field]]) -> NoReturn:
    names = list(dict.fromkeys(each.name for fields in fields_of for each in fields))
    near = nearest(name, names)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    there = f"There are: {', '.join([*names, *COMMON])}."
    raise InvalidArgument(f"there is no field {name}", meant + there)
