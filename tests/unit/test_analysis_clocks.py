"""Wall-clock time in recordings, over suspends, midnight and set clocks."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corelock.analysis.clocks import Drift, drift, monotonic_ns, wall_ns
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source, open_sources
from tests import recordings
from tests.recordings import START_NS, Cycle

S = 10**9
#: 23:59:50 on a summer's day in Berlin.
WALL_S = int(datetime.datetime(2026, 6, 30, 21, 59, 50, tzinfo=datetime.timezone.utc).timestamp())
OFFSET_NS = WALL_S * S - START_NS


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def clock(at_ns: int, realtime: int, boottime: int) -> dict[str, int]:
    now = START_NS + at_ns
    return {
        "monotonic_ns": now, "realtime_ns": now + OFFSET_NS + realtime,
        "boottime_ns": now + boottime,
    }  # fmt: skip


def recording(path: Path, jumps: list[tuple[int, int, int]], ends: bool = True) -> Source:
    """A cycle at each of these seconds, with what the other clocks had gained by then."""
    blocks: list[tuple[int, bytes]] = [
        (1, recordings.as_json(recordings.header(clock=clock(0, 0, 0)))),
        (2, recordings.process(1, 4021, "postgres")),
        (3, recordings.row(1, 1, 1, 4021, 4021, "postgres", 11, 1)),
    ]
    for at_s, realtime, boottime in jumps:
        cycles = [Cycle(1, at_s * S, 0, S // 2)]
        blocks.append((4, recordings.cycles(cycles, OFFSET_NS + realtime, boottime)))
    if ends:
        at_s, realtime, boottime = jumps[-1]
        last = clock(at_s * S, realtime, boottime)
        footer = recordings.footer(len(jumps), at_s * S, clock=last)
        blocks.append((6, recordings.as_json(footer)))
    [source] = open_sources([recordings.write(path / "a.rec", blocks)])
    return source


STEADY = [(5, 0, 0), (10, 0, 0), (20, 0, 0)]
HOUR = 3600 * S
SUSPENDED = [(5, 0, 0), (10, HOUR, HOUR), (20, HOUR, HOUR)]


def at(source: Source, seconds: float) -> int:
    return source.start_ns + int(seconds * S)


def from_(source: Source, when: Any) -> float:
    return (Selection(from_ns=when).bounds(source)[0] - source.start_ns) / S


def test_times_of_day_and_midnight(tmp_path: Path) -> None:
    with recording(tmp_path, STEADY) as source:
        assert from_(source, datetime.time(23, 59, 55)) == 5
        assert from_(source, datetime.time(0, 0, 2, 500_000)) == 12.5
        # Neither day has it within the recording: the nearer end.
        assert from_(source, datetime.time(23, 59)) == -50
        assert from_(source, datetime.time(0, 1)) == 70
        assert from_(source, 5 * S) == 5


def test_dates_are_local_unless_they_say(tmp_path: Path) -> None:
    with recording(tmp_path, STEADY) as source:
        assert from_(source, datetime.datetime(2026, 7, 1, 0, 0, 5)) == 15
        utc = datetime.datetime(2026, 6, 30, 22, 0, 5, tzinfo=datetime.timezone.utc)
        assert from_(source, utc) == 15


def test_no_drift(tmp_path: Path) -> None:
    with recording(tmp_path, STEADY) as source:
        assert drift(source) == Drift(0, 0) and not drift(source)


@pytest.mark.parametrize("ends", [True, False])
def test_over_a_suspend(tmp_path: Path, ends: bool) -> None:
    with recording(tmp_path, SUSPENDED, ends) as source:
        assert drift(source) == Drift(HOUR, 0)
        assert wall_ns(source, at(source, 3)) == (WALL_S + 3) * S
        assert wall_ns(source, at(source, 15)) == (WALL_S + 15) * S + HOUR
        # Before, while it slept (it woke between the blocks of 5 s and 10 s), and after.
        assert monotonic_ns(source, (WALL_S + 4) * S) == at(source, 4)
        assert monotonic_ns(source, (WALL_S + 1800) * S) == at(source, 5)
        assert monotonic_ns(source, (WALL_S + 15) * S + HOUR) == at(source, 15)
        assert monotonic_ns(source, (WALL_S + 99) * S + HOUR) == at(source, 99)
        assert source.end_ns == at(source, 20)


def test_a_clock_that_was_set(tmp_path: Path) -> None:
    back = [(5, 0, 0), (10, -2 * S, 0)]
    with recording(tmp_path, back) as source:
        assert drift(source) == Drift(0, -2 * S)
    slewed = [(5, 0, 0), (10, 30_000_000, 0)]
    with recording(tmp_path, slewed) as source:
        assert not drift(source)


def test_clocks_are_read_from_sound_blocks_only(tmp_path: Path) -> None:
    with recording(tmp_path, SUSPENDED, ends=False) as source:
        path = source.recording.path
    whole = bytearray(Path(path).read_bytes())
    whole[-1 - len(recordings.cycles([Cycle(1, 1)])) + 30] ^= 1
    Path(path).write_bytes(whole)
    [source] = open_sources([path])
    with source:
        assert source.end_ns == at(source, 10)
        assert len(source.recording.clocks) == 3
    os.unlink(path)
