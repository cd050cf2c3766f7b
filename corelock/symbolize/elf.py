"""ELF files: where their code is linked to, what identifies them, and their functions."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Callable, NamedTuple, Optional

from corelock.symbolize.cache import Cache
from corelock.symbolize.table import ROW_BYTES, SymbolTable

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section

_EXECUTABLE = 1  # PF_X
_NT_GNU_BUILD_ID = 3

_MOST_BYTES = 1 << 30
_MOST_ID_BYTES = 64
_MOST_DEBUGDATA_BYTES = 64 << 20
#: Smaller tables are sorted in about the time that the cache would take.
_WORTH_CACHING = 50_000


class BadElf(ValueError):
    """The file is not ELF, or what it holds makes no sense."""


class Segment(NamedTuple):
    """Executable bytes ``[offset, offset + size)`` of the file, and where they are linked to."""

    offset: int
    size: int
    address: int


class ElfFile:
    """The parts of an open ELF file that symbols need; ``file`` must stay open while they do.

    Raises:
        BadElf: what the file holds makes no sense. So do the methods.
        OSError: it cannot be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        # Not needed, and slow to import, unless a user frame is looked up.
        from elftools.elf.elffile import ELFFile

        with _refusing():
            self._elf = ELFFile(file)
            _check_headers(self._elf)

    def segments(self) -> list[Segment]:
        """The executable ones."""
        with _refusing():
            return [
                Segment(segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
                for segment in self._elf.iter_segments("PT_LOAD")
                if segment["p_flags"] & _EXECUTABLE
            ]

    def build_id(self) -> Optional[str]:
        """In hexadecimal, or None."""
        with _refusing():
            for section in self._elf.iter_sections("SHT_NOTE"):
                found = _build_id(section_bytes(self._elf, section), self._elf.little_endian)
                if found:
                    return found
        return None

    def debuglink(self) -> Optional[tuple[str, int]]:
        """The name of the file with the debugging information, and its CRC, or None."""
        with _refusing():
            data = self._bytes_of_name(".gnu_debuglink")
            if data is None:
                return None
            name, _, rest = data.partition(b"\0")
            order = "<I" if self._elf.little_endian else ">I"
            (crc,) = struct.unpack(order, rest[-4:])
            # A name, whatever the file says: not a way out of the folders it is looked for in.
            return os.fsdecode(os.path.basename(name)), crc

    def table(self, kind: str, cache: Optional[Cache] = None) -> Optional[SymbolTable]:
        """The functions of the first section of ``kind`` (``SHT_SYMTAB``...), or None."""
        with _refusing():
            section = next(self._elf.iter_sections(kind), None)
            if section is None:
                return None
            data = section_bytes(self._elf, section)
            strings = section_bytes(self._elf, self._elf.get_section(section["sh_link"]))
            if cache is None or len(data) < _WORTH_CACHING * ROW_BYTES:
                return self._parse(data, strings)
            return self._cached(data, strings, cache)

    def debugdata(self) -> Optional[SymbolTable]:
        """The functions that distributions keep, compressed, in stripped files, or None."""
        with _refusing():
            data = self._bytes_of_name(".gnu_debugdata")
            if data is None:
                return None
            import lzma

            inner = lzma.LZMADecompressor().decompress(data, _MOST_DEBUGDATA_BYTES)
        return ElfFile(io.BytesIO(inner)).table("SHT_SYMTAB")

    def _cached(self, data: bytes, strings: bytes, cache: Cache) -> SymbolTable:
        """By build-id, and by what the table says: an id can be forged, or outlive strip."""
        build_id = self.build_id()
        if build_id is None:
            return self._parse(data, strings)
        key = f"{build_id}-{hashlib.blake2b(data, digest_size=16).hexdigest()}"
        packed = cache.get(key)
        if packed is not None:
            return SymbolTable.unpack(packed, strings)
        table = self._parse(data, strings)
        cache.put(key, table.pack())
        return table

    def _parse(self, data: bytes, strings: bytes) -> SymbolTable:
        elf = self._elf
        return SymbolTable.parse(
            data, strings, is64=elf.elfclass == 64, little=bool(elf.little_endian)
        )

    def _bytes_of_name(self, name: str) -> Optional[bytes]:
        section = self._elf.get_section_by_name(name)
        return None if section is None else section_bytes(self._elf, section)


class ElfSymbols:
    """Functions of one ELF file. Addresses are link-time ones, as ``nm`` shows them.

    ``separate``, given a file that was stripped, finds the functions of its
    debug file, or None. The other symbols, those that linking needs, are then
    not looked at: a debug file has them too.

    Raises:
        BadElf: what the file holds makes no sense.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        file: IO[bytes],
        cache: Optional[Cache] = None,
        separate: Optional[Callable[[ElfFile], Optional[SymbolTable]]] = None,
    ) -> None:
        elf = ElfFile(file)
        self._segments = elf.segments()
        whole = elf.table("SHT_SYMTAB", cache)
        if whole is None and separate is not None:
            whole = separate(elf)
        #: Whether functions may be missing, for lack of a debug file.
        self.stripped = whole is None
        #: What is wrong with a part of it that can be done without, or None.
        self.problem: Optional[str] = None
        tables: list[Optional[SymbolTable]] = [whole]
        if not whole:  # there may be one that has no functions
            tables = [elf.table("SHT_DYNSYM", cache), self._debugdata(elf)]
        self._tables = [table for table in tables if table is not None]

    def _debugdata(self, elf: ElfFile) -> Optional[SymbolTable]:
        try:
            return elf.debugdata()
        except BadElf as error:
            self.problem = f".gnu_debugdata: {error}"
            return None

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
        for table in self._tables:
            found = table.find(address)
            if found is not None:
                return found
        return None


@contextmanager
def _refusing() -> Iterator[None]:
    """Make one error of all that corrupt files lead to."""
    try:
        yield
    except (OSError, BadElf):
        raise
    except Exception as error:
        # pyelftools meets a corrupt file with whatever its reading led
        # to: ELFError, but also AssertionError, KeyError, UnicodeError...
        raise BadElf(f"corrupt ELF file ({type(error).__name__})") from error


def _check_headers(elf: ELFFile) -> None:
    """Refuse counts of headers that the file has no room for: they would be looped over."""
    sections, segments = elf.num_sections(), elf.num_segments()
    if sections * max(elf["e_shentsize"], 40) > elf.stream_len:
        raise BadElf("corrupt ELF file (section count)")
    if segments * max(elf["e_phentsize"], 32) > elf.stream_len:
        raise BadElf("corrupt ELF file (segment count)")


def section_bytes(elf: ELFFile, section: Section) -> bytes:
    """What the file has in ``section``, which may be corrupt."""
    # Not section.data(): that would also inflate and zero-fill, at sizes a
    # corrupt file can choose.
    size = section["sh_size"]
    if size > _MOST_BYTES or section["sh_offset"] + size > elf.stream_len:
        raise BadElf("corrupt ELF file (truncated)")
    elf.stream.seek(section["sh_offset"])
    data: bytes = elf.stream.read(size)
    if len(data) < size:
        raise BadElf("corrupt ELF file (truncated)")
    return data


def _build_id(notes: bytes, little: bool) -> Optional[str]:
    header = struct.Struct("<III" if little else ">III")
    at = 0
    while at + header.size <= len(notes):
        name_size, size, kind = header.unpack_from(notes, at)
        at += header.size
        name = notes[at : at + name_size]
        at += name_size + 3 & ~3
        if kind == _NT_GNU_BUILD_ID and name == b"GNU\0":
            # It becomes the name of a file.
            return notes[at : at + size].hex() if 2 <= size <= _MOST_ID_BYTES else None
        at += size + 3 & ~3
    return None
