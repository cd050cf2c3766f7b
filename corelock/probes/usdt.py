"""Static probes (USDT) of programs and libraries, as places to attach to.

They are notes of the file: where the code is, in place of which an instruction that does nothing
was put, the counter that turns it on (semaphore), if there is one, and where the arguments are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, NoReturn, Optional

from corelock.errors import InvalidArgument, UnusableFile
from corelock.probes.code_files import Found, read_code, why_not
from corelock.probes.libraries import LockIsHeld, all_files, find_file
from corelock.probes.nearest import no_such_probe
from corelock.probes.patterns import Pattern
from corelock.probes.places import Field, Place, Version, version_of
from corelock.probes.symbols import symbols_of, without_version
from corelock.probes.usdt_arguments import NotFound, Site, parse_arguments
from corelock.symbolize.elf import WRITABLE, BadElf, ElfFile, offset_in
from corelock.symbolize.table import PLACES

_SECTION = ".note.stapsdt"
_OWNER, _TYPE = b"stapsdt", 3
_MOST_NAMED = 6
# What the linker moves when it moves the code, as nothing else does to notes.
_BASE_SECTION = ".stapsdt.base"


class StaticProbe(NamedTuple):
    """One location of a static probe.

    ``offset`` and ``semaphore`` are in the file (``semaphore`` 0: it has none), ``address`` is
    the location's as linked.
    """

    provider: str
    name: str
    offset: int
    semaphore: int
    address: int
    arguments: tuple[Field, ...]


def find(
    pattern: Pattern, pid: Optional[int] = None, lock_is_held: Optional[LockIsHeld] = None
) -> list[Place]:
    """The locations of the static probes that a STATIC pattern means, in the order of the file.

    Without a library, those of all files of process ``pid``.

    Raises:
        NoSuchProbe: there are none; the remedy has names that are similar.
        InvalidArgument: neither a library nor a process is given.
        As of :func:`corelock.probes.libraries.find_file`.
    """
    places: dict[Place, None] = {}
    probes: list[StaticProbe] = []
    files, problems = _files(pattern, pid, lock_is_held)
    for found in files:
        version = version_of(found.path_to_open)
        try:
            these = probes_of(found)
        except UnusableFile as error:
            if pattern.library:
                raise
            problems[found.own_path] = why_not(found, error)
            continue
        probes += these
        places.update(dict.fromkeys(_places(found, these, pattern, version)))
    if not places:
        _none(pattern, files, probes, problems)
    return list(places)


def probes_of(found: Found) -> list[StaticProbe]:
    """All static probes of a file.

    Raises:
        UnusableFile: it cannot be read, or makes no sense.
    """
    return read_code(found, lambda file: static_probes(file, found))


def static_probes(file: BinaryIO, found: Found) -> list[StaticProbe]:
    """All static probes of an open file, of whatever machine.

    Raises:
        BadElf: what the file holds makes no sense, or does not say whether there are any.
        OSError: it cannot be read.
    """
    elf = ElfFile(file)
    if not elf.has_sections:
        raise BadElf("it has no section headers, so that its static probes cannot be found")
    notes = elf.notes(_SECTION)
    if not notes:
        return []
    symbols = _Symbols(file, found)
    words = struct.Struct(elf.word_format[0] + 3 * elf.word_format[1])
    base, code, data = elf.address_of_section(_BASE_SECTION), elf.segments(), elf.segments(WRITABLE)
    probes = []
    for owner, kind, note in notes:
        if (owner, kind) != (_OWNER, _TYPE):
            continue
        (address, old_base, semaphore), texts = _taken_apart(note, words)
        moved = base - old_base if base is not None and old_base else 0
        address += moved
        offset = offset_in(code, address)
        if offset is None:  # the linker has thrown the code away
            continue
        counter = offset_in(data, semaphore + moved) if semaphore else 0
        if counter is None:
            raise BadElf("corrupt ELF file (semaphore of a static probe)")
        site = Site(elf.machine, address, elf.is_fixed, symbols.address_of)
        provider, name, arguments = texts
        probes.append(
            StaticProbe(provider, name, offset, counter, address, parse_arguments(arguments, site))
        )
    return probes


def _taken_apart(note: bytes, words: struct.Struct) -> tuple[tuple[int, ...], list[str]]:
    """The three addresses and the three texts."""
    texts = note[words.size :].split(b"\0")
    if len(note) < words.size or len(texts) < 4:
        raise BadElf("corrupt ELF file (note of a static probe)")
    return words.unpack_from(note), [text.decode("utf-8", "replace") for text in texts[:3]]


class _Symbols:
    """Addresses by name, read when the first is asked for: few probes need them."""

    def __init__(self, file: BinaryIO, found: Found) -> None:
        self._file = file
        self._found = found
        self._known: Optional[dict[str, set[int]]] = None

    def address_of(self, name: str) -> int:
        if self._known is None:
            self._known = {}
            for symbol, address in symbols_of(self._file, self._found, PLACES):
                self._known.setdefault(without_version(symbol), set()).add(address)
        addresses = self._known.get(name, set())
        if len(addresses) != 1:
            many = "there are several" if addresses else "debug symbols are missing"
            raise NotFound(f"the address of {name} is not known: {many}")
        return next(iter(addresses))


def _files(
    pattern: Pattern, pid: Optional[int], lock_is_held: Optional[LockIsHeld]
) -> tuple[Sequence[Found], dict[str, str]]:
    """Those to look at, and why others cannot be, by path."""
    if pattern.library:
        return [find_file(pattern.library, pid, lock_is_held)], {}
    if pid is None:
        raise InvalidArgument(
            f"{pattern.text!r} names no file", "Write u:FILE:probe, or give a process (-p PID)."
        )
    files = all_files(pid, lock_is_held)
    return files.found, dict(files.problems)


def _places(
    found: Found, probes: Sequence[StaticProbe], pattern: Pattern, version: Version
) -> Iterator[Place]:
    for probe in probes:
        if pattern.group.matches(probe.provider) and pattern.name.matches(probe.name):
            yield Place(
                "USER",
                f"{found.shown_name}:{probe.provider}:{probe.name}",
                found.path_to_open,
                probe.offset,
                probe.semaphore,
                probe.arguments,
                version,
            )


def _none(
    pattern: Pattern,
    files: Sequence[Found],
    probes: Sequence[StaticProbe],
    problems: Mapping[str, str],
) -> NoReturn:
    where = files[0].path_to_open if pattern.library else "the files of that process"
    unread = ""
    if problems:
        those = [f"{path} ({problem})" for path, problem in sorted(problems.items())]
        more = f" and {len(those) - _MOST_NAMED} more" if len(those) > _MOST_NAMED else ""
        where += " that can be looked at"
        unread = f"; these cannot be: {', '.join(those[:_MOST_NAMED])}{more}"
    if not probes:
        message = f"there are no static probes in {where}{unread}"
        remedy = "It was built without any: functions can be probed instead."
        if problems:
            remedy = "Those may have some: restart the process if its files were replaced."
    else:
        message = f"no static probe in {where} matches {pattern.name.text!r}{unread}"
        remedy = f"corelock list 'u:{pattern.library}:*' has what there is."
    raise no_such_probe(message, pattern.name.core, {each.name for each in probes}, remedy)
