"""Recordings as Parquet, one row a cycle; ``docs/fleet.md`` describes the columns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import IO, Any, Optional

import numpy as np

from corelock.analysis.batches import Batch, Progress, batches
from corelock.analysis.blockers import Blockers, blockers
from corelock.analysis.census import take_census
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.export.fields import well_formed
from corelock.export.samples import SampleFrame, stack_frames
from corelock.extras import needs
from corelock.model import Row
from corelock.recording import CONTENDED, DOWNGRADED, ENDING, HOLDING, NO_WAIT, RELEASED

with needs("report", "pyarrow"):
    import pyarrow as pa
    from pyarrow import parquet

BINARY = True

#: Cycles of a row group: a reader works on one at a time, and we, too.
ROW_GROUP = 1 << 18
#: Of a file's metadata: a JSON list of what each recording's header, footer and damage are.
METADATA_KEY = "corelock.recordings"

#: How a cycle ended, by the lowest bits of its kind.
OUTCOMES = ("released", "downgraded", "failed", "aborted", "holding", "waiting")

_STRING = pa.dictionary(pa.int32(), pa.string())
_ID = pa.int64()
_NS = pa.int64()

#: Signed whole numbers and microseconds: what every engine reads.
SCHEMA = pa.schema(
    [
        ("host", _STRING), ("boot_id", _STRING), ("recording", _STRING),
        ("pid", _ID), ("tid", _ID), ("comm", _STRING),
        ("mm_pid", _ID), ("mm_comm", _STRING), ("mm", _ID), ("foreign", pa.bool_()),
        ("mode", _STRING), ("operation", _STRING), ("outcome", _STRING), ("contended", pa.bool_()),
        ("start_time", pa.timestamp("us", "UTC")), ("start_ns", _NS),
        ("wait_ns", _NS), ("hold_ns", _NS),
        ("blocker_pid", _ID), ("blocker_tid", _ID), ("blocker_comm", _STRING),
        ("blocker_mode", _STRING), ("blocker_operation", _STRING), ("blocked_ns", _NS),
        ("wait_stack", _STRING), ("hold_stack", _STRING),
    ]
)  # fmt: skip

#: Columns of numbers that are nearly all different, and small differences apart.
_DELTAS = ("start_time", "start_ns", "wait_ns", "hold_ns", "blocked_ns")


def write(
    stream: IO[bytes],
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
) -> None:
    """Write all chosen cycles, a row group at a time.

    Memory goes with a row group, and with 20 bytes a cycle of the largest recording: what
    kept its wait is found in all of it.
    """
    with parquet.ParquetWriter(
        stream,
        SCHEMA,
        compression="zstd",
        use_dictionary=[name for name in SCHEMA.names if name not in _DELTAS],
        column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
    ) as writer:
        for source in sources:
            for table in _row_groups(source, selection, progress):
                writer.write_table(table, row_group_size=len(table))
        # Now that all was read, so is known what could not be.
        said = json.dumps([_recording(source) for source in sources])
        writer.add_key_value_metadata({METADATA_KEY: said})


def _recording(source: Source) -> dict[str, Any]:
    recording = source.recording
    damage = dataclasses.asdict(take_census(source).damage)
    return {"header": recording.header, "footer": recording.footer, "damage": damage}


def _row_groups(
    source: Source, selection: Selection, progress: Optional[Progress]
) -> Iterator[Any]:
    columns = _Columns(source, blockers(source.recording, progress))
    tables: list[Any] = []
    count = 0
    for batch in batches(source, selection, progress):
        tables.append(columns.table(batch))
        count += len(batch)
        if count >= ROW_GROUP:
            yield pa.concat_tables(tables)
            tables, count = [], 0
    if tables:
        yield pa.concat_tables(tables)


class _Columns:
    """Makes the columns of batches of one recording."""

    def __init__(self, source: Source, of: Blockers) -> None:
        self._source = source
        self._blockers = of
        header = source.recording.header
        self._of_recording = {
            "host": header["host"]["hostname"],
            "boot_id": header["host"].get("boot_id"),
            "recording": header["id"],
        }

    def table(self, batch: Batch) -> Any:
        """A table of ``SCHEMA``."""
        columns = {
            **{name: self._same(text, len(batch)) for name, text in self._of_recording.items()},
            **self._who(batch),
            **self._times(batch),
            **self._blocker(batch),
            "wait_stack": self._stack(batch, batch.wait_stack),
            "hold_stack": self._stack(batch, batch.hold_stack),
        }
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    @staticmethod
    def _same(text: Optional[str], count: int) -> Any:
        index = np.full(count, 0, np.int32)
        mask = None if text is not None else np.ones(count, bool)
        return _dictionary(index, ["" if text is None else well_formed(text)], mask)

    def _who(self, batch: Batch) -> dict[str, Any]:
        row, ending = batch.row, batch.kind & ENDING
        return {
            "pid": self._number("pid", row),
            "tid": self._number("tid", row),
            "comm": self._text("comm", row),
            "mm_pid": self._number("mm_pid", row),
            "mm_comm": self._text("mm_comm", row),
            "mm": pa.array(self._source.row_table.mm[row], _ID),
            "foreign": pa.array(self._foreign[row]),
            "mode": self._text("mode", row),
            "operation": self._text("operation", row),
            "outcome": _dictionary(ending.astype(np.int32), [*OUTCOMES, *["unknown"] * 2]),
            "contended": pa.array((batch.kind & CONTENDED) != 0),
        }

    def _times(self, batch: Batch) -> dict[str, Any]:
        start_ns = batch.start_ns.astype(np.int64)
        clocks = self._source.recording.clocks
        after = np.searchsorted([clock.monotonic_ns for clock in clocks], start_ns)
        offsets = np.array([clock.realtime_offset_ns for clock in clocks], np.int64)
        wall_us = (start_ns + offsets[np.minimum(after, len(clocks) - 1)]) // 1000
        ending = batch.kind & ENDING
        held = (ending == RELEASED) | (ending == DOWNGRADED) | (ending == HOLDING)
        return {
            "start_time": pa.array(wall_us, pa.timestamp("us", "UTC")),
            "start_ns": pa.array(start_ns, _NS),
            "wait_ns": _nullable(batch.wait_ns, batch.kind & NO_WAIT == 0),
            "hold_ns": _nullable(batch.hold_ns, held),
        }

    def _blocker(self, batch: Batch) -> dict[str, Any]:
        cycle = self._blockers.cycle[batch.number]
        known = cycle >= 0
        row = self._row_of_cycle[cycle] if len(self._row_of_cycle) else cycle
        # A holder whose row is in no sound block has no name.
        known &= self._source.row_table.known[np.minimum(row, len(self._source.row_table) - 1)]
        row = np.where(known, row, 0)
        return {
            "blocker_pid": self._number("pid", row, known),
            "blocker_tid": self._number("tid", row, known),
            "blocker_comm": self._text("comm", row, known),
            "blocker_mode": self._text("mode", row, known),
            "blocker_operation": self._text("operation", row, known),
            "blocked_ns": _nullable(self._blockers.ns[batch.number], cycle >= 0),
        }

    def _stack(self, batch: Batch, ids: Any) -> Any:
        index, known = np.zeros(len(batch), np.int32), np.zeros(len(batch), bool)
        texts, numbers = self._stacks
        found = np.fromiter((numbers.get(id_, -1) for id_ in ids.tolist()), np.int32, len(ids))
        index[batch.stacked] = np.maximum(found, 0)
        known[batch.stacked] = found >= 0
        return _dictionary(index, texts, ~known)

    @cached_property
    def _row_of_cycle(self) -> Any:
        rows = [block.row for block in self._source.recording]
        return np.concatenate(rows) if rows else np.empty(0, np.uint32)

    @cached_property
    def _foreign(self) -> Any:
        foreign = np.zeros(len(self._source.row_table), bool)
        for number in self._source.readings:
            foreign[number] = self._source.name(number).foreign
        return foreign

    def _number(self, name: str, row: Any, known: Optional[Any] = None) -> Any:
        numbers = getattr(self._source.row_table, name)[row]
        return pa.array(numbers, _ID, mask=None if known is None else ~known)

    def _text(self, name: str, row: Any, known: Optional[Any] = None) -> Any:
        texts, index = self._texts(name)
        return _dictionary(index[row], texts, None if known is None else ~known)

    def _texts(self, name: str) -> tuple[Any, Any]:
        """What rows are called: the distinct names, and which one each row has."""
        if name not in self._known_texts:
            get: Callable[[Row], str] = lambda row: getattr(row, name)  # noqa: E731
            index = np.zeros(len(self._source.row_table), np.int32)
            places: dict[str, int] = {}
            for number in self._source.readings:
                text = well_formed(get(self._source.name(number)))
                index[number] = places.setdefault(text, len(places))
            self._known_texts[name] = pa.array(list(places), pa.string()), index
        return self._known_texts[name]

    @cached_property
    def _known_texts(self) -> dict[str, tuple[Any, Any]]:
        return {}

    @cached_property
    def _stacks(self) -> tuple[Any, dict[int, int]]:
        """The distinct stacks as text, and which one each id is."""
        places: dict[str, int] = {}
        numbers: dict[int, int] = {}
        for id_, stack in self._source.recording.stacks.items():
            user, kernel = stack_frames(stack)
            text = ";".join(map(_frame, (*user, *kernel)))
            numbers[id_] = places.setdefault(text, len(places))
        return pa.array(list(places), pa.string()), numbers


def _frame(frame: SampleFrame) -> str:
    return frame.name.replace(";", ":")


def _dictionary(index: Any, texts: Any, missing: Optional[Any] = None) -> Any:
    indices = pa.array(index, pa.int32(), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(texts, pa.string()))


def _nullable(times_ns: Any, known: Any) -> Any:
    return pa.array(times_ns.astype(np.int64), _NS, mask=~known)
