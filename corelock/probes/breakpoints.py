"""Whether a process has the breakpoints that the kernel was asked for in the code that it runs."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable

from corelock.probes.places import Place
from corelock.symbolize.maps import MapsReader, Region
from corelock.symbolize.modules import is_mapped_in
from corelock.symbolize.patience import Patience, TimedOut

_TIMEOUT_S = 1.0
#: A breakpoint's on arm64, and more than on x86-64.
_INSTRUCTION_BYTES = 4
#: Of one file; each is one at the process's memory.
_MOST_LOOKS = 32


def files_without(
    pid: int, places: Iterable[Place], lock_is_held: Callable[[int], bool]
) -> list[str]:
    """Files of attached ``places``, all in files, that ``pid`` runs and has no breakpoint of.

    Wherever it has mapped them its memory is as the file then: that is another copy, which
    overlayfs has under the same number since the file was touched, or is mapped in a way that
    takes none. What cannot be looked at now is taken for well.
    """
    by_file: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_file[place.name].append(place)
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
            looked_at = 0
            for offset, address in itertools.islice(_mapped(places, mapped), _MOST_LOOKS):
                of_file = os.pread(file.fileno(), _INSTRUCTION_BYTES, offset)
                if os.pread(memory.fileno(), _INSTRUCTION_BYTES, address) != of_file:
                    return False
                looked_at += 1
            return looked_at > 0
    except OSError:  # it has exited, or we may not look
        return False


def _mapped(places: Iterable[Place], regions: Sequence[Region]) -> Iterator[tuple[int, int]]:
    """Of each place its offset in the file, and each address that it is mapped at."""
    for place in places:
        for region in regions:
            if 0 <= place.address - region.offset < region.end - region.start:
                yield place.address, region.start + place.address - region.offset
