"""Call frame information of an ELF file: for each address of its code, how to find the caller.

Read from ``.eh_frame`` by way of the table in ``.eh_frame_hdr`` (Linux Standard
Base, Core, 10.6), which a stripped file has too, as exceptions need it. GCC's
``-static`` leaves that out: then all of ``.eh_frame`` is gone through once.
"""

from __future__ import annotations

import io
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Optional

from corelock.symbolize.elf import BadElf, refusing, section_bytes

if TYPE_CHECKING:
    from elftools.dwarf.callframe import FDE
    from elftools.elf.elffile import ELFFile

_MACHINES = frozenset(("EM_X86_64", "EM_AARCH64"))

# DW_EH_PE_*, how a pointer is encoded: its format in the low four bits, and
# in the upper ones what it is relative to.
_FORMATS = {0x0: "Q", 0x2: "H", 0x3: "I", 0x4: "Q", 0xA: "h", 0xB: "i", 0xC: "q"}
_ABSOLUTE, _TO_ITSELF, _TO_HEADER = 0x00, 0x10, 0x30
_OMITTED = 0xFF

_DEF_CFA, _DEF_CFA_SF, _GNU_ARGS_SIZE = 0x0C, 0x12, 0x2E

# An entry is parsed whole. The largest of libLLVM, librustc and libjvm has
# 12 KiB; a corrupt length would keep us busy for minutes.
_LARGEST_ENTRY = 1 << 16
# Static programs have some thousands; going through these takes a second.
_MOST_ENTRIES = 1 << 19
_FUNCTIONS = 4096


class Row(NamedTuple):
    """How to find the caller of a frame (DWARF 5, 6.4.1).

    ``cfa`` is pyelftools' ``CFARule``; ``rules`` has its ``RegisterRule`` by
    DWARF register number, that of the return address being ``return_column``.
    A ``signal_frame``'s caller did not call: it was interrupted.
    """

    cfa: Any
    rules: dict[int, Any]
    return_column: int
    signal_frame: bool


class _Function(NamedTuple):
    start: int
    size: int
    row_starts: list[int]
    rows: list[Row]


class ElfFrames:
    """Call frame information of one ELF file. Addresses are link-time ones.

    A file without any is not an error: nothing is found in it then. Signed
    return addresses of arm64 take pyelftools 0.31.

    Raises:
        BadElf: what the file holds makes no sense, or is for another machine
            than x86-64 or arm64.
        OSError: it cannot be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        # Not needed, and slow to import, unless a stack is unwound.
        from elftools.elf.elffile import ELFFile

        #: How many functions were parsed so far.
        self.parsed = 0
        self._functions: dict[int, _Function] = {}
        self._table, self._base = memoryview(b""), 0
        self._data, self._address = b"", 0
        with refusing():
            self._read(ELFFile(file))

    def find(self, address: int) -> Optional[Row]:
        """The row for the instruction at ``address``, or None if none covers it.

        Parses the entry of that one function, and keeps it.

        Raises:
            BadElf: it makes no sense.
        """
        index = bisect_right(self._table[::2], address - self._base) - 1
        if index < 0:
            return None
        offset = self._table[2 * index + 1] + self._base - self._address
        function = self._functions.get(offset)
        if function is None:
            function = self._parse(offset)
            if len(self._functions) >= _FUNCTIONS:
                self._functions.clear()
            self._functions[offset] = function
        if not 0 <= address - function.start < function.size:
            return None
        row = bisect_right(function.row_starts, address) - 1
        return function.rows[row] if row >= 0 else None

    def _read(self, elf: ELFFile) -> None:
        machine = elf["e_machine"]
        if machine not in _MACHINES or elf.elfclass != 64 or not elf.little_endian:
            raise BadElf(f"call frames of {machine}, {elf.elfclass} bit, are not read")
        # A corrupt count would be looped over.
        if elf.num_segments() * max(elf["e_phentsize"], 56) > elf.stream_len:
            raise BadElf("corrupt ELF file (segment count)")
        for segment in elf.iter_segments("PT_GNU_EH_FRAME"):
            self._read_header(elf, segment["p_vaddr"])
            return
        self._read_section(elf)

    def _read_header(self, elf: ELFFile, address: int) -> None:
        header = _bytes_from(elf, address)
        version, frames_encoding, count_encoding, table_encoding = header[:4]
        if version != 1:
            raise BadElf(f"corrupt ELF file (.eh_frame_hdr version {version})")
        if _OMITTED in (frames_encoding, count_encoding, table_encoding):
            return
        self._address, end = _pointer(header, 4, frames_encoding, address)
        count, start = _pointer(header, end, count_encoding, address)
        form = _FORMATS[table_encoding & 0xF]
        end = start + 2 * struct.calcsize(form) * count
        relative_to = table_encoding & 0xF0
        if not start <= end <= len(header) or relative_to not in (_ABSOLUTE, _TO_HEADER):
            raise BadElf("corrupt ELF file (.eh_frame_hdr table)")
        # Pairs of a function's start and its entry, ascending.
        self._table = memoryview(header[start:end]).cast("B").cast(form)
        self._base = address if relative_to == _TO_HEADER else 0
        self._data = _bytes_from(elf, self._address)

    def _read_section(self, elf: ELFFile) -> None:
        if elf.num_sections() * max(elf["e_shentsize"], 64) > elf.stream_len:
            raise BadElf("corrupt ELF file (section count)")
        section = elf.get_section_by_name(".eh_frame")
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return
        self._data, self._address = section_bytes(elf, section), section["sh_addr"]
        found = sorted(self._starts())
        pairs = array("Q", (number for pair in found for number in pair))
        self._table = memoryview(pairs)

    def _starts(self) -> Iterator[tuple[int, int]]:
        """Where each function of the section begins, and the address of its entry."""
        data, offset = self._data, 0
        encodings: dict[int, Optional[int]] = {}
        for _ in range(_MOST_ENTRIES):
            if offset > len(data) - 12:
                return
            length, to_cie = struct.unpack_from("<II", data, offset)
            if length and to_cie:
                cie = offset + 4 - to_cie
                if cie not in encodings:
                    encodings[cie] = self._pointer_encoding(cie)
                encoding = encodings[cie]
                # An entry that cannot be read is of one function, and costs no other one.
                if encoding is not None and 12 <= length <= _LARGEST_ENTRY:
                    try:
                        start, _ = _pointer(data, offset + 8, encoding, self._address)
                    except (KeyError, struct.error):
                        start = 0
                    if 0 < start < 1 << 64:
                        yield start, self._address + offset
            # Each object file's may end with a 0.
            offset += 4 + length
        raise BadElf("too many functions in .eh_frame")

    def _pointer_encoding(self, offset: int) -> Optional[int]:
        """How a CIE says that its FDEs have their addresses, or None if it makes no sense."""
        try:
            cie = self._entry(offset)
            version, end = cie[8], cie.index(0, 9)
            augmentation, at = cie[9:end], end + 1
            if not augmentation.startswith(b"z"):
                return None if augmentation else _ABSOLUTE
            # The factors, the return address's column, and the augmentation's length.
            for field in range(4):
                while not (field == 2 and version == 1) and cie[at] & 0x80:
                    at += 1
                at += 1
            for letter in augmentation[1:]:
                if letter == ord("R"):
                    return cie[at]
                if letter == ord("P"):
                    at += struct.calcsize(_FORMATS[cie[at] & 0xF])
                if letter in b"PL":
                    at += 1
                elif letter not in b"SB":
                    return None
        except (BadElf, LookupError, ValueError):
            return None
        return _ABSOLUTE

    def _parse(self, offset: int) -> _Function:
        self.parsed += 1
        try:
            return self._function(offset)
        except BadElf:
            raise
        except Exception as error:
            raise BadElf("corrupt call frame information (an entry makes no sense)") from error

    def _function(self, offset: int) -> _Function:
        from elftools.dwarf.callframe import CallFrameInfo
        from elftools.dwarf.structs import DWARFStructs

        fde = self._entry(offset)
        (to_cie,) = struct.unpack_from("<I", fde, 4)
        cie = self._entry(offset + 4 - to_cie)
        if to_cie == 0 or cie[4:8] != bytes(4):
            raise BadElf("corrupt call frame information (no CIE)")
        # pyelftools parses sections. So it is given one of these two entries,
        # at an address that leaves the FDE where it is, its pointers being
        # relative to themselves.
        section = cie + fde[:4] + struct.pack("<I", len(cie) + 4) + fde[8:]
        structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
        parsed_cie, parsed_fde = CallFrameInfo(
            io.BytesIO(section),
            len(section),
            self._address + offset - len(cie),
            structs,
            for_eh_frame=True,
        ).get_entries()
        return _decoded(parsed_fde)

    def _entry(self, offset: int) -> bytes:
        if not 0 <= offset <= len(self._data) - 4:
            raise BadElf("corrupt call frame information (entry outside)")
        (length,) = struct.unpack_from("<I", self._data, offset)
        # Neither the 0 that ends the section, nor the 2**32 - 1 of a 64-bit
        # entry, which no compiler writes.
        if not 8 <= length <= _LARGEST_ENTRY or offset + 4 + length > len(self._data):
            raise BadElf("corrupt call frame information (entry length)")
        return self._data[offset : offset + 4 + length]


def _bytes_from(elf: ELFFile, address: int) -> bytes:
    """What is loaded at ``address``, to the end of its segment."""
    for segment in elf.iter_segments("PT_LOAD"):
        skipped = address - segment["p_vaddr"]
        if 0 <= skipped < segment["p_filesz"]:
            elf.stream.seek(segment["p_offset"] + skipped)
            data: bytes = elf.stream.read(min(segment["p_filesz"] - skipped, elf.stream_len))
            return data
    raise BadElf("corrupt ELF file (call frames not loaded)")


def _pointer(header: bytes, offset: int, encoding: int, address: int) -> tuple[int, int]:
    """The pointer at ``offset`` in ``header``, which is at ``address``, and where it ends."""
    form = "<" + _FORMATS[encoding & 0xF]
    (value,) = struct.unpack_from(form, header, offset)
    base = {_ABSOLUTE: 0, _TO_ITSELF: address + offset, _TO_HEADER: address}[encoding & 0xF0]
    return base + value, offset + struct.calcsize(form)


def _decoded(fde: FDE) -> _Function:
    cie = fde.cie
    for entry in (cie, fde):
        _mend(entry, cie["data_alignment_factor"])
    # Not from pyelftools' dict of the augmentation, which has no name for 'S'.
    signal_frame = b"S" in cie["augmentation"]
    table = fde.get_decoded().table
    rows = []
    for line in table:
        rules = {number: rule for number, rule in line.items() if isinstance(number, int)}
        rows.append(Row(line["cfa"], rules, cie["return_address_register"], signal_frame))
    starts = [line["pc"] for line in table]
    return _Function(fde["initial_location"], fde["address_range"], starts, rows)


def _mend(entry: Any, data_alignment: int) -> None:
    """Rewrite what pyelftools (to 0.33 at least) parses well but decodes wrongly."""
    # It takes GNU_args_size, which changes no row, for an unknown instruction.
    entry.instructions = [one for one in entry.instructions if one.opcode != _GNU_ARGS_SIZE]
    for instruction in entry.instructions:
        if instruction.opcode == _DEF_CFA_SF:
            # It multiplies this by the wrong factor (DWARF 5, 6.4.2.2).
            register, offset = instruction.args
            instruction.opcode, instruction.args = _DEF_CFA, [register, offset * data_alignment]
