"""Symbols of files without section headers: where the loader finds them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

_SYMBOL_BYTES = {32: 16, 64: 24}
_MOST_BUCKETS = 1 << 22
_MOST_TAG_BYTES = 1 << 20
#: Functions whose names' hashes fall in one bucket.
_LONGEST_CHAIN = 1 << 12


class Part(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


def linked_symbols(elf: ELFFile) -> Optional[tuple[Part, Part]]:
    """The symbols that linking needs, and their names, or None if it is not linked with others.

    Raises ValueError, or whatever pyelftools does, if they make no sense.
    """
    for segment in elf.iter_segments("PT_DYNAMIC"):
        if segment["p_filesz"] > _MOST_TAG_BYTES:
            raise ValueError(f"{segment['p_filesz']} bytes of tags")
        (names_size,) = segment.iter_tags("DT_STRSZ")
        symbols = Part(
            _offset(segment, "DT_SYMTAB"), _count(elf, segment) * _SYMBOL_BYTES[elf.elfclass]
        )
        return symbols, Part(_offset(segment, "DT_STRTAB"), names_size["d_val"])
    return None


def _offset(segment: DynamicSegment, tag: str) -> int:
    _, offset = segment.get_table_offset(tag)
    if offset is None:
        raise ValueError(f"no {tag}")
    return int(offset)


def _count(elf: ELFFile, segment: DynamicSegment) -> int:
    """How many symbols there are: only the tables of hashes say."""
    if not any(segment.iter_tags("DT_GNU_HASH")):
        _, chains = _words(elf, _offset(segment, "DT_HASH"), 2)
        return chains
    at = _offset(segment, "DT_GNU_HASH")
    buckets, first, blooms = _words(elf, at, 3)
    if buckets > _MOST_BUCKETS:
        raise ValueError(f"{buckets} buckets")
    at += 16 + blooms * (elf.elfclass // 8)
    last = max(_words(elf, at, buckets))
    if last < first:  # nothing is defined in it
        return first
    at += 4 * (buckets + last - first)
    for length in range(1, _LONGEST_CHAIN):
        (word,) = _words(elf, at, 1)
        if word & 1:  # the end of the chain, and so of the table
            return last + length
        at += 4
    raise ValueError("a chain without an end")


def _words(elf: ELFFile, offset: int, count: int) -> tuple[int, ...]:
    elf.stream.seek(offset)
    order = "<" if elf.little_endian else ">"
    return struct.unpack(f"{order}{count}I", elf.stream.read(4 * count))
