"""The kernel's tracepoints, and the fields of their records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from corelock.errors import MissingPrivilege, NoSuchProbe, Unsupported
from corelock.probes.nearest import no_such_probe
from corelock.probes.operands import TEXT_BYTES, Operand, Text
from corelock.probes.patterns import WHOLE_NAMES, Pattern
from corelock.probes.places import Field, Place
from corelock.probes.tracefs import READABLE, Folder

# Events that are made by the user, or of tables of system calls: no tracepoint is called so.
_NO_TRACEPOINTS = ("syscalls", "synthetic", "user_events")
_DYNAMIC = re.compile(r"^[^:\s]+:(?:(\w+)/)?(\w+)", re.MULTILINE)

_FIELD = re.compile(
    r"^\s+field:(?P<declared>[^;\n]*);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);"
    r"(?:\s*signed:(?P<signed>\d+);)?",
    re.MULTILINE,
)
_DECLARED = re.compile(r"(?P<type>[^:()]*?)\s*\b(?P<name>[^\W\d]\w*)\s*(?P<array>(?:\[[^]]*\])*)$")
_LOCATED: dict[str, Text] = {"__data_loc": "DATA_LOC", "__rel_loc": "REL_LOC"}
_QUALIFIER = re.compile(r"\b(?:const|volatile)\b\s*")

# Arguments of system calls are 8 bytes each in records, unsigned ones by their format. What the
# system call takes is as of their types: the rest of a register may have anything.
_INT, _UNSIGNED, _LONG = (4, True), (4, False), (8, True)
_C_TYPES = {
    "int": _INT, "pid_t": _INT, "clockid_t": _INT, "timer_t": _INT, "key_t": _INT,
    "key_serial_t": _INT, "mqd_t": _INT, "rwf_t": _INT, "__s32": _INT, "s32": _INT,
    "unsigned int": _UNSIGNED, "unsigned": _UNSIGNED, "uid_t": _UNSIGNED, "gid_t": _UNSIGNED,
    "qid_t": _UNSIGNED, "__u32": _UNSIGNED, "u32": _UNSIGNED, "umode_t": (2, False),
    "long": _LONG, "off_t": _LONG, "loff_t": _LONG, "ssize_t": _LONG,
}  # fmt: skip

#: What every record begins with, and perf writes over; and what has the same.
_COMMON = {
    "common_pid": "tid has the same",
    "common_type": "it is the event's id, the same of all",
}


def no_field(name: str) -> str:
    """Why an event has no such field although its format does, "" if there is no such reason."""
    if not name.startswith("common_"):
        return ""
    why = "perf writes over the beginning of a record"
    return f"{why}: {_COMMON[name]}" if name in _COMMON else why


class Tracepoints:
    """The events of a kernel, as its tracefs has them."""

    def __init__(self, tracefs: Folder) -> None:
        self._tracefs = tracefs

    def find(self, pattern: Pattern) -> tuple[Place, ...]:
        """Those that ``pattern`` matches, without their fields, in the kernel's order.

        ``name`` is "" for events that are no tracepoint of that name: only ``address``, the id,
        says which they are.

        Raises:
            NoSuchProbe: none matches.
            MissingPrivilege, Unsupported: tracefs cannot be read.
        """
        matched = [
            event
            for event in self.all
            if pattern.group.matches(event[0]) and pattern.name.matches(event[1])
        ]
        if not matched:
            if pattern.name.regex:
                raise NoSuchProbe(f"no tracepoint matches {pattern.text}", WHOLE_NAMES)
            wanted = f"{pattern.group.core}:{pattern.name.core}"
            raise no_such_probe(
                f"no tracepoint matches {pattern.group.text}:{pattern.name.text}",
                wanted,
                map(":".join, self.all),
                "See corelock list 't:*:*' for all. Events of modules are there once these "
                "are loaded.",
            )
        return tuple(self._place(*event) for event in matched)

    def fields(self, category: str, event: str) -> tuple[Field, ...]:
        """The fields of an event's record, without those all events have.

        Raises:
            NoSuchProbe: there is no such event.
            MissingPrivilege, Unsupported: tracefs cannot be read.
        """
        if (category, event) not in self.all:
            raise no_such_probe(
                f"there is no tracepoint {category}:{event}",
                f"{category}:{event}",
                map(":".join, self.all),
                "See corelock list 't:*:*' for all.",
            )
        fields = parse_format(self._read(f"events/{category}/{event}/format"))
        return tuple(map(_of_system_call, fields)) if category == "syscalls" else fields

    @cached_property
    def all(self) -> tuple[tuple[str, str], ...]:
        """All categories and events."""
        lines = self._read("available_events").splitlines()
        return tuple(
            (category, event) for category, colon, event in (x.partition(":") for x in lines)
        )

    def _place(self, category: str, event: str) -> Place:
        number = int(self._read(f"events/{category}/{event}/id"))
        alone = self._named[event] == 1 and category not in _NO_TRACEPOINTS
        name = event if alone and (category, event) not in self._dynamic else ""
        return Place("TRACEPOINT", f"{category}:{event}", name, number)

    @cached_property
    def _named(self) -> Counter[str]:
        return Counter(event for _, event in self.all)

    @cached_property
    def _dynamic(self) -> frozenset[tuple[str, str]]:
        """Probes of kernel and user functions that have been made into events."""
        try:
            text = self._tracefs.read("dynamic_events")
        except OSError:
            return frozenset()
        return frozenset(_DYNAMIC.findall(text))

    def _read(self, path: str) -> str:
        try:
            return self._tracefs.read(path)
        except PermissionError:
            raise MissingPrivilege(f"tracefs' {path} may not be read", READABLE) from None
        except OSError as error:
            raise Unsupported(
                f"tracefs' {path} cannot be read: {error.strerror}",
                "An event that has just been removed is like that; or the kernel has none "
                "(CONFIG_EVENT_TRACING).",
            ) from None


def _of_system_call(field: Field) -> Field:
    """Newer kernels add the texts that arguments point to, behind what BPF programs are given."""
    if field.operand is None:
        return field
    if not field.operand.is_text:
        return field._replace(operand=field.operand._replace(of_user=True))
    pointer = field.name.removeprefix("__").removesuffix("_val")
    return Field(field.name, field.type, None, f"programs are not given it: use str({pointer})")


def parse_format(text: str) -> tuple[Field, ...]:
    """The fields of an event by its ``format``, without those all events have."""
    return tuple(_fields(text))


def _fields(text: str) -> Iterator[Field]:
    for found in _FIELD.finditer(text):
        declared = _DECLARED.match(found["declared"].strip())
        if declared is None:
            yield Field(found["declared"], "", None, "what it is cannot be told")
        elif not declared["name"].startswith("common_"):
            type_ = (declared["type"] + declared["array"]).strip()
            offset, size = int(found["offset"]), int(found["size"])
            yield _field(declared["name"], type_, offset, size, found["signed"] == "1")


def _field(name: str, type_: str, offset: int, size: int, signed: bool) -> Field:
    location, _, located = type_.partition(" ")
    if location in _LOCATED:
        return _located_field(name, type_, location, located.strip(), offset)
    plain = _QUALIFIER.sub("", type_)
    if plain.endswith("]"):
        if plain.partition("[")[0].strip() != "char" or not size:
            return Field(name, type_, None, "it is an array")
        text = Operand("CONTEXT", offset, 1, text="INLINE", length=min(size, TEXT_BYTES))
        return Field(name, type_, text)
    if plain.endswith("*"):
        return _number(name, type_, offset, size, False)
    if plain.startswith(("struct ", "union ")):
        return Field(name, type_, None, "it is a structure")
    if size == 8:
        size, signed = _C_TYPES.get(plain, (size, signed))
    return _number(name, type_, offset, size, signed)


def _number(name: str, type_: str, offset: int, size: int, signed: bool) -> Field:
    if size not in (1, 2, 4, 8):
        return Field(name, type_, None, f"it has {size} bytes, which is no number's size")
    return Field(name, type_, Operand("CONTEXT", offset, size, signed))


def _located_field(name: str, type_: str, location: str, of: str, offset: int) -> Field:
    if _QUALIFIER.sub("", of).replace(" ", "") != "char[]":
        return Field(name, type_, None, "it is an array of varying length")
    text = Operand("CONTEXT", offset, 4, text=_LOCATED[location], length=TEXT_BYTES)
    return Field(name, type_, text)
