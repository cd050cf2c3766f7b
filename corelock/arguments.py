"""Whether arguments of the embedding API are what they should be, checked before they are used.

C takes a NUL for a string's end, and Python a string for a sequence of strings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Optional, Union

from corelock.errors import InvalidArgument

#: A file's name.
FileName = Union[str, os.PathLike[str]]


def is_whole(value: object) -> bool:
    """Whether it is a whole number; for Python, True and False are some, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_range(name: str, value: Optional[int], least: int, most: int) -> None:
    """Make sure that ``value``, if given, is a whole number in that range.

    Raises:
        InvalidArgument: it is not.
    """
    if value is not None and not (is_whole(value) and least <= value <= most):
        raise InvalidArgument(
            f"{name} is out of range: {value!r}", f"Give a number from {least} to {most}."
        )


def check_text(name: str, value: Optional[str]) -> None:
    """Make sure that ``value``, if given, is a string that the kernel could know.

    Raises:
        InvalidArgument: it is not.
    """
    if value is not None and not (isinstance(value, str) and _is_plain(value)):
        raise InvalidArgument(f"no {name} is named {value!r}", "Give a string without NULs.")


def check_texts(name: str, values: Optional[Iterable[str]]) -> tuple[str, ...]:
    """Several strings, none if None is given.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values or (), Iterable):
        raise InvalidArgument(f"{name} is no list of strings: {values!r}", f"Give [{values!r}].")
    found = tuple(values or ())
    for value in found:
        check_text(name, value)
    return found


def file_name(name: str, value: Optional[FileName]) -> Optional[str]:
    """A file's name as a string.

    Raises:
        InvalidArgument: no file can be named so.
    """
    return None if value is None else _file_name(name, value)


def _file_name(name: str, value: FileName) -> str:
    try:
        text = os.fsdecode(value)
    except TypeError:
        text = "\0"
    if not _is_plain(text):
        raise InvalidArgument(
            f"no {name} is named {value!r}", "Give a string or path without NULs."
        )
    return text


def words(command: Optional[Sequence[FileName]]) -> list[str]:
    """The words of a command, none if there is none.

    Raises:
        InvalidArgument: it is no sequence of them.
    """
    if isinstance(command, (str, bytes)) or not isinstance(command or (), Sequence):
        raise InvalidArgument(
            f"the command is no list of words: {command!r}",
            'Give its words one by one: ["ls", "-l"].',
        )
    return [_file_name("word of a command", word) for word in command or ()]


def _is_plain(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half a character, which no file's name has
        return False
