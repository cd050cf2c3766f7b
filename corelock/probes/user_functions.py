"""Functions of programs and libraries, as places to attach to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, Callable, NamedTuple, NoReturn, Optional

from corelock.errors import NoSuchProbe
from corelock.probes.code_files import Found, read_code
from corelock.probes.demangled_names import piece_of, spellings, without_result
from corelock.probes.libraries import LockIsHeld, find_file
from corelock.probes.nearest import no_such_probe
from corelock.probes.patterns import Pattern
from corelock.probes.places import Place, Version, version_of
from corelock.probes.symbols import symbols_of, without_version
from corelock.symbolize import demangle
from corelock.symbolize.demangle import in_words
from corelock.symbolize.table import FUNCTIONS, RESOLVERS

#: Why a function that is chosen at run time is not counted.
CHOSEN = "chosen when the program starts (GNU_IFUNC)"
_STRIPPED = "Only names that linking needs are left in it: install its debug symbols."
_NO_SECTIONS = (
    "It has no section headers (sstrip and packers take them away): only names that linking needs "
    "can be found in it."
)
_MOST_NAMED = 6
#: What glibc 2.34 and newer have in libc, and empty libraries of these names besides.
_EMPTIED = frozenset({"libpthread", "libdl", "librt", "libutil", "libanl"})
#: Parts of a destructor that have its name in words: the one calls the other.
_STAGE = re.compile(r"D([02])Ev$")
_STAGES = {"0": " (deleting)", "2": " (base)"}


class Function(NamedTuple):
    """A function and where its code is, in bytes from the start of the file."""

    name: str
    offset: int


class Functions(NamedTuple):
    """All names of the functions of a file, and of those that a resolver chooses at run time.

    ``lacking``: why there may be more, and what helps, "" if these are all. ``version`` is the
    file's.
    """

    known: tuple[Function, ...]
    chosen: frozenset[str]
    lacking: str
    version: Version = ()


class Matches(NamedTuple):
    """The places that a pattern means, and labels of what it matches and cannot be had, by
    reason."""

    places: tuple[Place, ...]
    refused: Mapping[str, tuple[str, ...]]


def find(
    pattern: Pattern, pid: Optional[int] = None, lock_is_held: Optional[LockIsHeld] = None
) -> list[Place]:
    """The functions that a USER pattern means: ``places`` of :func:`match`."""
    return list(match(pattern, pid, lock_is_held).places)


def functions_in(found: Found) -> Functions:
    """The functions of a file.

    Raises:
        UnusableFile: it cannot be read, or makes no sense.
    """
    # Taken before: what comes in its place while it is read has another one.
    version = version_of(found.path_to_open)
    return read_code(found, lambda file: functions_of(file, found))._replace(version=version)


def match(
    pattern: Pattern,
    pid: Optional[int] = None,
    lock_is_held: Optional[LockIsHeld] = None,
    read: Callable[[Found], Functions] = functions_in,
) -> Matches:
    """The functions that a USER pattern means.

    A function with several names (``malloc``, ``__libc_malloc``) is one place, and is called by
    the shortest name that the pattern matches, as in stacks. C++ and Rust functions are also
    matched by their demangled names, with or without parameters, template arguments and return
    type; they are called by all of it but the return type.

    Raises:
        NoSuchProbe: there are none; the remedy has names that are similar.
        As of :func:`corelock.probes.libraries.find_file`.
    """
    found = find_file(pattern.library, pid, lock_is_held)
    functions = read(found)
    is_one = not pattern.name.regex and "|" not in pattern.name.text
    piece = piece_of(pattern.name.text) if is_one else ""
    named = list(_matching(functions.known, pattern.name.matches, piece))
    chosen = tuple(sorted(filter(pattern.name.matches, functions.chosen)))
    if not named:
        _none(pattern, found, functions, chosen)
    refused = tuple(f"{found.shown_name}:{label}" for label in _labels(chosen, chosen).values())
    return Matches(tuple(_places(found, named, functions)), {CHOSEN: refused} if refused else {})


def functions_of(file: BinaryIO, found: Found) -> Functions:
    """The functions of an open file, or of its debug file.

    Those that are elsewhere (undefined) are not among them, nor parts that the compiler moved
    out of functions (``.cold``): they are jumped to, not called.

    Raises:
        BadElf: what the file holds makes no sense.
        OSError: it cannot be read.
    """
    symbols = symbols_of(file, found, FUNCTIONS)
    resolvers = list(symbols_of(file, found, RESOLVERS))
    chosen = frozenset(without_version(name) for name, _ in resolvers)
    choosing = {address for _, address in resolvers}
    known = set()
    for version, address in symbols:
        name = without_version(version)
        offset = symbols.offset_of(address) if address else None
        # A resolver may have a name of its own, too: address, not name, tells.
        if offset is not None and name and address not in choosing and not _is_part(name):
            known.add(Function(name, offset))
    lacking = _STRIPPED if symbols.stripped else ""
    if not symbols.has_sections:
        lacking = _NO_SECTIONS
    return Functions(tuple(sorted(known)), chosen, lacking)


def _is_part(name: str) -> bool:
    return name.endswith(".cold") or ".cold." in name


def _matching(
    functions: Iterable[Function], matches: Callable[[str], bool], piece: str
) -> Iterator[Function]:
    for function in functions:
        if matches(function.name):
            yield function
            continue
        if piece not in function.name:
            continue
        words = in_words(function.name)
        if words == function.name:
            continue
        written = list(spellings(words))
        stage = _stage(function.name)
        if any(map(matches, written)) or (stage and any(matches(each + stage) for each in written)):
            yield function


def _stage(name: str) -> str:
    """What tells a part of a destructor from the whole of it, for its label; else "".

    D0 destroys, by D1, and frees. D1 is all of it, and calls D2 where there are virtual bases.
    """
    found = _STAGE.search(name) if name.startswith("_Z") else None
    return _STAGES[found[1]] if found and "~" in in_words(name) else ""


def _places(found: Found, named: Iterable[Function], functions: Functions) -> list[Place]:
    best: dict[int, str] = {}
    for name, offset in named:
        old = best.get(offset)
        if old is None or (len(name), name) < (len(old), old):
            best[offset] = name
    labels = _labels(best.values(), {each.name for each in functions.known})
    path, version = found.path_to_open, functions.version
    return [
        Place("USER", f"{found.shown_name}:{labels[name]}", path, offset, version=version)
        for offset, name in sorted(best.items(), key=lambda each: (each[1], each[0]))
    ]


def _labels(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """What to call functions; those that only return types tell from ``known`` ones, with them."""
    labels = {}
    short = {}
    for name in names:
        words = labels[name] = in_words(name)
        label = without_result(words) if words != name else words
        if label != words:
            short[name] = label
    meant: dict[str, set[str]] = {label: set() for label in short.values()}
    # Only templates have return types, and those have an I in their mangled names.
    for words in {in_words(name) for name in known if short and "I" in name}:
        meant.get(without_result(words), set()).add(words)
    alone = {name: label for name, label in short.items() if len(meant[label]) < 2}
    return {name: label + _stage(name) for name, label in {**labels, **alone}.items()}


def _none(pattern: Pattern, found: Found, functions: Functions, chosen: Sequence[str]) -> NoReturn:
    where = found.path_to_open
    if chosen:
        raise NoSuchProbe(
            f"{chosen[0]} of {where} is {CHOSEN}: calls do not go there",
            _implementations(found, functions, chosen[0]),
        )
    otherwise = functions.lacking or f"corelock list '{pattern.library}:*' has what there is."
    if found.shown_name in _EMPTIED:
        otherwise = f"glibc 2.34 and newer have its functions in libc: libc:{pattern.name.text}"
    names = {each.name for each in functions.known} | functions.chosen
    if "::" in pattern.name.text and not demangle.is_possible():
        otherwise = (
            "C++ and Rust functions have their mangled names here, as pydemumble is missing "
            f"(it needs Python 3.10): corelock list '{pattern.library}:_Z*' has them."
        )
        raise NoSuchProbe(f"no function of {where} matches {pattern.name.text!r}", otherwise)
    wanted = pattern.name.core
    raise no_such_probe(
        f"no function of {where} matches {pattern.name.text!r}", wanted, names, otherwise
    )


def _implementations(found: Found, functions: Functions, name: str) -> str:
    """What to count in place of ``name``: what is called like it and by the CPU it is for."""
    beginnings = (f"__{name}_", f"{name}.")
    names = sorted(
        {
            each.name
            for each in functions.known
            if each.name.startswith(beginnings) and not each.name.endswith(".resolver")
        }
    )
    if names:
        shown = ", ".join(names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"Count the one that this CPU uses: {found.shown_name}:NAME of {shown}{more}."
    return "Install the file's debug symbols (Debian: libc6-dbg), which name the functions."
