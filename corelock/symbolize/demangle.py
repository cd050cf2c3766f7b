"""Names of C++ and Rust functions as their programmers wrote them."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Callable, Optional

#: Itanium C++ and legacy Rust (``_Z``), Rust v0 (``_R``); macOS and LLVM write more underscores.
_MANGLED = ("_Z", "_R", "__Z", "___Z")
_HASH = re.compile(r"::h[0-9a-f]{16}$")
#: Longer names lose their parameters: what they are of is what tells.
_LONG = 120

_Demangle = Callable[[str], str]


def demangled(name: str) -> str:
    """``name`` in words for stacks: of long ones, without parameters.

    >>> demangled("mmap")
    'mmap'
    """
    words = in_words(name)
    return without_parameters(words) if len(words) > _LONG and words != name else words


@lru_cache(maxsize=4096)
def in_words(name: str) -> str:
    """All of ``name`` in words, or as it is where it is not mangled or nothing can demangle it."""
    if not name.startswith(_MANGLED):
        return name
    demangle = _library()
    if demangle is None:
        return name
    try:
        words = demangle(name)
    except Exception:  # a library that breaks must not take a stack with it
        return name
    if not isinstance(words, str) or not words:
        return name
    # Newer versions of the library leave the hash of legacy Rust, which is no part of the name.
    return _HASH.sub("", words)


def is_possible() -> bool:
    """Whether names can be demangled here."""
    return _library() is not None


@cache
def _library() -> Optional[_Demangle]:
    try:
        import pydemumble

        found: _Demangle = pydemumble.demangle
    except Exception:  # missing, or built for another Python: names stay as they are
        return None
    return found


def without_parameters(name: str) -> str:
    """A demangled name with what its last parentheses hold left out.

    >>> without_parameters("a::b(int, c<d>) const")
    'a::b(...) const'
    >>> without_parameters("operator new")
    'operator new'
    """
    end = name.rfind(")")
    depth = 0
    for index in range(end, 0, -1):
        depth += {")": 1, "(": -1}.get(name[index], 0)
        if depth == 0:
            return f"{name[: index + 1]}...{name[end:]}" if end > index + 1 else name
    return name
