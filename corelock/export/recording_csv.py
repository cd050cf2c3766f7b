"""Rows of recordings as CSV: the columns of hold-times, and ``host``; see ``docs/exports.md``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Optional, TextIO

from corelock.analysis.batches import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.analysis.summary import summarize
from corelock.export.csvout import COLUMNS, csv_fields
from corelock.export.fields import well_formed

BINARY = False


def write(
    stream: TextIO,
    sources: Sequence[Source],
    selection: Selection,
    progress: Optional[Progress] = None,
) -> None:
    """Write a header and one line a row."""
    writer = csv.DictWriter(stream, [*COLUMNS, "host"], lineterminator="\n")
    writer.writeheader()
    for source, report in summarize(sources, selection, progress, slowest=0):
        host = well_formed(source.label)
        writer.writerows({**csv_fields(row), "host": host} for row in report.rows)
