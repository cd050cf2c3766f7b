"""Symbols of files that are probed, those of their debug files included."""

from __future__ import annotations

from typing import BinaryIO, Optional

from corelock.probes.code_files import Found
from corelock.symbolize.cache import Cache, default_folder
from corelock.symbolize.counts import Counts
from corelock.symbolize.debugfiles import separate_table
from corelock.symbolize.elf import ElfFile, ElfSymbols
from corelock.symbolize.table import SymbolTable, Types


def symbols_of(file: BinaryIO, found: Found, types: Types) -> ElfSymbols:
    """The symbols of an open file, or of its debug file.

    Raises:
        BadElf: what the file holds makes no sense.
        OSError: it cannot be read.
    """
    problems = Counts()
    cache = Cache(default_folder(), problems)
    roots = (found.root, "") if found.root else ("",)

    def separate(elf: ElfFile) -> Optional[SymbolTable]:
        return separate_table(elf, found.own_path, roots, problems, cache, types)

    return ElfSymbols(file, cache, separate, types)


def without_version(name: str) -> str:
    """A symbol's name as some tables do not have it: ``memcpy`` of ``memcpy@@GLIBC_2.14``."""
    return name.partition("@")[0]
