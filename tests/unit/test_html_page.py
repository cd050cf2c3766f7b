"""What the page for browsers is made of: sums that hold, and no more than fits."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import corelock.render.html
from corelock.analysis.longest import Longest, LongestOfEach
from corelock.analysis.selection import Selection
from corelock.analysis.source import open_sources
from corelock.histogram import bucket_bounds, bucket_of
from corelock.recording import CONTENDED
from corelock.render.html import write_html
from corelock.render.html.columns import script_json
from corelock.render.html.flames import KERNEL, SMALLER, WHO, Node, flattened
from corelock.render.html.gather import Limits
from corelock.render.html.heat import HIGHEST, LOWEST, ROWS, STEPS, HeatMap, duration_row
from corelock.render.html.shading import Shading
from tests import recordings as r
from tests.html_pages import made_page
from tests.recordings import Cycle, Plan
from tests.storm import write_storm

TIMES = st.integers(0, 2**44)


@given(TIMES)
def test_rows_of_heat_maps_are_buckets_put_together(time_ns: int) -> None:
    row = int(duration_row(np.array([time_ns]))[0])
    octave, step = divmod(row, STEPS)
    low = 2 ** (LOWEST + octave) * (STEPS + step) // STEPS
    high = 2 ** (LOWEST + octave) * (STEPS + step + 1) // STEPS
    if 2**LOWEST <= time_ns < 2**HIGHEST:
        assert low <= time_ns < high
        below, above = bucket_bounds(bucket_of(time_ns))
        assert low <= below and above <= high
    else:
        assert row == (0 if time_ns < 2**LOWEST else ROWS - 1)


def test_a_heat_map_counts_each_time_once() -> None:
    heat = HeatMap(1000, 10)
    heat.add(np.array([0.0, 99.0, 100.0, 1000.0]), np.array([100.0, 100.0, 100.0, 100.0]))
    counts = heat.counts.reshape(10, ROWS)
    assert counts.sum(axis=1).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert counts[:, duration_row(np.array([100]))[0]].sum() == 4


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-50, 1050),
                           st.integers(0, 1200)), max_size=30)  # fmt: skip


@given(SPANS)
def test_shading_is_the_time_that_spans_cover(spans: list[tuple[int, int, int, int]]) -> None:
    shading = Shading(1000, 2, 10)
    expected = np.zeros((3, 2, 10))
    for plane, lane, begin, length in spans:
        for column in range(10):
            low, high = max(begin, column * 100), min(begin + length, (column + 1) * 100)
            expected[plane, lane, column] += max(0, high - low)
    columns = [np.array(column) for column in zip(*spans)]
    if columns:
        plane, lane, begin, length = columns
        shading.add(plane, lane, begin.astype(float), (begin + length).astype(float))
    assert shading.total_ns == pytest.approx(expected, abs=1e-6)
    levels = shading.levels()
    assert ((levels > 0) == (expected > 0)).all()
    assert ((levels == 255) >= (expected >= 100)).all()


@given(st.lists(st.tuples(TIMES, TIMES), max_size=60), st.integers(1, 8), st.integers(1, 20))
def test_the_longest_are_kept(times: list[tuple[int, int]], most: int, batch: int) -> None:
    longest = Longest(most)
    for first in range(0, len(times), batch):
        some = times[first : first + batch]
        wait, hold = (np.array(column, np.float64) for column in zip(*some))
        longest.add({"wait_ns": wait, "hold_ns": hold, "number": np.arange(len(some)) + first})
    assert longest.seen == len(times)
    kept = longest.columns()
    if not times:
        assert kept == {}
        return
    assert len(set(kept["number"].tolist())) == min(most, len(times))
    lengths = sorted(sum(times[number]) for number in kept["number"].tolist())
    in_order = sorted(map(sum, times))
    assert lengths == in_order[-most:]
    assert longest.left_out_ns == max(in_order[:-most], default=0)


@given(st.lists(st.tuples(TIMES, TIMES), max_size=60), st.integers(1, 8), st.integers(1, 20))
def test_the_longest_waits_and_the_longest_holds_are_kept(
    times: list[tuple[int, int]], most: int, batch: int
) -> None:
    longest = LongestOfEach(most)
    for first in range(0, len(times), batch):
        some = times[first : first + batch]
        wait, hold = (np.array(column, np.float64) for column in zip(*some))
        # Of two recordings, so that each number comes twice.
        at = np.arange(len(some)) + first
        longest.add({"wait_ns": wait, "hold_ns": hold, "number": at // 2, "source": at % 2})
    kept = longest.columns()
    if not times:
        assert kept == {}
        return
    numbers = (2 * kept["number"] + kept["source"]).tolist()
    assert len(set(numbers)) == len(numbers) == min(most, len(times))
    for kind in (0, 1):
        here = sorted((times[number][kind] for number in numbers), reverse=True)
        in_order = sorted((each[kind] for each in times), reverse=True)
        sure = [ns for ns in in_order[: most // 2] if ns]
        assert here[: len(sure)] == sure


def test_the_longest_waits_of_a_page_are_the_longest(tmp_path: Path) -> None:
    """Not those among the cycles that took longest: here each of these has a long hold."""
    ms, waits = 1_000_000, range(50)
    cycles = [Cycle(1, (i + 1) * ms, 200, 1_990_000) for i in range(2_000)]
    cycles += [Cycle(2, (40 * i + 30) * ms, 1_000_000 + i, 5_000, CONTENDED) for i in waits]
    cycles.sort(key=lambda cycle: cycle.end_ns)
    rows = [
        r.row(1, 1, 1, 10, 11, "reader", 0x20000, 0), r.row(2, 1, 2, 10, 12, "writer", 11, 1),
    ]  # fmt: skip
    blocks = [cycles[at : at + 300] for at in range(0, len(cycles), 300)]
    path = Plan([r.process(1, 10, "server")], rows, blocks).write(tmp_path / "holds.clk")
    page = made_page(path, limits=Limits(slices=200, columns=64, cells=1 << 10))
    longest = [1_000_000 + i for i in reversed(waits)]
    assert page.worst("wait") == longest[:12]
    assert page.worst("hold") == 12 * [1_990_000]
    drawn = sorted((cycle.wait_ns for cycle in page.cycles), reverse=True)
    assert drawn[: len(longest)] == longest


STACKS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcd"), max_size=4), st.integers(1, 1000)), max_size=40
)


@given(STACKS, st.integers(1, 50))
def test_flames_add_up_however_few_frames_are_shown(
    stacks: list[tuple[list[str], int]], most: int
) -> None:
    root = Node("all")
    for path, total_ns in stacks:
        root.add([(WHO, "thread"), *((KERNEL, name) for name in path)], total_ns, 1)
    flat = flattened(root, most)
    assert flat["total_ns"][0] == sum(total_ns for _, total_ns in stacks)
    assert flat["cycles"][0] == len(stacks)
    alone = [n for n in flat["name"] if flat["names"][n] != SMALLER]
    assert len(alone) <= max(most, 1)
    assert _below(flat, "total_ns") == _below_tree(root, flat)


def _below(flat: dict[str, Any], column: str) -> list[int]:
    """What the children of each node have together."""
    below = [0] * len(flat["depth"])
    path: list[int] = []
    for node, depth in enumerate(flat["depth"]):
        del path[depth:]
        if path:
            below[path[-1]] += flat[column][node]
        path.append(node)
    return below


def _below_tree(root: Node, flat: dict[str, Any]) -> list[int]:
    """The same from the tree itself, for the nodes that are shown."""
    below, path = [], [root]
    for depth, number in zip(flat["depth"], flat["name"]):
        name = flat["names"][number]
        del path[max(depth, 1) :]
        if depth:
            found = [c for c in path[-1].children.values() if c.name == name]
            path.append(found[0] if found else Node(SMALLER))
        below.append(sum(child.total_ns for child in path[-1].children.values()))
    return below


def test_json_cannot_leave_its_script() -> None:
    text = script_json({"comm": "</script><!-- <script> ]]> \u2028"})
    assert not set("<>&") & set(text)
    assert text.isascii()


def test_a_page_is_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large, it is made again with fewer cycles one by one, and says how many."""
    path = tmp_path / "storm.clk"
    write_storm(path, 6_000)
    sources = open_sources([path])
    limits = Limits(columns=64, cells=1 << 10)
    whole, bounded = io.StringIO(), io.StringIO()
    write_html(whole, sources, Selection(), limits=limits)
    most = len(whole.getvalue()) - 60_000
    monkeypatch.setattr("corelock.render.html.MOST_BYTES", most)
    write_html(bounded, sources, Selection(), limits=limits)
    assert "All 6,000 cycles are drawn one by one" in whole.getvalue()
    assert len(bounded.getvalue()) <= most
    fewer = re.search(r"Of 6,000 cycles, the ([\d,]+) with the longest waits", bounded.getvalue())
    assert fewer and 0 < int(fewer[1].replace(",", "")) < 6_000
    for source in sources:
        source.recording.close()


def test_what_the_package_says_it_is_made_of_is_there() -> None:
    assert corelock.render.html.__doc__
    named = re.findall(r"``([a-z./_]+)``", corelock.render.html.__doc__)
    named.remove("write_html")
    root = Path(corelock.__file__).parents[1]
    places = [root, root / "corelock", root / "corelock/render/html"]
    files = [[at / each for at in places for each in (name, f"{name}.py")] for name in named]
    assert len(named) > 10
    assert [n for n, some in zip(named, files) if not any(f.exists() for f in some)] == []


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "storm.clk"
    write_storm(path, 1_000)
    told: list[tuple[int, int]] = []
    (source,) = open_sources([path])
    with source:
        write_html(io.StringIO(), [source], Selection(), lambda *done: told.append(done))
    assert told and all(0 <= done <= total for done, total in told)
