"""What a demangled C++ or Rust name may be written as: with or without its return type,
parameters and template arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A symbol is all that the operator is called; what is left of "operator" names a type.
_OPERATOR = re.compile(
    r"(?<![\w$])operator(?:\(\)|\[\]|\"\" ?\w+| (?:new|delete)(?:\[\]|\b)| co_await\b"
    # "<<" of two template brackets is "<" and what is put into it: operator<<int>.
    r"|<=>|->\*?|<<=|>>=|<<(?=[<(]|$)|>>|[-+*/%^&|=!<>]=|&&|\|\||\+\+|--|[-+*/%^&|~!=<>,])"
)
_CONVERSION = re.compile(r"(?<![\w$])operator (?=\S)")
_COMPARISON = re.compile(r"->| (?:<<?|>>?)=? ")
#: After the parameters of a function that something else is in.
_LOCAL = re.compile(r"(?: (?:const|volatile|&&?))*::")
_POINTER = re.compile(r"[*&]+ ?(?:const )?")
_CLONE = re.compile(r" \(\.[^()]*\)$")
_ABI_TAG = re.compile(r"\[abi:\w+\]")
#: Most names: nothing to take apart.
_PLAIN = re.compile(r"([\w:~$]+)(\([^()]*\)(?: const)?)")
#: No functions as they were written, but something that leads to them.
_OTHERS = re.compile(r"(?:[\w-]+ )+(?:to|for) ")
#: What is in names in words and not, or not as it is, in mangled ones.
_PRINTED = frozenset(
    "void bool char signed unsigned short int long float double wchar_t char8_t char16_t "
    "char32_t __int128 __float128 _Float16 std const volatile restrict operator co_await new "
    "delete this decltype auto noexcept throw sizeof alignof typeid static_cast const_cast "
    "dynamic_cast reinterpret_cast true false nullptr nullptr_t requires enum struct union "
    "class complex imaginary __vector __vector__ decimal32 decimal64 decimal128 fixed lambda "
    "unnamed type string literal anonymous namespace allocator char_traits basic_string "
    "basic_istream istream basic_ostream ostream basic_iostream iostream vtable typeinfo name "
    "guard variable thunk virtual non covariant return construction function init "
    "initialization wrapper TLS for reference temporary hidden alias transaction clone entry "
    "default arg deleting base i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 "
    "str dyn impl mut unsafe extern closure shim reify instance module typename bfloat16_t "
    "_BitInt _Float32 _Float64 _Float128 half thread local routine invocation block abi".split()
)
_PIECE = re.compile(r"\w+", re.ASCII)
_ANY_OF = re.compile(r"\[[^]]*\]?")
# With what it may begin or end with: 0x1p+0f, 4096ul.
_NUMBER = re.compile(r"\d\w*|(?=.*\d)x?[\da-fA-Fxpul]+")
_LEAST_PIECE = 3
_OPEN = {"(": ")", "<": ">", "[": "]", "{": "}"}
_CLOSE = {close: open_ for open_, close in _OPEN.items()}


class Parts(NamedTuple):
    """``result name parameters``: ``result`` and ``parameters`` are "" where there are none.

    What follows the parameters (``const``) is with them.
    """

    result: str
    name: str
    parameters: str


def parts_of(words: str) -> Parts:
    """A demangled name taken apart.

    >>> parts_of("int ns::f<int>(int) const")
    Parts(result='int', name='ns::f<int>', parameters='(int) const')
    >>> parts_of("<a::S as a::T>::f")
    Parts(result='', name='<a::S as a::T>::f', parameters='')
    """
    plain = _PLAIN.fullmatch(words)
    if plain:
        return Parts("", plain[1], plain[2])
    if _OTHERS.match(words):
        return Parts("", words, "")
    masked = _masked(words)
    lists = [each for each in _groups(masked) if masked[each[0]] == "("]
    for start, end in lists:  # a function that returns a pointer to a function or array
        inner = _POINTER.match(words, start + 1)
        if inner and masked[start - 1 : start] == " " and masked[end : end + 1] in ("(", "["):
            _, name, parameters = parts_of(words[inner.end() : end - 1])
            return Parts(f"{words[: inner.end()]}){words[end:]}", name, parameters)
    begins = [start for start, _ in lists if start and masked[start - 1] != " "]
    if not begins:
        end = clone.start() if (clone := _CLONE.search(words)) else len(words)
        return Parts("", words[:end], words[end:])
    cut = _outside(masked[: begins[-1]]).rfind(" ")
    if masked[cut + 1] == "(":
        return Parts("", words, "")
    return Parts(words[: max(cut, 0)], words[cut + 1 : begins[-1]], words[begins[-1] :])


def without_result(words: str) -> str:
    """A demangled name without its return type, which only those of templates have."""
    parts = parts_of(words)
    return parts.name + parts.parameters


def piece_of(pattern: str) -> str:
    """What any mangled name has in it that ``pattern`` may mean in words; "" is not known.

    Names in words take long to make, and most of a file's have none of it. ``pattern`` is of
    one alternative.

    >>> piece_of("ns::f*<int>(unsigned char)"), piece_of("shop::Till::add"), piece_of("*int")
    ('', 'shop', '')
    """
    pieces = (
        piece
        for piece in _PIECE.findall(_ANY_OF.sub(" ", pattern))
        if len(piece) >= _LEAST_PIECE and not _NUMBER.fullmatch(piece)
    )
    # lambda0 is one of _PRINTED, too.
    known = [
        piece
        for piece in pieces
        if not any(piece.rstrip("0123456789") in word for word in _PRINTED)
    ]
    return max(known, key=len, default="")


def spellings(words: str) -> Iterator[str]:
    """All that a demangled name may be written as, itself first."""
    yield words
    result, name, parameters = parts_of(words)
    clone = _CLONE.search(parameters)
    # A clone is a function of its own; one that the linker made known to other parts is not.
    kept = clone[0] if clone and not clone[0].startswith(" (.llvm.") else ""
    ends = dict.fromkeys((parameters, kept))
    names = {name: None}
    if "<" in name:
        names[_without_arguments(name, only_last=True)] = None
        names[_without_arguments(name, only_last=False)] = None
    if "[abi:" in name:
        names.update(dict.fromkeys([_ABI_TAG.sub("", each) for each in names]))
    for each in names:
        for end in ends:
            yield each + end
            if result:
                yield f"{result} {each}{end}"


def _masked(words: str) -> str:
    """Of the same length, without brackets and spaces that are parts of one name."""
    for pattern in (_OPERATOR, _COMPARISON):
        words = pattern.sub(lambda found: "_" * len(found[0]), words)
    conversion = _CONVERSION.search(words)
    if conversion:
        end = _end_of_conversion(words, conversion.end())
        words = _filled(words, conversion.start(), end)
    for start, end in _groups(words):
        local = _LOCAL.match(words, end)
        if words[start] == "(" and local:
            words = _filled(words, start, local.end() - 2)
    return words


def _filled(words: str, start: int, end: int) -> str:
    return words[:start] + "_" * (end - start) + words[end:]


def _end_of_conversion(words: str, start: int) -> int:
    """Where the type ends that an ``operator type()`` converts to."""
    for begin, end in _groups(words[start:]):
        at, after = start + begin, start + end
        if words[at:after] == "()" and words[after : after + 1] != "(":
            return at
    return len(words)


def _groups(masked: str) -> list[tuple[int, int]]:
    """Where what brackets hold begins and ends, them included; not of those within others."""
    found, stack = [], []
    for index, char in enumerate(masked):
        if char in _OPEN:
            stack.append((char, index))
        elif char in _CLOSE:
            # A ">" that closes nothing is an operator, and so is a "<" that is not closed.
            while char != ">" and stack and stack[-1][0] != _CLOSE[char]:
                stack.pop()
            if stack and stack[-1][0] == _CLOSE[char]:
                _, start = stack.pop()
                if not stack:
                    found.append((start, index + 1))
    return found


def _outside(masked: str) -> str:
    """Likewise with what all brackets hold left out."""
    for start, end in _groups(masked):
        masked = _filled(masked, start + 1, end - 1)
    return masked


def _without_arguments(name: str, only_last: bool) -> str:
    """``a<b>::c<d>`` as ``a<b>::c`` or ``a::c``; of ``<a as b>::c::<d>`` only the last goes."""
    masked = _masked(name)
    for start, end in reversed(_groups(masked)):
        if masked[start] != "<" or start == 0 or (only_last and end != len(name)):
            continue
        if masked[:start].endswith("::"):
            if name.startswith("<impl ", start):
                continue
            start -= 2
        name = name[:start] + name[end:]
    return name
