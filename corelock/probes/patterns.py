"""What users write to say which probes they mean: :func:`parse_pattern`."""

from __future__ import annotations

import fnmatch
import re
import warnings
from functools import lru_cache
from typing import Literal, NamedTuple, NoReturn, Optional

from corelock.errors import InvalidArgument

PatternKind = Literal["FUNCTION", "USER", "TRACEPOINT", "STATIC"]

#: What can be written, in one line, for messages.
GRAMMAR = (
    "Write func, lib:func, /path:func, t:category:event or u:lib:probe; names may have "
    "* ? [a-z] and a|b, or be regular expressions (-r). See docs/probes.md."
)

#: What to do where a regular expression matches nothing.
WHOLE_NAMES = "A regular expression has to match the whole name: vfs_.*, not vfs_."

_KERNEL = ("kprobe", "kfunc", "fentry")
_RETURNS = ("kretprobe", "uretprobe", "kretfunc", "fexit")
_ENTRIES_ALONE = "only the entries of functions can be had, not places within"
_OTHERS = (
    "rawtracepoint", "interval", "profile", "hardware", "software", "watchpoint",
    "asyncwatchpoint", "iter", "self", "bench",
)  # fmt: skip
# Names in the kernel have no others, so anything else cannot be meant.
_NAME = re.compile(r"[\w.$*?\[\]!^|-]+")
_LONE_COLON = re.compile("(?<!:):(?!:)")
_WORD = re.compile(r"\w+")
# Of files; C++ has functions with a + in their names: operator+, f<1 + 2>.
_OFFSET = re.compile(r"\+(0[xX][0-9a-fA-F]+|[0-9]+)(\||$)")


class Names(NamedTuple):
    """Which names are meant: by wildcards and alternatives, or by a regular expression.

    Either way all of a name has to match.
    """

    text: str
    regex: bool = False

    def matches(self, name: str) -> bool:
        """Whether ``name`` is meant."""
        return _compiled(self).fullmatch(name) is not None

    @property
    def exact(self) -> Optional[frozenset[str]]:
        """The names, if they are written out in full; None if they are to be found."""
        if self.regex or any(char in self.text for char in "*?["):
            return None
        return frozenset(self.text.split("|"))

    @property
    def alternatives(self) -> tuple[Names, ...]:
        """Each of ``a|b`` by itself; a regular expression is one."""
        if self.regex:
            return (self,)
        return tuple(map(Names, dict.fromkeys(self.text.split("|"))))

    @property
    def core(self) -> str:
        """The longest piece that names have as it is, to look for similar ones."""
        return max(_WORD.findall(self.text), key=len, default="")


#: Of a module, category or provider that nothing was said of.
ANY = Names("*")


@lru_cache(maxsize=64)
def _compiled(names: Names) -> re.Pattern[str]:
    if names.regex:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of future meanings; they would go to stderr
            return re.compile(names.text)
    return re.compile("|".join(map(fnmatch.translate, names.text.split("|"))))


class Pattern(NamedTuple):
    """One pattern, taken apart.

    ``library`` is the library, program or path of USER and STATIC; of STATIC it may be "": any
    file of the process. ``group`` is what else names are grouped by: the module of a FUNCTION
    ("vmlinux": the kernel itself), the category of a TRACEPOINT, the provider of a STATIC probe.
    """

    text: str
    kind: PatternKind
    name: Names
    library: str = ""
    group: Names = ANY


def parse_pattern(text: str, regex: bool = False) -> Pattern:
    """Take a pattern apart; ``regex``: names in it are regular expressions.

    Raises:
        InvalidArgument: it cannot be meant; the message says why, the remedy what can be.
    """
    if not text or "\0" in text:
        _refuse(text, "it is empty" if not text else "it has a NUL character")
    kind, *rest = _split(text, regex)
    if kind in _RETURNS or (kind == "r" and len(rest) > 1):
        _refuse(text, "only the entries of functions can be had, not their returns")
    if kind in _OTHERS:
        _refuse(text, f"there are no probes of the kind {kind!r}")
    if not rest:
        return _function(text, kind, "", regex)
    if kind in _KERNEL:
        if len(rest) > 2:
            _refuse(text, f"{kind} takes a function, or a module and a function")
        return _function(text, rest[-1], rest[0] if len(rest) == 2 else "", regex)
    if kind in ("t", "tracepoint"):
        return _tracepoint(text, rest, regex)
    if kind in ("u", "usdt"):
        return _static(text, rest, regex)
    return _in_library(text, kind, rest, regex)


def _tracepoint(text: str, rest: list[str], regex: bool) -> Pattern:
    if len(rest) != 2:
        _refuse(text, "a tracepoint is a category and an event: t:sched:sched_switch")
    category, event = rest
    group = _kernel_names(text, category, "category", regex)
    return Pattern(text, "TRACEPOINT", _kernel_names(text, event, "event", regex), group=group)


def _static(text: str, rest: list[str], regex: bool) -> Pattern:
    if not 2 <= len(rest) <= 3:
        _refuse(text, "a static probe is a file and a name: u:postgres:query__start")
    provider = _names(text, rest[1], "provider", regex) if len(rest) == 3 else ANY
    return Pattern(text, "STATIC", _names(text, rest[-1], "probe", regex), rest[0], provider)


def _in_library(text: str, kind: str, rest: list[str], regex: bool) -> Pattern:
    """``lib:func``, ``p:lib:func``, ``p::func``, ``uprobe:lib:func``."""
    library = kind
    if kind in ("p", "uprobe"):
        if len(rest) == 1:
            which = "p::func is of the kernel, p:lib:func of a library"
            _refuse(text, which if kind == "p" else "uprobe takes a file and a function")
        library, *rest = rest
        if not library and kind == "p":
            return _function(text, ":".join(rest), "", regex)
    name = ":".join(rest)  # C++ and Rust have :: in names
    if not library:
        _refuse(text, "the library is missing before the colon")
    if not regex and _LONE_COLON.search(name):
        _refuse(text, f"there are no probes of the kind {kind!r}")
    if not regex and _OFFSET.search(name):
        _refuse(text, _ENTRIES_ALONE)
    return Pattern(text, "USER", _names(text, name, "function", regex), library)


def _function(text: str, name: str, module: str, regex: bool) -> Pattern:
    if "/" in name:
        _refuse(text, "the function is missing after the path")
    if "+" in name and not regex:
        _refuse(text, _ENTRIES_ALONE)
    group = _kernel_names(text, module, "module", regex) if module else ANY
    return Pattern(text, "FUNCTION", _kernel_names(text, name, "function", regex), group=group)


def _kernel_names(text: str, names: str, what: str, regex: bool) -> Names:
    if names and not regex and not _NAME.fullmatch(names):
        _refuse(text, f"no {what} of the kernel can be called {names!r}")
    return _names(text, names, what, regex)


def _names(text: str, names: str, what: str, regex: bool) -> Names:
    if not names:
        _refuse(text, f"the {what} is missing")
    found = Names(names, regex)
    if not regex:
        if "" in names.split("|"):
            _refuse(text, f"one of the alternatives in {names!r} is empty")
        return found
    try:
        _compiled(found)
    except re.error as error:
        where = "" if error.pos is None else f" at character {error.pos + 1}"
        _refuse(text, f"{names!r} is no regular expression: {error.msg}{where}")
    except (OverflowError, RecursionError) as error:
        _refuse(text, f"{names!r} is too much for a regular expression: {error}")
    return found


def _split(text: str, regex: bool) -> list[str]:
    """At its colons; with ``regex``, not at those in brackets: ``(?:a|b)``."""
    if not regex:
        return text.split(":")
    parts, depth, escaped = [""], 0, False
    for char in text:
        if char == ":" and depth == 0 and not escaped:
            parts.append("")
            continue
        parts[-1] += char
        if not escaped and char in "([)]":
            depth = max(0, depth + (1 if char in "([" else -1))
        escaped = char == "\\" and not escaped
    return parts


def _refuse(text: str, why: str) -> NoReturn:
    raise InvalidArgument(f"not a pattern: {text!r}: {why}", GRAMMAR)
