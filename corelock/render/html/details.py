"""The longest cycles as the page has them: in order, named, and linked to who was in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corelock.analysis.source import Source
from corelock.render.html.gather import Gathered
from corelock.render.html.lanes import process_name, thread_name
from corelock.render.html.stacks import StackTable


@dataclass(frozen=True)
class Details:
    """Cycles by lane and beginning, as columns of the page, and the tables these point into."""

    columns: dict[str, Any]
    rows: list[list[Any]]
    stacks: StackTable

    def __len__(self) -> int:
        return len(self.columns["begin"])

    def worst(self, column: str, most: int) -> list[int]:
        """The cycles with the longest ``wait`` or ``hold``, the longest first."""
        times = self.columns[column]
        order = np.argsort(-times, kind="stable")[:most]
        return [int(at) for at in order if times[at] > 0]


def details_of(
    sources: Sequence[Source], gathered: Gathered, cycles: dict[str, Any], blocker: Any, stacks: int
) -> Details:
    """Lay out ``cycles`` (of :class:`Longest`); ``blocker`` is, for each, the index of who kept it.

    -1 in ``blocker``: not known.
    """
    table = StackTable(sources, stacks)
    if not cycles:
        empty = np.empty(0)
        names = ("begin", "wait", "hold", "lane", "row", "kind", "blocker")
        return Details({name: empty for name in (*names, "wait_stack", "hold_stack")}, [], table)
    begin = cycles["end"] - cycles["hold_ns"] - cycles["wait_ns"]
    order = np.lexsort((begin, cycles["lane"]))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    linked = np.where(blocker >= 0, place[blocker], -1)[order]
    cycles = {name: column[order] for name, column in cycles.items()}
    rows, row = _named_rows(sources, cycles)
    return Details(
        {
            "begin": begin[order], "wait": cycles["wait_ns"], "hold": cycles["hold_ns"],
            "lane": cycles["lane"].astype(np.uint32), "row": row,
            "kind": cycles["kind"].astype(np.uint8), "blocker": linked.astype(np.int32),
            "wait_stack": _stack_numbers(table, cycles, "wait"),
            "hold_stack": _stack_numbers(table, cycles, "hold"),
        },
        rows,
        table,
    )  # fmt: skip


def _named_rows(sources: Sequence[Source], cycles: dict[str, Any]) -> tuple[list[list[Any]], Any]:
    """Each row that is needed, once: recording, thread, process, operation, mode."""
    pairs = cycles["source"].astype(np.uint64) << np.uint64(32) | cycles["row"].astype(np.uint64)
    unique, inverse = np.unique(pairs, return_inverse=True)
    rows = []
    for pair in unique.tolist():
        source = pair >> 32
        row = sources[source].name(pair & 0xFFFFFFFF)
        rows.append([source, thread_name(row), process_name(row), row.operation, row.mode])
    return rows, inverse.reshape(-1).astype(np.uint32)


def _stack_numbers(table: StackTable, cycles: dict[str, Any], kind: str) -> Any:
    numbers = np.full(len(cycles["lane"]), -1, np.int32)
    ids, sources = cycles[f"{kind}_stack"], cycles["source"]
    # The longest first: if there are too many, theirs are there.
    for at in np.argsort(-cycles[f"{kind}_ns"], kind="stable").tolist():
        if ids[at]:
            numbers[at] = table.number(int(sources[at]), int(ids[at]))
    return numbers
