"""ELF images with as many symbols as wanted, put together by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

BASE = 0x10000

_NULL_SECTION = bytes(64)


def without_section_headers(image: bytes) -> bytes:
    """What sstrip leaves of a 64-bit file: it runs as before."""
    return image[:40] + bytes(8) + image[48:58] + bytes(6) + image[64:]


def symbols_image(functions: Sequence[tuple[int, int, bytes]], build_id: bytes = b"") -> bytes:
    """A 64-bit little-endian file with one executable segment and a ``.symtab``.

    ``functions`` are start, size and name of each, in the order of the table.
    The segment maps the whole file from address 0 on.
    """
    names, offsets, end = [b""], [], 1
    for _, _, name in functions:
        names.append(name)
        offsets.append(end)
        end += len(name) + 1
    strings = b"\0".join(names) + b"\0"
    entry = struct.Struct("<IBBHQQ")
    table = bytes(24) + b"".join(
        entry.pack(offset, 0x12, 0, 1, start, size)
        for offset, (start, size, _) in zip(offsets, functions)
    )
    note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id
    section_names = b"\0.symtab\0.strtab\0.shstrtab\0.note.gnu.build-id\0"
    parts = [(2, table, 2, 24), (3, strings, 0, 0), (3, section_names, 0, 0)]
    if build_id:
        parts.append((7, note, 0, 0))
    body, headers, at = b"", [_NULL_SECTION], 64 + 56
    name_at = (1, 9, 17, 27)
    for (kind, data, link, size), name in zip(parts, name_at):
        headers.append(
            struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, len(data), link, 0, 1, size)
        )
        body += data
        at += len(data)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, at, 0, 64, 56, 1, 64,
        len(headers), 3,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 40, 1 << 40, 4096)
    return head + segment + body + b"".join(headers)
