"""The functions, or other symbols, of one ELF symbol table, as columns."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import compress
from typing import Optional

_NOTYPE, _OBJECT, _FUNC, _GNU_IFUNC = 0, 1, 2, 10  # STT_*

#: Which of a table's symbols are wanted, by their types.
Types = tuple[int, ...]
FUNCTIONS: Types = (_FUNC, _GNU_IFUNC)
#: What the loader calls to learn which function is meant.
RESOLVERS: Types = (_GNU_IFUNC,)
#: Whatever an address can be computed from.
PLACES: Types = (_NOTYPE, _OBJECT, _FUNC)

# One byte of a column at a time, a million rows in some milliseconds.
_IS_SET = bytes(byte != 0 for byte in range(256))

_CODES = "IQQI"
_STRIDE = 64
#: Bytes that a function takes in ``pack``.
ROW_BYTES = 24

Columns = tuple["array[int]", "array[int]", "array[int]", "array[int]"]


class SymbolTable:
    """Symbols by address.

    ``columns`` are the order of the rows by start, and each row's start, size
    and name, an offset in ``strings``.
    """

    def __init__(self, columns: Columns, strings: bytes) -> None:
        self._columns = columns
        self._strings = strings
        order, starts, *_ = columns
        self._known: dict[int, list[tuple[int, str]]] = {}
        # To have all starts in order would take as long as the sorting itself.
        self._strides = array("Q", map(starts.__getitem__, order[::_STRIDE]))

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Names and starts, in no order."""
        _, starts, _, names = self._columns
        return zip(map(self._name, names), starts)

    @classmethod
    def parse(
        cls, data: bytes, strings: bytes, *, is64: bool, little: bool, types: Types = FUNCTIONS
    ) -> SymbolTable:
        """Those symbols of a table's bytes that are of ``types`` and defined in the file."""
        wanted = bytes(info & 0xF in types for info in range(256))
        row = 24 if is64 else 16
        data = data[: len(data) // row * row]
        words, longs = array("I", data), array("Q", data if is64 else b"")
        # 64 bits: name, info, other, section, value, size; 32: name, value, size, and then those.
        info, section = (4, 6) if is64 else (12, 14)
        mask = _both(
            data[info::row].translate(wanted),
            _either(
                data[section::row].translate(_IS_SET), data[section + 1 :: row].translate(_IS_SET)
            ),
        )
        names = words[0 :: row // 4]
        starts, sizes = (longs[1::3], longs[2::3]) if is64 else (words[1::4], words[2::4])
        if little != (sys.byteorder == "little"):
            for column in (names, starts, sizes):
                column.byteswap()
        starts = array("Q", compress(starts, mask))
        order = array("I", sorted(range(len(starts)), key=starts.__getitem__))
        columns = (
            order, starts, array("Q", compress(sizes, mask)), array("I", compress(names, mask))
        )  # fmt: skip
        return cls(columns, strings)

    def pack(self) -> bytes:
        """The columns, for ``unpack`` on this machine."""
        return b"".join(column.tobytes() for column in self._columns)

    @classmethod
    def unpack(cls, packed: bytes, strings: bytes) -> SymbolTable:
        """The table that ``packed`` was made of, with the strings of its file.

        Raises:
            ValueError: no table has that length.
        """
        count, left = divmod(len(packed), ROW_BYTES)
        if left:
            raise ValueError(f"{len(packed)} bytes are no whole number of functions")
        view, columns = memoryview(packed), []
        for code in _CODES:
            column = array(code)
            column.frombytes(view[: count * column.itemsize])
            view = view[count * column.itemsize :]
            columns.append(column)
        order, starts, sizes, names = columns
        return cls((order, starts, sizes, names), strings)

    def find(self, address: int) -> Optional[tuple[str, int]]:
        """Name and start of the function that ``address`` is in, or None.

        Of several names the shortest is taken: ``mmap`` of ``__mmap`` and ``mmap64``.
        """
        last = self._count_up_to(address)
        if last == 0:
            return None
        candidates = self._known.get(last)
        if candidates is None:
            candidates = self._known[last] = self._ending_at(last)
        start = self._columns[1][self._columns[0][last - 1]]
        for size, name in candidates:
            if not size or address - start < size:
                return name, start
        return None

    def _ending_at(self, last: int) -> list[tuple[int, str]]:
        """Sizes and names of the functions that start where the one before ``last`` does.

        The best name first. Linkers make one of equal functions: there may be hundreds.
        """
        order, starts, sizes, names = self._columns
        found = []
        for index in range(last - 1, -1, -1):
            row = order[index]
            if starts[row] != starts[order[last - 1]]:
                break
            name = self._name(names[row])
            if name:
                found.append((sizes[row], name))
        return sorted(found, key=lambda each: (len(each[1]), each[1]))

    def _count_up_to(self, address: int) -> int:
        """How many functions start at or below ``address``."""
        order, starts, *_ = self._columns
        stride = bisect_right(self._strides, address)
        low, high = max(0, stride - 1) * _STRIDE, min(len(order), stride * _STRIDE)
        while low < high:
            middle = (low + high) // 2
            if address < starts[order[middle]]:
                high = middle
            else:
                low = middle + 1
        return low

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset : end if end >= 0 else None].decode("utf-8", "replace")


def _both(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") & int.from_bytes(b, "little")).to_bytes(len(a), "little")


def _either(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(len(a), "little")
