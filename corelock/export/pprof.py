"""Stacks and labels as a gzipped profile of pprof; ``docs/exports.md``."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Optional, Union

from corelock.analysis.batches import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.export._pprof_messages import Profile
from corelock.export.fields import well_formed
from corelock.export.remarks import missing_in_words
from corelock.export.samples import Sample, SampleFrame, samples, shown
from corelock.version import VERSION

BINARY = True

_TYPES = (("holds", "count"), ("hold", "nanoseconds"), ("waits", "count"), ("wait", "nanoseconds"))

_SUBJECT = "mmap_lock"


def write(
    stream: BinaryIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
) -> None:
    """Write the profile."""
    builder = _Builder()
    for sample in samples(sources, selection, progress):
        builder.add(sample)
    builder.describe(sources, selection)
    # Without a time and a name in gzip's header: equal profiles are equal files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as file:
        file.write(builder.profile.SerializeToString())


class _Builder:
    """The profile as it grows; whatever samples have in common is in it once."""

    def __init__(self) -> None:
        self.profile: Any = Profile()
        self._strings: dict[str, int] = {}
        self._locations: dict[SampleFrame, int] = {}
        self._functions: dict[str, int] = {}
        self._mappings: dict[str, int] = {}
        self._string("")  # has to be the first
        for type_, unit in _TYPES:
            self.profile.sample_type.add(type=self._string(type_), unit=self._string(unit))
        self.profile.default_sample_type = self._string("hold")
        self._mapping(_SUBJECT)  # viewers take the first for the program's name

    def add(self, sample: Sample) -> None:
        """One more sample, of waits or of holds."""
        entry = self.profile.sample.add()
        stack = reversed((*sample.user, *sample.kernel))
        entry.location_id.extend(self._location(frame) for frame in stack)
        values = sample.cycles, sample.total_ns
        entry.value.extend((*values, 0, 0) if sample.what == "hold" else (0, 0, *values))
        for key, value in _labels(sample):
            label = entry.label.add(key=self._string(key))
            if isinstance(value, int):
                label.num = value
            else:
                label.str = self._string(value)

    def describe(self, sources: Sequence[Source], selection: Selection) -> None:
        """What the samples are of."""
        for line in _comments(sources):
            self.profile.comment.append(self._string(line))
        spans = [selection.span(source) for source in sources]
        first = min(
            start + source.recording.clocks[0].realtime_offset_ns
            for source, (start, _) in zip(sources, spans)
        )
        self.profile.time_nanos = first
        self.profile.duration_nanos = max(end - start for start, end in spans)

    def _string(self, text: str) -> int:
        number = self._strings.get(text)
        if number is None:
            number = self._strings[text] = len(self._strings)
            self.profile.string_table.append(text)
        return number

    def _location(self, frame: SampleFrame) -> int:
        number = self._locations.get(frame)
        if number is None:
            number = self._locations[frame] = len(self._locations) + 1
            mapping = self._mapping(frame.module or _SUBJECT)
            location = self.profile.location.add(
                id=number, mapping_id=mapping, address=frame.address
            )
            location.line.add(function_id=self._function(frame.name))
        return number

    def _function(self, name: str) -> int:
        number = self._functions.get(name)
        if number is None:
            number = self._functions[name] = len(self._functions) + 1
            # Without a system name it is not taken for one that is still to be made readable,
            # which leaves out whatever stands in parentheses.
            self.profile.function.add(id=number, name=self._string(name))
        return number

    def _mapping(self, module: str) -> int:
        number = self._mappings.get(module)
        if number is None:
            number = self._mappings[module] = len(self._mappings) + 1
            # It has functions: nobody has to look for the file to name them.
            self.profile.mapping.add(id=number, filename=self._string(module), has_functions=True)
        return number


def _labels(sample: Sample) -> Iterator[tuple[str, Union[int, str]]]:
    row = sample.row
    pid, tid = row.mm_pid or row.mm_host_pid, row.tid or row.host_tid
    yield "host", well_formed(sample.source.label)
    yield "process", f"{well_formed(row.mm_comm)}[{pid}]"
    yield "thread", f"{well_formed(row.comm)}[{tid}]"
    yield "operation", shown(row.operation)
    yield "mode", row.mode
    yield "tid", tid


def _comments(sources: Sequence[Source]) -> Iterator[str]:
    yield f"corelock {VERSION}: mmap_lock"
    for source in sources:
        host = source.host
        yield well_formed(f"{source.label}: Linux {host.kernel} {host.arch}")
    yield from missing_in_words(sources)
