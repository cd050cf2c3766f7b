"""What exporters add up: buckets, names, and numbers that only grow."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.errors import InvalidArgument
from corelock.exporters import edges
from corelock.exporters.otlp import metrics_url
from corelock.exporters.series import (
    EXITED,
    KERNEL_THREAD,
    OTHER,
    UNKNOWN,
    Accumulator,
    SeriesKey,
)
from corelock.extras import MissingExtra
from corelock.histogram import Histogram
from corelock.model import Row, Snapshot
from tests.reports import row, times

START_NS = 1000
SECOND_NS = 10**9


@pytest.fixture(scope="module")
def gone() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def snapshot(*rows: Row, at_ns: int = SECOND_NS) -> Snapshot:
    return Snapshot(None, START_NS, at_ns - START_NS, rows)


def waits(name: str, *values_ns: int, pid: int = os.getpid(), key: int = 1) -> Row:
    """A row of a process of that name."""
    return replace(row(mm=(name, pid), wait=times(values_ns)), process_key=key)


@given(st.lists(st.integers(0, 1 << 44)))
def test_cumulative_counts_are_what_is_less_or_equal(values_ns: list[int]) -> None:
    slots = [0] * edges.SLOTS
    edges.add(slots, Histogram.of(values_ns))
    for at, edge_ns in enumerate(edges.EDGES_NS):
        assert sum(slots[: at + 1]) == sum(value <= edge_ns for value in values_ns)
    assert sum(slots) == len(values_ns)


def test_edges_are_few_and_reach_from_a_microsecond_to_seconds() -> None:
    assert len(edges.EDGES_NS) == 24
    assert edges.EDGES_NS[0] == 1023
    assert edges.EDGES_NS[-1] == 2**33 - 1
    assert [edge * 1e9 for edge in edges.EDGES_S] == pytest.approx(edges.EDGES_NS)


_NAMES = ("a", "b", "c", "d", OTHER, EXITED, "")
# Of four processes: which one it is, its name now, what it has waited since.
_STEP = st.tuples(st.integers(0, 3), st.sampled_from(_NAMES), st.integers(0, 10**9))
_STEPS = st.lists(st.lists(_STEP), min_size=1, max_size=6)


@given(_STEPS, st.integers(0, 3))
def test_nothing_goes_down_nothing_is_lost_and_names_are_bounded(
    steps: list[list[tuple[int, str, int]]], max_processes: int
) -> None:
    accumulator = Accumulator(max_processes, 10**12, START_NS)
    waited: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    before: dict[SeriesKey, tuple[int, ...]] = {}
    for number, step in enumerate(steps, 1):
        for process, name, wait_ns in step:
            waited.setdefault(process, []).append(wait_ns)
            names[process] = name
        rows = [
            waits(names[process], *values_ns, key=process, pid=os.getpid())
            for process, values_ns in waited.items()
        ]
        accumulator.add(snapshot(*rows, at_ns=number * SECOND_NS))
        series = accumulator.series()
        now = {key: (*one.wait.slots, one.wait.total_ns) for key, one in series.items()}
        for key, counts in before.items():
            assert all(new >= old for new, old in zip(now[key], counts))
        before = now
        everything = [value for values in waited.values() for value in values]
        assert sum(one.wait.total_ns for one in series.values()) == sum(everything)
        assert sum(sum(one.wait.slots) for one in series.values()) == len(everything)
        assert len({key.process for key in series} - {OTHER, EXITED}) <= max_processes


def test_who_waits_most_gets_a_name_and_keeps_it() -> None:
    accumulator = Accumulator(1, 10**12, START_NS)
    accumulator.add(snapshot(waits("low", 10, key=1), waits("high", 100, key=2)))
    assert _waited(accumulator) == {"high": 100, OTHER: 10}
    accumulator.add(snapshot(waits("low", 10, 5000, key=1), waits("high", 100, key=2)))
    assert _waited(accumulator) == {"high": 100, OTHER: 5010}


def test_who_is_renamed_takes_nothing_along() -> None:
    accumulator = Accumulator(5, 10**12, START_NS)
    accumulator.add(snapshot(waits("sh", 100)))
    accumulator.add(snapshot(waits("server", 100, 30)))
    assert _waited(accumulator) == {"sh": 100, "server": 30}


def longest(accumulator: Accumulator) -> dict[str, Optional[int]]:
    return {key.process: one.wait.max_ns for key, one in accumulator.series().items()}


def test_the_longest_is_one_of_its_own_or_unknown() -> None:
    accumulator = Accumulator(5, 10**12, START_NS)
    accumulator.add(snapshot(waits("sh", 5 * SECOND_NS)))
    accumulator.add(snapshot(waits("server", 5 * SECOND_NS, 1000)))
    assert longest(accumulator) == {"sh": 5 * SECOND_NS, "server": None}
    # Not until it is longer than all that is not known can it be told.
    accumulator.add(snapshot(waits("server", 5 * SECOND_NS, 1000, 700)))
    assert longest(accumulator)["server"] is None
    accumulator.add(snapshot(waits("server", 5 * SECOND_NS, 1000, 700, 6 * SECOND_NS)))
    accumulator.add(snapshot(waits("server", 5 * SECOND_NS, 1000, 700, 6 * SECOND_NS, 800)))
    assert longest(accumulator) == {"sh": 5 * SECOND_NS, "server": 6 * SECOND_NS}


@given(st.lists(_STEP, max_size=12), st.integers(0, 3))
def test_no_longest_is_that_of_another_name(
    steps: list[tuple[int, str, int]], max_processes: int
) -> None:
    accumulator = Accumulator(max_processes, 10**12, START_NS)
    waited: dict[int, list[int]] = {}
    truth: dict[str, int] = {}
    before: Counter[str] = Counter()
    for number, (process, name, wait_ns) in enumerate(steps, 1):
        waited.setdefault(process, []).append(wait_ns)
        rows = [waits(name, *values_ns, key=at) for at, values_ns in waited.items()]
        accumulator.add(snapshot(*rows, at_ns=number * SECOND_NS))
        counts = Counter({k.process: sum(o.wait.slots) for k, o in accumulator.series().items()})
        (to,) = counts - before
        truth[to] = max(truth.get(to, 0), wait_ns)
        before = counts
        for at, longest_ns in longest(accumulator).items():
            assert longest_ns in (None, truth[at])


def test_who_has_gone_unseen_takes_no_place_of_the_living(gone: int) -> None:
    accumulator = Accumulator(1, 10**12, START_NS)
    accumulator.add(snapshot(waits("brief", 100, pid=gone, key=1), waits("lasting", 1, key=2)))
    assert _waited(accumulator) == {"lasting": 1, EXITED: 100}


def test_where_there_is_room_who_has_gone_has_a_name_too(gone: int) -> None:
    accumulator = Accumulator(1, 10**12, START_NS)
    accumulator.add(snapshot(waits("brief", 100, pid=gone)))
    assert _waited(accumulator) == {"brief": 100}


def test_a_name_that_nobody_has_any_more_makes_room_in_time(gone: int) -> None:
    accumulator = Accumulator(1, 60 * SECOND_NS, START_NS)
    old = waits("old", 100, pid=gone, key=1)
    accumulator.add(snapshot(old, at_ns=SECOND_NS))
    first = waits("new", 7, key=2)
    accumulator.add(snapshot(old, first, at_ns=30 * SECOND_NS))
    assert _waited(accumulator) == {"old": 100, OTHER: 7}
    assert accumulator.retired == 0
    accumulator.add(snapshot(old, waits("new", 7, 8, key=2), at_ns=62 * SECOND_NS))
    # Its end is no event of another series: what "new" has begins where (other) ended.
    assert _waited(accumulator) == {"new": 8, OTHER: 7}
    assert accumulator.retired == 1
    starts = {key.process: one.start_ns for key, one in accumulator.series().items()}
    assert starts == {"new": 30 * SECOND_NS, OTHER: START_NS}


def test_a_name_that_somebody_has_is_never_taken_away(gone: int) -> None:
    accumulator = Accumulator(1, 0, START_NS)
    dead, alive = waits("server", 1, pid=gone, key=1), waits("server", 1, key=2)
    accumulator.add(snapshot(dead, alive, at_ns=SECOND_NS))
    accumulator.add(snapshot(dead, alive, waits("new", 9, key=3), at_ns=99 * SECOND_NS))
    assert _waited(accumulator) == {"server": 2, OTHER: 9}


def test_a_session_goes_on_where_the_one_before_ended() -> None:
    accumulator = Accumulator(1, 0, START_NS)
    accumulator.add(snapshot(waits("server", 1, 2, key=1), at_ns=SECOND_NS))
    accumulator.start_session()
    # The server lives and has not locked anything since: its name is not to be had.
    accumulator.add(snapshot(waits("new", 9, key=1), at_ns=99 * SECOND_NS))
    assert _waited(accumulator) == {"server": 3, OTHER: 9}
    accumulator.add(
        snapshot(waits("new", 9, key=1), waits("server", 4, key=2), at_ns=100 * SECOND_NS)
    )
    assert _waited(accumulator) == {"server": 7, OTHER: 9}


def test_kernel_threads_are_one_operation_and_what_has_no_name_is_called_so() -> None:
    accumulator = Accumulator(5, 0, START_NS)
    names = "kworker/3:1-events", "vhost-4711", "syscall-999", "compat-syscall-3", "page-fault"
    rows = [
        replace(waits("", 1, key=at), operation=operation) for at, operation in enumerate(names)
    ]
    accumulator.add(snapshot(*rows))
    series = accumulator.series()
    assert {key.process for key in series} == {UNKNOWN}
    counts = Counter({key.operation: sum(one.wait.slots) for key, one in series.items()})
    assert counts == {
        KERNEL_THREAD: 2, "syscall-999": 1, "compat-syscall-3": 1, "page-fault": 1,
    }  # fmt: skip


def _waited(accumulator: Accumulator) -> dict[str, int]:
    waited: Counter[str] = Counter()
    for key, one in accumulator.series().items():
        waited[key.process] += one.wait.total_ns
    return dict(waited)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/metrics"),
        ("https://[::1]:4318/", "https://[::1]:4318/v1/metrics"),
        ("http://collector/otlp/v1/metrics", "http://collector/otlp/v1/metrics"),
    ],
)
def test_endpoints(endpoint: str, url: str) -> None:
    assert metrics_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["", "collector:4318", "ftp://x", "http://", "http://x:y"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="no OTLP endpoint"):
        metrics_url(endpoint)


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("prometheus_client", "prometheus"),
        ("opentelemetry.sdk.metrics", "otlp"),
        ("opentelemetry.exporter.otlp.proto.http", "otlp"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, f"corelock.exporters.{module}", raising=False)
    with pytest.raises(MissingExtra) as caught:
        importlib.import_module(f"corelock.exporters.{module}")
    assert package.split(".")[0] in caught.value.message
    assert caught.value.remedy == "pip install 'corelock[export]'"


def test_hold_times_imports_nothing_of_it() -> None:
    program = "import sys, corelock.cli.hold_times; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"prometheus_client", "opentelemetry", "numpy", "pyarrow", "google", "requests"}
    assert not {name.split(".")[0] for name in loaded} & heavy
    assert not [name for name in loaded if name.startswith("corelock.exporters")]
