"""A report's rows as CSV; ``docs/json.md`` describes the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, TextIO

from corelock.export.fields import QUANTILES, row_fields, times_fields
from corelock.model import Report, Row, Times

_TIMES = ("count", "total_ns", "max_ns", *(f"{name}_ns" for name in QUANTILES))

COLUMNS = (
    "mm_pid", "mm_comm", "pid", "tid", "comm", "foreign", "mode", "operation",
    "acquisitions", "holds", "downgrades", "trylock_failures", "aborted_waits",
    *(f"wait_{name}" for name in _TIMES),
    *(f"hold_{name}" for name in _TIMES),
    "mm_host_pid", "host_pid", "host_tid",
)  # fmt: skip


def write_csv(stream: TextIO, report: Report) -> None:
    """Write a header and one line a row. What is null in JSON is an empty field here."""
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        writer.writerow(csv_fields(row))


def csv_fields(row: Row) -> dict[str, Any]:
    """A row by ``COLUMNS``; those that are left out are empty."""
    fields = row_fields(row)
    fields["foreign"] = "true" if row.foreign else "false"  # as in JSON
    fields.update(_times("wait", row.wait))
    fields.update(_times("hold", row.hold))
    return fields


def _times(kind: str, times: Times) -> Iterator[tuple[str, Any]]:
    values = times_fields(times).values()
    return zip((f"{kind}_{name}" for name in _TIMES), values)
