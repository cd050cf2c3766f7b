"""The SQL of docs/fleet.md, files to run it on, and what it should find there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelock.analysis.selection import Selection
from corelock.analysis.source import open_sources
from corelock.export import parquet
from tests.fleet import WAIT_STACK, Known, Load, start_unix_ns

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fleet.md"
HOUR_NS = 3_600 * 10**9
SHIFT_NS = 5 * 60 * 10**9


def statements(engine: str) -> list[str]:
    """All that the page has for an engine, in its order."""
    blocks = re.findall(r"^```sql *(\w*)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [
        statement.strip()
        for name, block in blocks
        if name in ("", engine)
        for statement in block.split(";\n")
        if statement.strip()
    ]


class Fleet:
    """Some hosts' files below ``folder``, as the page has them."""

    def __init__(self, folder: Path, hosts: int, cycles: int) -> None:
        self.loads = [Load(cycles, seed) for seed in range(min(4, hosts))]
        self.folder = folder / "fleet"
        self.hosts = [(f"db{n:03}", n * SHIFT_NS, n % len(self.loads)) for n in range(hosts)]
        for host, shift_ns, load in self.hosts:
            (self.folder / host).mkdir(parents=True)
            recording = self.loads[load].write(folder / "recording", host, shift_ns)
            (source,) = open_sources([recording])
            with source, (self.folder / host / "1.parquet").open("wb") as stream:
                parquet.write(stream, [source], Selection())
        self.files = sorted(self.folder.glob("*/*.parquet"))

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self.files)

    def _times_of_load(self) -> Counter[int]:
        return Counter(load for _, _, load in self.hosts)

    def check(self, results: Sequence[Sequence[Sequence[Any]]]) -> None:
        """Hold what the page's statements for all engines found against what is known."""
        worst, blame, by_hour, longest = results
        _assert_same(worst, self._worst())
        _assert_same(blame, self._blame())
        _assert_same([row[1:] for row in by_hour], self._p99_by_hour())
        self._check_longest(longest)

    def _worst(self) -> list[tuple[Any, ...]]:
        waits: dict[str, list[int]] = defaultdict(list)
        for load, times in self._times_of_load().items():
            for one in self.loads[load].known:
                if _waited(one):
                    waits[one.thread.mm_comm] += [one.cycle.wait_ns] * times
        rows = [
            (name, len(self.hosts), len(ns), sum(ns) / 1e9, max(ns) / 1e6)
            for name, ns in waits.items()
        ]
        return sorted(rows, key=lambda row: -row[3])

    def _blame(self) -> list[tuple[Any, ...]]:
        blocked: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for load, times in self._times_of_load().items():
            for one in self.loads[load].known:
                if one.blocker is not None:
                    by = one.blocker.comm, one.blocker.operation, one.blocker.mode
                    blocked[(one.thread.mm_comm, *by)] += [one.blocked_ns] * times
        rows = [
            (*key, len(self.hosts), len(ns), sum(ns) / 1e9, max(ns) / 1e6)
            for key, ns in blocked.items()
        ]
        return sorted(rows, key=lambda row: -row[6])

    def _p99_by_hour(self) -> list[tuple[Any, ...]]:
        waits: dict[int, list[Any]] = defaultdict(list)
        arrays = []
        for load in self.loads:
            known = [one for one in load.known if _waited(one)]
            arrays.append(
                (
                    np.array([start_unix_ns(one) for one in known]),
                    np.array([one.cycle.wait_ns for one in known]),
                )
            )
        for _, shift_ns, load_ in self.hosts:
            starts, ns = arrays[load_]
            hours = (starts + shift_ns) // HOUR_NS
            for hour in np.unique(hours):
                waits[int(hour)].append(ns[hours == hour])
        found = []
        for _, parts in sorted(waits.items()):
            ordered = np.sort(np.concatenate(parts))
            p99 = ordered[-(-99 * len(ordered) // 100) - 1]
            found.append((int((ordered >= p99).sum()), p99 / 1e6))
        return found

    def _check_longest(self, rows: Sequence[Sequence[Any]]) -> None:
        waits = [
            one.cycle.wait_ns / 1e6
            for load, times in self._times_of_load().items()
            for one in self.loads[load].known
            if _waited(one)
            for _ in range(times)
        ]
        assert [row[5] for row in rows] == pytest.approx(sorted(waits, reverse=True)[:10])
        assert {row[8] for row in rows} == {WAIT_STACK}
        assert {row[2] for row in rows} <= {"postgres", "redis-server"}


def _waited(one: Known) -> bool:
    return not one.cycle.kind & 8


def _assert_same(rows: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> None:
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected):
        assert len(row) == len(wanted)
        for value, right in zip(row, wanted):
            assert value == (pytest.approx(right) if isinstance(right, float) else right)
