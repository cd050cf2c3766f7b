"""Pages as ``corelock report --html`` makes them, read without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from corelock.analysis.selection import Selection
from corelock.analysis.source import open_sources
from corelock.render.html import write_html
from corelock.render.html.gather import LIMITS, Limits

ALL = Selection()


class Drawn(NamedTuple):
    """A cycle of the page: whose it is, in whose lane it is, and what the tables point to."""

    thread: str
    lane: str
    wait_ns: int
    hold_ns: int
    blocker: int


class MadePage:
    """What a page says, and what its scripts draw."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.facts: dict[str, Any] = json.loads(self._script("facts"))
        self._data = zlib.decompress(base64.b64decode(self._script("payload")))

    def _script(self, name: str) -> str:
        found = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', self.html, re.S)
        assert found
        return found[1]

    def part(self, name: str) -> Any:
        """An array or JSON of the payload."""
        kind, at, length = self.facts["directory"][name]
        if kind == "json":
            return json.loads(self._data[at : at + length])
        return np.frombuffer(self._data, np.dtype(kind), length, at)

    @property
    def lanes(self) -> list[str]:
        """The names of all lanes."""
        return [lane["name"] for lane in self.facts["lanes"]]

    @property
    def cycles(self) -> list[Drawn]:
        """All cycles that are drawn one by one, by number."""
        rows = self.part("rows")
        named = ("row", "lane", "wait", "hold", "blocker")
        columns = [self.part(f"slice_{name}").tolist() for name in named]
        return [
            Drawn(rows[row][1], self.lanes[lane], int(wait), int(hold), blocker)
            for row, lane, wait, hold, blocker in zip(*columns)
        ]

    def worst(self, kind: str) -> list[int]:
        """The ns of the table of the longest waits or holds."""
        cells = re.findall(rf'data-kind="{kind}" title="([\d,]+) ns"', self.html)
        return [int(cell.replace(",", "")) for cell in cells]


def made_page(path: Path, selection: Selection = ALL, limits: Limits = LIMITS) -> MadePage:
    """The page of one recording."""
    text = io.StringIO()
    (source,) = open_sources([path])
    with source:
        write_html(text, [source], selection, limits=limits)
    return MadePage(text.getvalue())
