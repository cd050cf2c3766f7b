"""The separate files that distributions put the symbols of stripped files in."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Optional

from corelock.symbolize.cache import Cache
from corelock.symbolize.counts import Counts
from corelock.symbolize.elf import BadElf, ElfFile
from corelock.symbolize.files import open_regular, why
from corelock.symbolize.table import FUNCTIONS, SymbolTable, Types

_DEBUG = "/usr/lib/debug"


def separate_table(
    elf: ElfFile,
    path: str,
    roots: Sequence[str],
    problems: Counts,
    cache: Optional[Cache],
    types: Types = FUNCTIONS,
) -> Optional[SymbolTable]:
    """The symbols of the debug file of ``elf``, or None; a bad one counts in ``problems``.

    It is looked for in each of ``roots``, by build-id and by the name in
    ``.gnu_debuglink``, and taken only if it has that id, or that checksum: a
    symbolic link in a target's root leads to our files, and may be any.
    """
    try:
        build_id, link = elf.build_id(), elf.debuglink()
    except BadElf as error:
        problems.add(f"{os.path.basename(path)}: {error}")
        return None
    for root in roots:
        for candidate, crc in _candidates(path, build_id, link):
            try:
                with open_regular(root + candidate) as file:
                    table = _table(file, build_id, crc, cache, types)
            except FileNotFoundError:
                continue
            except (BadElf, OSError) as error:
                reason = why(error) if isinstance(error, OSError) else str(error)
                problems.add(f"{os.path.basename(candidate)}: {reason}")
                continue
            if table is not None:
                return table
    return None


def _candidates(
    path: str, build_id: Optional[str], link: Optional[tuple[str, int]]
) -> Iterator[tuple[str, Optional[int]]]:
    """Where it may be, and the checksum it must have there, or None to go by the id."""
    if build_id is not None:
        yield f"{_DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", None
    if link is None or not link[0]:
        return
    name, crc = link
    folder = os.path.dirname(path)
    for place in (folder, f"{folder}/.debug", f"{_DEBUG}{folder}"):
        # A file that names itself has no other.
        if f"{place}/{name}" != path:
            yield f"{place}/{name}", crc


def _table(
    file: BinaryIO,
    build_id: Optional[str],
    crc: Optional[int],
    cache: Optional[Cache],
    types: Types,
) -> Optional[SymbolTable]:
    if crc is not None and _crc(file) != crc:
        raise BadElf("is truncated or of another version (its checksum differs)")
    elf = ElfFile(file)
    if crc is None and elf.build_id() != build_id:
        raise BadElf("is of another version (its build-id differs)")
    return elf.table("SHT_SYMTAB", cache, types)


def _crc(file: BinaryIO) -> int:
    crc = 0
    for chunk in iter(lambda: file.read(1 << 20), b""):
        crc = zlib.crc32(chunk, crc)
    file.seek(0)
    return crc
