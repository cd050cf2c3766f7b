"""Whether a process has the breakpoints that the kernel was asked for in the code that it runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Callable, Optional

from corelock.probes.places import Place
from corelock.symbolize.maps import MapsReader, Region
from corelock.symbolize.modules import is_mapped_in
from corelock.symbolize.patience import Patience, TimedOut

_TIMEOUT_S = 1.0
#: A breakpoint's on arm64, and more than on x86-64.
_INSTRUCTION_BYTES = 4


def files_without(
    pid: int, places: Iterable[Place], lock_is_held: Callable[[int], bool]
) -> list[str]:
    """Files of attached ``places`` that process ``pid`` runs and has no breakpoint of.

    Its memory is as the file then: what it has mapped is another copy, which overlayfs has under
    the same number since the file was touched, or is mapped in a way that takes none. What cannot
    be looked at now is taken for well.
    """
    by_file: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        if place.kind == "USER":
            by_file[place.name].append(place)
    if not by_file:
        return []
    regions = MapsReader(lock_is_held=lock_is_held).read_all(pid).regions
    # Its memory is read under the same lock.
    if not regions or lock_is_held(pid):
        return []
    try:
        return Patience(_TIMEOUT_S).call(
            pid, lambda: [path for path in by_file if _lacks(pid, path, by_file[path], regions)]
        )
    except TimedOut:
        return []


def _lacks(pid: int, path: str, places: Sequence[Place], regions: Sequence[Region]) -> bool:
    try:
        with open(path, "rb") as file, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            mapped = [r for r in regions if r.has_file and is_mapped_in(file.fileno(), r)]
            for place in places:
                address = _address(place.address, mapped)
                if address is not None:
                    of_file = os.pread(file.fileno(), _INSTRUCTION_BYTES, place.address)
                    return os.pread(memory.fileno(), _INSTRUCTION_BYTES, address) == of_file
    except OSError:  # it has exited, or we may not look
        pass
    return False


def _address(offset: int, regions: Sequence[Region]) -> Optional[int]:
    """Where an offset in a file is mapped as code; None if it is not."""
    for region in regions:
        if 0 <= offset - region.offset < region.end - region.start:
            return region.start + offset - region.offset
    return None
