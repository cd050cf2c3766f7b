"""The functions of the kernel and its modules, and which of them can be probed here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple, Optional

from corelock.errors import MissingPrivilege, NoSuchProbe, Unsupported
from corelock.probes.nearest import no_such_probe
from corelock.probes.patterns import ANY, WHOLE_NAMES, Pattern
from corelock.probes.places import Place
from corelock.probes.tracefs import Folder
from corelock.symbolize.kernel import KALLSYMS, read_symbols, unreadable

COLD = "a rare part of a function, never called"
INIT = "used at boot only, freed since"
NOINSTR = "noinstr: nothing may be attached there"
BLACKLISTED = "blacklisted for kprobes"
NOTRACE = "notrace, or not a function of its own"
AMBIGUOUS = "several functions have this name, and kernel addresses are hidden"

# Those of padding before functions (__pfx_, __cfi_) are no functions, nor are borders of sections.
_FUNCTION = re.compile(
    r"^([0-9a-f]{16}) [tTwW] (?!__pfx_|__cfi_)([^\t\n]+)(?:\t\[([^\n]*)\])?$", re.MULTILINE
)
# Of any type: what a section ends with need not be text.
_BORDER = re.compile(
    r"^([0-9a-f]{16}) [a-zA-Z] (_[se]text|_text|_[se]inittext|\w+_text_(?:start|end))$",
    re.MULTILINE,
)
_COLD = re.compile(r"\.cold(?:\.\d+)?$")
# Their pages have no code that stays: BPF programs, trampolines of ftrace and kprobes.
_NOT_OF_A_MODULE = re.compile(r"bpf$|__builtin__")
_TEXT = ("_stext", "_etext")
_INIT_TEXT = ("_sinittext", "_einittext")
_REGIONS = (
    (*_INIT_TEXT, INIT),
    ("__noinstr_text_start", "__noinstr_text_end", NOINSTR),
    ("__entry_text_start", "__entry_text_end", NOINSTR),
)
#: What the kernel itself is called among its modules.
_KERNEL = "vmlinux"
# ftrace's call stands behind what marks a function's start for indirect branches, if anything.
_CALL_OFFSETS = (0, 4, 8, 12)

_Function = tuple[int, str, str]  # address, name, module


class Found(NamedTuple):
    """What a pattern matches; reasons are those of this module, in words.

    ``places`` can be attached as far as one can tell; those of ``doubtful`` perhaps, in some of
    the ways there are: they are to be tried last, one by one, and their reason is what to say
    when it fails. ``refused`` has names that nothing can be attached to.
    """

    places: tuple[Place, ...]
    doubtful: Mapping[str, tuple[Place, ...]]
    refused: Mapping[str, tuple[str, ...]]


class KernelFunctions:
    """The kernel's functions, read at the first look, and once.

    ``tracefs`` and ``debugfs`` may be None: then it is not known what they say of functions.
    """

    def __init__(
        self,
        tracefs: Optional[Folder] = None,
        debugfs: Optional[Folder] = None,
        path: str = KALLSYMS,
    ) -> None:
        self._tracefs = tracefs
        self._debugfs = debugfs
        self._path = path

    def find(self, pattern: Pattern) -> Found:
        """Places of the functions that ``pattern`` matches, by address.

        Each has a label of its own, but for functions of one name in several files, which share
        it. Of several names for one place, the first that matches is taken.

        Raises:
            NoSuchProbe: none matches.
            MissingPrivilege, Unsupported: the kernel's symbols cannot be read.
        """
        matched = list(self._matched(pattern))
        if not matched:
            raise self._nothing(pattern)
        places: list[Place] = []
        doubtful: dict[str, list[Place]] = {}
        refused: dict[str, list[str]] = {}
        for function in matched:
            reason, final = self._reason(function)
            if final:
                refused.setdefault(reason, []).append(_label(function))
            elif reason:
                doubtful.setdefault(reason, []).append(_place(function))
            else:
                places.append(_place(function))
        return Found(
            tuple(places),
            {reason: tuple(dict.fromkeys(those)) for reason, those in doubtful.items()},
            {reason: tuple(those) for reason, those in refused.items()},
        )

    def _matched(self, pattern: Pattern) -> Iterator[_Function]:
        exact = pattern.name.exact
        seen: set[int] = set()
        for address, name, module in self._functions:
            if exact is not None:
                if name not in exact:
                    continue
            # A rare part of a function is none: whoever means it spells it out.
            elif not pattern.name.matches(name) or _COLD.search(name):
                continue
            if pattern.group != ANY and not pattern.group.matches(module or _KERNEL):
                continue
            if address not in seen:
                yield address, name, module
            if address:
                seen.add(address)

    def _nothing(self, pattern: Pattern) -> NoSuchProbe:
        if pattern.group != ANY:
            modules = {module or _KERNEL for _, _, module in self._functions}
            if not any(map(pattern.group.matches, modules)):
                return self._no_module(pattern, modules)
        of = "" if pattern.group == ANY else f" in {pattern.group.text}"
        message = f"no function of the kernel matches {pattern.name.text}{of}"
        names = {name for _, name, _ in self._functions if not _COLD.search(name)}
        wanted = pattern.name.core
        if pattern.name.regex:
            return NoSuchProbe(message, WHOLE_NAMES)
        if wanted and any(name.startswith(f"{wanted}.") for name in names):
            return NoSuchProbe(message, f"The compiler has made parts of it: try '{wanted}.*'")
        otherwise = "See corelock list p::'*' for all there are."
        if wanted:
            otherwise = f"It may be inlined everywhere. {otherwise}"
        return no_such_probe(message, wanted, names, otherwise)

    def _no_module(self, pattern: Pattern, modules: set[str]) -> NoSuchProbe:
        message = f"no module that is loaded and has functions matches {pattern.group.text!r}"
        otherwise = f"lsmod has those that are loaded; {_KERNEL} is the kernel itself."
        wanted = pattern.group.core
        if pattern.group.regex:
            return NoSuchProbe(message, WHOLE_NAMES)
        return no_such_probe(message, wanted, modules, otherwise)

    def _reason(self, function: _Function) -> tuple[str, bool]:
        """Why a function cannot be probed, or perhaps not ("": it can); whether that is final."""
        address, name, module = function
        if _COLD.search(name):
            return COLD, True
        for start, end, reason in self._regions:
            if start <= address < end:
                return reason, True
        if not address and self._multiplicity[name, module] > 1:
            return AMBIGUOUS, False
        traced = self._is_traced(function)
        blacklisted = self._is_blacklisted(function)
        if blacklisted:
            # What ftrace has can be had by other ways than kprobes.
            return BLACKLISTED, traced is False
        return ("" if traced is not False else NOTRACE), False

    def _is_traced(self, function: _Function) -> Optional[bool]:
        """Whether ftrace has it, None if that is not known."""
        address, name, module = function
        if address and self._call_sites:
            return any(address + offset in self._call_sites for offset in _CALL_OFFSETS)
        if not self._traced_names:
            return None
        if address:
            return address in self._traced_by_name
        return self._all_traced(name, module)

    def _all_traced(self, name: str, module: str) -> bool:
        """Of several functions of a name, ftrace does not say which it has, unless it has all."""
        return self._traced_names[name, module] >= self._multiplicity[name, module]

    @cached_property
    def _traced_by_name(self) -> frozenset[int]:
        """Addresses, as ftrace has one name for each: another is as good."""
        return frozenset(
            address for address, name, module in self._functions if self._all_traced(name, module)
        )

    def _is_blacklisted(self, function: _Function) -> bool:
        address, name, _ = function
        by_address, by_name = self._blacklisted
        return address in by_address if by_address and address else name in by_name

    @cached_property
    def _text(self) -> str:
        try:
            return read_symbols(self._path).decode("ascii", "replace")
        except OSError as error:
            found, _, remedy = unreadable(self._path, error).partition(": ")
            denied = isinstance(error, PermissionError)
            raise (MissingPrivilege if denied else Unsupported)(found, f"{remedy}.") from None

    @cached_property
    def _functions(self) -> list[_Function]:
        # Newer kernels' kallsyms says of data, too, that it is text.
        texts = [self._between(*_TEXT), self._between(*_INIT_TEXT)]
        return [
            (address, name, module)
            for address, name, module in self._symbols()
            if module or any(start <= address < end for start, end in texts)
        ]

    def _symbols(self) -> Iterator[_Function]:
        for address, name, module in _FUNCTION.findall(self._text):
            if name not in self._borders and not _NOT_OF_A_MODULE.match(module):
                yield int(address, 16), name, module

    @cached_property
    def _multiplicity(self) -> Counter[tuple[str, str]]:
        return Counter((name, module) for _, name, module in self._functions)

    @cached_property
    def _borders(self) -> dict[str, int]:
        return {name: int(address, 16) for address, name in _BORDER.findall(self._text)}

    def _between(self, start: str, end: str) -> tuple[int, int]:
        """A range of addresses; where they are hidden all are 0, and within the kernel's text."""
        if not (self._borders.get(start) and self._borders.get(end)):
            return (0, 1 << 64) if (start, end) == _TEXT else (0, 0)
        return self._borders[start], self._borders[end]

    @cached_property
    def _regions(self) -> list[tuple[int, int, str]]:
        return [(*self._between(start, end), reason) for start, end, reason in _REGIONS]

    @cached_property
    def _call_sites(self) -> frozenset[int]:
        lines = _lines(self._tracefs, "available_filter_functions_addrs")
        return frozenset(int(line.partition(" ")[0], 16) for line in lines)

    @cached_property
    def _traced_names(self) -> Counter[tuple[str, str]]:
        """As ``name`` or ``name [module]``."""
        lines = _lines(self._tracefs, "available_filter_functions")
        words = (line.split() for line in lines)
        return Counter((each[0], each[1].strip("[]") if each[1:] else "") for each in words)

    @cached_property
    def _blacklisted(self) -> tuple[frozenset[int], frozenset[str]]:
        """By address, and by name, from lines ``0xBEGIN-0xEND\\tname``."""
        lines = [line.split() for line in _lines(self._debugfs, "kprobes/blacklist")]
        begins = (int(words[0].partition("-")[0], 16) for words in lines if words)
        names = (words[1] for words in lines if len(words) > 1)
        return frozenset(filter(None, begins)), frozenset(names)


def _lines(folder: Optional[Folder], path: str) -> list[str]:
    """None if it cannot be read: not every kernel and user may."""
    try:
        return folder.read(path).splitlines() if folder else []
    except OSError:
        return []


def _label(function: _Function) -> str:
    """As the kernel's own traces have it."""
    _, name, module = function
    return f"{name} [{module}]" if module else name


def _place(function: _Function) -> Place:
    return Place("FUNCTION", _label(function), function[1], function[0])
