"""What the kernel should not be asked to put a breakpoint on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from corelock.probes.places import Place
from corelock.symbolize.files import open_regular, why

#: Of x86-64 the kernel decodes an instruction with a VEX or EVEX prefix, and goes by its opcode as
#: if it had none (arch/x86/kernel/uprobes.c: branch_setup_xol_ops looks at the opcode alone). What
#: it takes for a jump it "emulates": vpbroadcastb, an EVEX 7A, becomes jp, and the program goes on
#: without what it was to compute. Others it refuses, as for input and output.
VECTOR = "its first instruction is one of AVX, which the kernel takes for another"
_VECTOR_PREFIXES = frozenset((b"\x62", b"\xc4", b"\xc5"))


def sound(places: Sequence[Place]) -> tuple[list[Place], dict[str, tuple[str, ...]]]:
    """Places in files that can be probed, and by reason labels of those that should not be.

    Raises:
        UnusableFile: a file cannot be read any more.
    """
    if os.uname().machine != "x86_64":
        return list(places), {}
    good: list[Place] = []
    vector: list[Place] = []
    for path in dict.fromkeys(place.name for place in places):
        here = [place for place in places if place.name == path]
        for place, byte in zip(here, _first_bytes(path, here)):
            (vector if byte in _VECTOR_PREFIXES else good).append(place)
    return good, {VECTOR: tuple(dict.fromkeys(place.label for place in vector))} if vector else {}


def _first_bytes(path: str, places: Sequence[Place]) -> list[bytes]:
    # Imports what takes long; places in files have it imported.
    from corelock.probes.code_files import patiently, refuse

    def look() -> list[bytes]:
        with open_regular(path) as file:
            return [os.pread(file.fileno(), 1, place.address) for place in places]

    try:
        return patiently(path, look)
    except OSError as error:
        refuse(path, why(error), "It was there a moment ago: try again.")
