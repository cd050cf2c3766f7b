"""The code that the kernel maps into every process, by this process's own copy of it."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Optional

from corelock.symbolize.maps import Region, parse_maps

if TYPE_CHECKING:
    from corelock.symbolize.cfi import ElfFrames
    from corelock.symbolize.elf import ElfSymbols

VDSO = "[vdso]"
_OWN_CLASS = 2 if sys.maxsize > 1 << 32 else 1


class Vdso:
    """Symbols and call frames of the vdso, read when one is first looked up."""

    def __init__(self) -> None:
        self._region: Optional[Region] = None
        self._symbols: Optional[ElfSymbols] = None
        self._frames: Optional[ElfFrames] = None
        self._tried = False

    def of(self, region: Region, elf_class: int) -> Optional[ElfSymbols]:
        """The symbols for another process's vdso, or None if it has another one than ours.

        The kernel has one for each ABI, so the same class (``EI_CLASS`` of the
        program) and the same size are the same image.
        """
        return self._symbols if self._is_ours(region, elf_class) else None

    def frames_of(self, region: Region, elf_class: int) -> Optional[ElfFrames]:
        """Likewise its call frame information."""
        return self._frames if self._is_ours(region, elf_class) else None

    def _is_ours(self, region: Region, elf_class: int) -> bool:
        if not self._tried:
            self._tried = True
            self._read()
        if self._region is None or elf_class != _OWN_CLASS:
            return False
        return region.end - region.start == self._region.end - self._region.start

    def _read(self) -> None:
        try:
            from corelock.symbolize.cfi import ElfFrames
            from corelock.symbolize.elf import ElfSymbols

            with open("/proc/self/maps", "rb", buffering=0) as file:
                regions = parse_maps(b"".join(iter(lambda: file.read(1 << 16), b"")))
            region = next(region for region in regions if region.path == VDSO)
            memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                image = os.pread(memory, region.end - region.start, region.start)
            finally:
                os.close(memory)
            self._symbols = ElfSymbols(io.BytesIO(image))
            self._region = region
            self._frames = ElfFrames(io.BytesIO(image))
        except Exception:
            # Even if pyelftools is missing: the trace is worth more than names.
            return
