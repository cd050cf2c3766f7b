"""Any event of the kernel as ftrace records it, its fields by its own ``format`` file.

Has no code in common with ``corelock.probes.tracepoints``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

from tests.witness import FtraceInstance

Value = Union[int, str]

_FIELD = re.compile(r"\tfield:(.+?);\toffset:(\d+);\tsize:(\d+);(?:\tsigned:(\d);)?")
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}


@dataclass(frozen=True)
class Record:
    """One event: where and when it was, and the fields of its record."""

    ts_ns: int
    cpu: int
    name: str
    tid: int
    values: dict[str, Value]

    def __getitem__(self, field: str) -> int:
        value = self.values[field]
        assert isinstance(value, int)
        return value


class _Format:
    """Where an event's fields are in its record, by its ``format`` file."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._fields = _FIELD.findall(text)

    def event(self, ts_ns: int, page: bytes, position: int) -> Record:
        values: dict[str, Value] = {}
        for declared, offset, size, signed in self._fields:
            at = position + int(offset)
            field = re.sub(r"\[[^]]*\]$", "", declared).split()[-1].lstrip("*")
            if declared.startswith("__data_loc char[]"):
                (where,) = struct.unpack_from("<I", page, at)
                start = position + (where & 0xFFFF)
                values[field] = _text(page[start : start + (where >> 16)])
            elif re.search(r"\bchar .*\[", declared):
                values[field] = _text(page[at : at + int(size)])
            elif int(size) in _CODES:
                code = _CODES[int(size)]
                code = code if signed == "1" else code.upper()
                (values[field],) = struct.unpack_from(f"<{code}", page, at)
        tid = values["common_pid"]
        assert isinstance(tid, int)
        return Record(ts_ns, -1, self.name, tid, values)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode()


class EventWitness(FtraceInstance):
    """Records events, ``category:name`` each, with all their fields."""

    def __init__(self, *events: str) -> None:
        super().__init__(tuple(_split(event) for event in events))

    def stop(self) -> list[Record]:
        """Stop recording; all events in order of time. None may have been lost."""
        records: Iterable[Record] = (
            Record(record.ts_ns, cpu, record.name, record.tid, record.values)
            for cpu, record in self.take(_Format)
        )
        found = sorted(records, key=lambda record: record.ts_ns)
        assert self.lost == 0
        return found


def _split(event: str) -> tuple[str, str]:
    category, _, name = event.partition(":")
    return category, name
