"""ELF files: where their code is linked to, what identifies them, and their functions."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Callable, NamedTuple, Optional

from corelock.symbolize.cache import Cache
from corelock.symbolize.dynamic import linked_symbols
from corelock.symbolize.table import FUNCTIONS, ROW_BYTES, SymbolTable, Types

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section

#: Flags of segments: PF_X and PF_W.
EXECUTABLE, WRITABLE = 1, 2
_NT_GNU_BUILD_ID = 3

_MOST_BYTES = 1 << 30
_MOST_ID_BYTES = 64
_MOST_DEBUGDATA_BYTES = 64 << 20
#: Smaller tables are sorted in about the time that the cache would take.
_WORTH_CACHING = 50_000


class BadElf(ValueError):
    """The file is not ELF, or what it holds makes no sense."""


class Segment(NamedTuple):
    """Bytes ``[offset, offset + size)`` of the file, and where they are linked to."""

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

        with refusing():
            self._elf = ELFFile(file)
            _check_headers(self._elf)

    @property
    def machine(self) -> str:
        """As pyelftools has it: ``EM_X86_64``, ``EM_AARCH64``..."""
        return str(self._elf["e_machine"])

    @property
    def word_format(self) -> str:
        """An address in the file, for :mod:`struct`."""
        order = "<" if self._elf.little_endian else ">"
        return order + ("Q" if self._elf.elfclass == 64 else "I")

    @property
    def is_fixed(self) -> bool:
        """Whether it runs at the addresses it is linked to, and nowhere else."""
        return bool(self._elf["e_type"] == "ET_EXEC")

    @property
    def has_sections(self) -> bool:
        """Whether it has headers of sections: running it takes none, most else does."""
        with refusing():
            return bool(self._elf.num_sections())

    def segments(self, flags: int = EXECUTABLE) -> list[Segment]:
        """Those with all of ``flags``."""
        with refusing():
            return [
                Segment(segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
                for segment in self._elf.iter_segments("PT_LOAD")
                if segment["p_flags"] & flags == flags
            ]

    def address_of_section(self, name: str) -> Optional[int]:
        """Where it is linked to, or None if there is none."""
        with refusing():
            section = self._elf.get_section_by_name(name)
            return None if section is None else int(section["sh_addr"])

    def build_id(self) -> Optional[str]:
        """In hexadecimal, or None."""
        with refusing():
            for section in self._elf.iter_sections("SHT_NOTE"):
                for name, kind, note in self._notes(section):
                    if name == b"GNU" and kind == _NT_GNU_BUILD_ID:
                        if 2 <= len(note) <= _MOST_ID_BYTES:  # it becomes the name of a file
                            return note.hex()
                        break
        return None

    def notes(self, section: str) -> list[tuple[bytes, int, bytes]]:
        """Owner, type and contents of the notes in the sections of that name."""
        with refusing():
            sections = (each for each in self._elf.iter_sections() if each.name == section)
            return [note for each in sections for note in self._notes(each)]

    def _notes(self, section: Section) -> Iterator[tuple[bytes, int, bytes]]:
        return _notes(section_bytes(self._elf, section), self._elf.little_endian)

    def debuglink(self) -> Optional[tuple[str, int]]:
        """The name of the file with the debugging information, and its CRC, or None."""
        with refusing():
            data = self._bytes_of_name(".gnu_debuglink")
            if data is None:
                return None
            name, _, rest = data.partition(b"\0")
            order = "<I" if self._elf.little_endian else ">I"
            (crc,) = struct.unpack(order, rest[-4:])
            # A name, whatever the file says: not a way out of the folders it is looked for in.
            return os.fsdecode(os.path.basename(name)), crc

    def table(
        self, kind: str, cache: Optional[Cache] = None, types: Types = FUNCTIONS
    ) -> Optional[SymbolTable]:
        """The symbols of the first section of ``kind`` (``SHT_SYMTAB``...), or None."""
        with refusing():
            if kind == "SHT_DYNSYM" and not self.has_sections:
                parts = linked_symbols(self._elf)
                if parts is None:
                    return None
                data, strings = (_bytes_at(self._elf, *part) for part in parts)
                return self._parse(data, strings, types)
            section = next(self._elf.iter_sections(kind), None)
            if section is None:
                return None
            data = section_bytes(self._elf, section)
            strings = section_bytes(self._elf, self._elf.get_section(section["sh_link"]))
            if cache is None or types != FUNCTIONS or len(data) < _WORTH_CACHING * ROW_BYTES:
                return self._parse(data, strings, types)
            return self._cached(data, strings, cache)

    def debugdata(self, types: Types = FUNCTIONS) -> Optional[SymbolTable]:
        """The symbols that distributions keep, compressed, in stripped files, or None."""
        with refusing():
            data = self._bytes_of_name(".gnu_debugdata")
            if data is None:
                return None
            import lzma

            inner = lzma.LZMADecompressor().decompress(data, _MOST_DEBUGDATA_BYTES)
        return ElfFile(io.BytesIO(inner)).table("SHT_SYMTAB", types=types)

    def _cached(self, data: bytes, strings: bytes, cache: Cache) -> SymbolTable:
        """By build-id, and by what the table says: an id can be forged, or outlive strip."""
        build_id = self.build_id()
        if build_id is None:
            return self._parse(data, strings, FUNCTIONS)
        key = f"{build_id}-{hashlib.blake2b(data, digest_size=16).hexdigest()}"
        packed = cache.get(key)
        if packed is not None:
            return SymbolTable.unpack(packed, strings)
        table = self._parse(data, strings, FUNCTIONS)
        cache.put(key, table.pack())
        return table

    def _parse(self, data: bytes, strings: bytes, types: Types) -> SymbolTable:
        elf = self._elf
        is64, little = elf.elfclass == 64, bool(elf.little_endian)
        return SymbolTable.parse(data, strings, is64=is64, little=little, types=types)

    def _bytes_of_name(self, name: str) -> Optional[bytes]:
        section = self._elf.get_section_by_name(name)
        return None if section is None else section_bytes(self._elf, section)


class ElfSymbols:
    """Functions, or other symbols, of one ELF file. Addresses are as ``nm`` shows them.

    ``separate``, given a file that was stripped, finds those of its
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
        types: Types = FUNCTIONS,
    ) -> None:
        elf = ElfFile(file)
        #: Whether there is more to be found than what linking needs.
        self.has_sections = elf.has_sections
        self._segments = elf.segments()
        whole = elf.table("SHT_SYMTAB", cache, types)
        if whole is None and separate is not None:
            whole = separate(elf)
        #: Whether functions may be missing, for lack of a debug file.
        self.stripped = whole is None
        #: What is wrong with a part of it that can be done without, or None.
        self.problem: Optional[str] = None
        tables: list[Optional[SymbolTable]] = [whole]
        if not whole:  # there may be one that has no functions
            tables = [elf.table("SHT_DYNSYM", cache, types), self._debugdata(elf, types)]
        self._tables = [table for table in tables if table is not None]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Names and addresses, in no order; a name may come more than once."""
        for table in self._tables:
            yield from table

    def _debugdata(self, elf: ElfFile, types: Types) -> Optional[SymbolTable]:
        try:
            return elf.debugdata(types)
        except BadElf as error:
            self.problem = f".gnu_debugdata: {error}"
            return None

    def address_of(self, file_offset: int) -> Optional[int]:
        """The address of the code at ``file_offset``, or None where there is no code."""
        for segment in self._segments:
            if 0 <= file_offset - segment.offset < segment.size:
                return segment.address + file_offset - segment.offset
        return None

    def offset_of(self, address: int) -> Optional[int]:
        """Where in the file the code at ``address`` is, or None where there is no code."""
        return offset_in(self._segments, address)

    def find(self, address: int) -> Optional[tuple[str, int]]:
        """Name and start of the function that ``address`` is in, or None.

        Of several names the shortest is taken: ``mmap`` of ``__mmap`` and ``mmap64``.
        """
        for table in self._tables:
            found = table.find(address)
            if found is not None:
                return found
        return None


def offset_in(segments: Sequence[Segment], address: int) -> Optional[int]:
    """Where in the file that is which is linked to ``address``, or None if it is in none."""
    for segment in segments:
        if 0 <= address - segment.address < segment.size:
            return segment.offset + address - segment.address
    return None


@contextmanager
def refusing() -> Iterator[None]:
    """Make one error of all that corrupt files lead to."""
    try:
        yield
    except BadElf:
        raise
    except Exception as error:
        # EINVAL: it was to be read from where no file can go on.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # pyelftools meets a corrupt file with whatever its reading led
        # to: ELFError, but also AssertionError, KeyError, UnicodeError...
        raise BadElf("corrupt ELF file (its headers or tables make no sense)") from error


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
    return _bytes_at(elf, section["sh_offset"], section["sh_size"])


def _bytes_at(elf: ELFFile, offset: int, size: int) -> bytes:
    if size > _MOST_BYTES or offset + size > elf.stream_len:
        raise BadElf("corrupt ELF file (truncated)")
    elf.stream.seek(offset)
    data: bytes = elf.stream.read(size)
    if len(data) < size:
        raise BadElf("corrupt ELF file (truncated)")
    return data


def _notes(data: bytes, little: bool) -> Iterator[tuple[bytes, int, bytes]]:
    header = struct.Struct("<III" if little else ">III")
    at = 0
    while at + header.size <= len(data):
        name_size, size, kind = header.unpack_from(data, at)
        at += header.size
        name = data[at : at + name_size].rstrip(b"\0")
        at += name_size + 3 & ~3
        yield name, kind, data[at : at + size]
        at += size + 3 & ~3
