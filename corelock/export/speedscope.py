"""Stacks for speedscope, one profile of hold times and one of wait times; ``docs/exports.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, TextIO

from corelock.analysis.batches import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.export.fields import well_formed
from corelock.export.jsonout import write_object
from corelock.export.remarks import missing_in_words
from corelock.export.samples import Sample, SampleFrame, What, samples, shown
from corelock.version import VERSION

BINARY = False

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_Frames = dict[tuple[str, Optional[str]], int]


def write(
    stream: TextIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
) -> None:
    """Write one object, and a line end."""
    frames: _Frames = {}
    sums: dict[What, dict[tuple[int, ...], int]] = {"hold": {}, "wait": {}}
    for sample in samples(sources, selection, progress):
        stack = tuple(_numbers(frames, _stack(sample, with_host=len(sources) > 1)))
        of_what = sums[sample.what]
        of_what[stack] = of_what.get(stack, 0) + sample.total_ns
    write_object(stream, _members(sources, frames, sums).items())


def _stack(sample: Sample, *, with_host: bool) -> Iterable[SampleFrame]:
    if with_host:
        yield SampleFrame(shown(sample.source.label))
    yield SampleFrame(shown(sample.row.comm))
    yield from sample.user
    yield from sample.kernel


def _numbers(frames: _Frames, stack: Iterable[SampleFrame]) -> Iterable[int]:
    return (frames.setdefault((frame.name, frame.module), len(frames)) for frame in stack)


def _members(
    sources: Sequence[Source], frames: _Frames, sums: dict[What, dict[tuple[int, ...], int]]
) -> dict[str, Any]:
    hosts = ", ".join(well_formed(source.label) for source in sources)
    return {
        "$schema": _SCHEMA,
        "exporter": f"corelock {VERSION}",
        "name": "; ".join([f"mmap_lock of {hosts}", *missing_in_words(sources)]),
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(*frame) for frame in frames]},
        "profiles": [_profile(what, of_what) for what, of_what in sums.items()],
    }


def _frame(name: str, module: Optional[str]) -> dict[str, str]:
    return {"name": name} if module is None else {"name": name, "file": module}


def _profile(what: What, sums: dict[tuple[int, ...], int]) -> dict[str, Any]:
    # Stacks that begin alike one after the other: speedscope's first view keeps this order.
    ordered = sorted(sums.items())
    return {
        "type": "sampled",
        "name": f"{what} time",
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(sums.values()),
        "samples": [stack for stack, _ in ordered],
        "weights": [total_ns for _, total_ns in ordered],
    }
