"""Waits and holds on a time line for Perfetto, with arrows to who waited; ``docs/exports.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Optional, Union

import numpy as np

from corelock.analysis.batches import Progress
from corelock.analysis.blockers import blocking_holds
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.errors import CorelockError
from corelock.export._perfetto_slices import Slices
from corelock.export._perfetto_trace import TraceWriter
from corelock.export._perfetto_tracks import Tracks
from corelock.export.fields import well_formed
from corelock.export.remarks import missing_in_words
from corelock.export.timeline import Timeline, longest_cycles
from corelock.recorded import PIDS_BELOW
from corelock.render.units import duration

BINARY = True

#: A cycle is up to two slices; the viewer is a web page, and holds some millions.
MOST_CYCLES = 500_000
# Pids of the second recording go from PIDS_BELOW on, and so on.
_MOST_SOURCES = (1 << 31) // PIDS_BELOW


def write(
    stream: BinaryIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
    most: int = MOST_CYCLES,
) -> list[str]:
    """Write the ``most`` longest cycles; returns what has to be said of those left out.

    Raises:
        CorelockError: there are more recordings than can be told apart.
    """
    if len(sources) > _MOST_SOURCES:
        raise CorelockError(
            f"a Perfetto file takes up to {_MOST_SOURCES} recordings, and these are {len(sources)}",
            "Name fewer.",
        )
    timeline = longest_cycles(sources, selection, most, progress)
    shifts = _shifts(sources)
    writer = TraceWriter(stream)
    _write_clocks(writer, sources, shifts)
    about = writer.other("corelock")
    first_flow = 1
    for at, (source, cycles) in enumerate(zip(sources, timeline.cycles)):
        prefix = f"{well_formed(source.label)}: " if len(sources) > 1 else ""
        tracks = Tracks(writer, source, at * PIDS_BELOW, prefix)
        slices = Slices(source, cycles, _blockers(source, cycles, progress), shifts[at], first_flow)
        slices.write(writer, tracks, progress)
        first_flow += len(cycles)
        args = _about(source, timeline, len(cycles))
        name = f"recording of {well_formed(source.label)}"
        writer.instant(about, source.start_ns + shifts[at], "corelock", name, args)
    writer.flush()
    return _remarks(timeline, most)


def _blockers(source: Source, cycles: Any, progress: Optional[Progress]) -> Any:
    """For each of some cycles the index of the one that kept it longest; -1: not among them."""
    numbers = cycles["number"].astype(np.int64)
    blockers = blocking_holds(source.recording, progress)[numbers]
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], blockers), max(0, len(numbers) - 1))
    return np.where(numbers[order][at] == blockers, order[at], -1)


def _shifts(sources: Sequence[Source]) -> list[int]:
    """What to add to times of each recording to put all on one clock, that of one of them.

    Recordings of one boot share a clock; others are put together by their wall clocks.
    """
    offsets: dict[object, int] = {}
    of_each = []
    for source in sources:
        boot = source.recording.header["host"].get("boot_id") or source
        offset = source.recording.clocks[0].realtime_offset_ns
        of_each.append(offsets.setdefault(boot, offset))
    # On the clock of the host that is up for the longest, no time is negative.
    return [offset - min(of_each) for offset in of_each]


def _write_clocks(writer: TraceWriter, sources: Sequence[Source], shifts: Sequence[int]) -> None:
    """Which wall-clock time it was, and which kernel if there is one."""
    for source, shift in zip(sources, shifts):
        if shift == 0:
            first = source.recording.clocks[0]
            now = first.monotonic_ns
            writer.clocks(now, now + first.realtime_offset_ns, now + first.boottime_offset_ns)
            break
    if len(sources) == 1:
        writer.system(sources[0].host.kernel, sources[0].host.arch)


def _about(source: Source, timeline: Timeline, shown: int) -> dict[str, Union[str, int]]:
    args: dict[str, Union[str, int]] = {
        "kernel": well_formed(source.host.kernel),
        "cycles_shown": shown,
        "cycles_left_out_of_all_recordings": timeline.left_out,
        "longest_left_out_ns": timeline.longest_left_out_ns,
    }
    missing = "; ".join(missing_in_words([source]))
    return {**args, "missing": missing} if missing else args


def _remarks(timeline: Timeline, most: int) -> list[str]:
    if not timeline.left_out:
        return []
    length = duration(timeline.longest_left_out_ns)
    return [
        f"{timeline.left_out:,} cycles of {length} and less are left out: the trace has the "
        f"{most:,} longest"
    ]
