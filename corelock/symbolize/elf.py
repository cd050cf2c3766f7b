"""Function symbols of an ELF file."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import IO, TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section

_FUNCTION_TYPES = frozenset((2, 10))  # STT_FUNC, STT_GNU_IFUNC
_EXECUTABLE = 1  # PF_X


class BadElf(ValueError):
    """The file is not ELF, or its symbols cannot be read."""


class Segment(NamedTuple):
    """Executable bytes ``[offset, offset + size)`` of the file, and where they are linked to."""

    offset: int
    size: int
    address: int


class ElfSymbols:
    """Functions of one ELF file. Addresses are link-time ones, as ``nm`` shows them.

    Raises:
        BadElf: what the file holds makes no sense.
        OSError: it cannot be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        # Not needed, and slow to import, unless a user frame is looked up.
        from elftools.elf.elffile import ELFFile

        try:
            elf = ELFFile(file)
            _check_headers(elf)
            self._segments = _segments(elf)
            self._names, self._symbols = b"", (array("Q"), array("Q"), array("I"))
            table = _symbol_section(elf)
            if table is not None:
                strings = elf.get_section(table["sh_link"])
                self._names = _bytes_of(elf, strings)
                self._symbols = _functions(elf, table)
        except (OSError, BadElf):
            raise
        except Exception as error:
            # pyelftools meets a corrupt file with whatever its reading led
            # to: ELFError, but also AssertionError, KeyError, UnicodeError...
            raise BadElf(f"corrupt ELF file ({type(error).__name__})") from error

    def address_of(self, file_offset: int) -> Optional[int]:
        """The address of the code at ``file_offset``, or None where there is no code."""
        for segment in self._segments:
            if 0 <= file_offset - segment.offset < segment.size:
                return segment.address + file_offset - segment.offset
        return None

    def find(self, address: int) -> Optional[tuple[str, int]]:
        """Name and start of the function that ``address`` is in, or None.

        Of several names the shortest is taken: ``mmap`` of ``__mmap`` and ``mmap64``.
        """
        starts, sizes, names = self._symbols
        last = bisect_right(starts, address)
        if last == 0:
            return None
        start = starts[last - 1]
        first = last - 1
        while first and starts[first - 1] == start:
            first -= 1
        covering = [
            self._name(names[i])
            for i in range(first, last)
            if not sizes[i] or address - start < sizes[i]
        ]
        if not any(covering):
            return None
        return min(filter(None, covering), key=lambda name: (len(name), name)), start

    def _name(self, offset: int) -> str:
        end = self._names.find(b"\0", offset)
        return self._names[offset : end if end >= 0 else None].decode("utf-8", "replace")


def _check_headers(elf: ELFFile) -> None:
    """Refuse counts of headers that the file has no room for: they would be looped over."""
    sections, segments = elf.num_sections(), elf.num_segments()
    if sections * max(elf["e_shentsize"], 40) > elf.stream_len:
        raise BadElf("corrupt ELF file (section count)")
    if segments * max(elf["e_phentsize"], 32) > elf.stream_len:
        raise BadElf("corrupt ELF file (segment count)")


def _segments(elf: ELFFile) -> list[Segment]:
    return [
        Segment(segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
        for segment in elf.iter_segments("PT_LOAD")
        if segment["p_flags"] & _EXECUTABLE
    ]


def _symbol_section(elf: ELFFile) -> Optional[Section]:
    for kind in ("SHT_SYMTAB", "SHT_DYNSYM"):
        for section in elf.iter_sections(kind):
            return section
    return None


def _bytes_of(elf: ELFFile, section: Section) -> bytes:
    # Not section.data(): that would also inflate and zero-fill, at sizes a
    # corrupt file can choose.
    elf.stream.seek(section["sh_offset"])
    data: bytes = elf.stream.read(min(section["sh_size"], elf.stream_len))
    return data


def _functions(elf: ELFFile, table: Section) -> tuple[array[int], array[int], array[int]]:
    """Starts, sizes and name offsets, ascending by start.

    By hand: pyelftools makes an object of each symbol, 50 times slower.
    """
    order = "<" if elf.little_endian else ">"
    if elf.elfclass == 64:
        layout = struct.Struct(order + "IBBHQQ")  # name, info, other, section, value, size
        columns = (4, 5, 0, 1, 3)
    else:
        layout = struct.Struct(order + "IIIBBH")  # name, value, size, info, other, section
        columns = (1, 2, 0, 3, 5)
    value, size, name, info, section = columns
    data = _bytes_of(elf, table)
    rows = sorted(
        (entry[value], entry[size], entry[name])
        for entry in layout.iter_unpack(data[: len(data) // layout.size * layout.size])
        if entry[info] & 0xF in _FUNCTION_TYPES and entry[section]
    )
    return (
        array("Q", (row[0] for row in rows)),
        array("Q", (row[1] for row in rows)),
        array("I", (row[2] for row in rows)),
    )
