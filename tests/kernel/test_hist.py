"""Histograms of events against what ftrace recorded of the same ones on the same run."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Union

import pytest

import corelock
from corelock.distribution import Distribution
from corelock.measured import HistAccounting, HistogramsSnapshot
from tests import event_workload
from tests.event_witness import EventWitness, Record
from tests.forks import in_child, refused
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

ENTER, EXIT = "syscalls:sys_enter_pread64", "syscalls:sys_exit_pread64"
CALLS = len(event_workload.THREADS) * event_workload.CALLS

Key = tuple[Union[int, str], ...]


class Run:
    """One run of the workload, by both."""

    def __init__(self, *fields: str, events: Iterable[str] = (ENTER, EXIT), **given: Any) -> None:
        command = [sys.executable, "-m", "tests.event_workload"]
        with Workload("", command=command) as workload:
            self.pid = workload.pid
            # In the order in which the workload made them.
            self.tids = dict(zip(workload.extra, event_workload.THREADS))
            given = {"pid": workload.pid, **given}
            with corelock.Histograms(*fields, **given) as made, EventWitness(*events) as ftrace:
                workload.run()
                everything = ftrace.stop()
                self.snapshot = made.stop()
            workload.finish()
        self.records = [record for record in everything if record.tid in self.tids]

    def of(self, event: str) -> list[Record]:
        """What ftrace has of an event of the workload's threads."""
        return [record for record in self.records if f"syscalls:{record.name}" == event]


def signed(record: Record, field: str) -> int:
    """A field of a system call as it takes it, whatever its format says."""
    value = record[field]
    if field == "pos":
        return value - (value >> 63 << 64)
    if field == "fd":
        return value & 0xFFFFFFFF
    return value


def by_key(
    records: Iterable[Record], field: str, key: Callable[[Record], Key]
) -> dict[Key, list[int]]:
    """The values of a field, by key."""
    values: dict[Key, list[int]] = defaultdict(list)
    for record in records:
        values[key(record)].append(signed(record, field))
    return values


def assert_same(found: Mapping[Key, Distribution], values: Mapping[Key, list[int]]) -> None:
    """Each key has exactly these values, in buckets as narrow as is promised."""
    assert found.keys() == values.keys()
    for key, distribution in found.items():
        those = values[key]
        assert distribution.count == len(those)
        assert (distribution.sum, distribution.min, distribution.max) == (
            sum(those),
            min(those),
            max(those),
        )
        assert_buckets(distribution, those)
        assert powers_of_two(distribution) == powers(those)


def assert_buckets(distribution: Distribution, values: list[int]) -> None:
    """Each value is in its bucket, and each bucket is narrow."""
    edges = []
    for bucket in distribution.buckets:
        assert bucket.low is not None and bucket.high is not None
        assert bucket.count == sum(bucket.low <= value < bucket.high for value in values)
        nearest = min(abs(bucket.low), abs(bucket.high - 1))
        assert bucket.high - bucket.low <= max(1, nearest // 8)
        edges += [bucket.low, bucket.high]
    assert edges == sorted(edges)


def power(value: int) -> int:
    """Of log2 histograms, the bucket."""
    return value.bit_length() if value >= 0 else -value.bit_length()


def powers(values: Iterable[int]) -> dict[int, int]:
    """How many values are in each."""
    counts: dict[int, int] = defaultdict(int)
    for value in values:
        counts[power(value)] += 1
    return counts


def powers_of_two(distribution: Distribution) -> dict[int, int]:
    """The same of a distribution: no bucket of its is in two."""
    counts: dict[int, int] = defaultdict(int)
    for bucket in distribution.buckets:
        assert bucket.low is not None and bucket.high is not None
        assert power(bucket.low) == power(bucket.high - 1)
        counts[power(bucket.low)] += bucket.count
    return counts


def only(snapshot: HistogramsSnapshot, field: str) -> Mapping[Key, Distribution]:
    """The histograms of one field, of which no event is missing."""
    for measured in snapshot.measures:
        if measured.measure.field == field:
            assert_complete(measured.accounting)
            return measured.histograms
    raise AssertionError(f"{field} is not there")


def assert_complete(accounting: HistAccounting) -> None:
    assert accounting.unaccounted == 0
    assert not any(accounting.lost.values())


def test_fields_of_all_sizes_and_signs() -> None:
    run = Run("t:" + ENTER + ":fd,count,pos", "t:" + EXIT + ":ret")
    assert run.snapshot.missed == run.snapshot.faults == 0
    assert len(run.of(ENTER)) == len(run.of(EXIT)) == CALLS
    for event, field in (ENTER, "fd"), (ENTER, "count"), (ENTER, "pos"), (EXIT, "ret"):
        values = by_key(run.of(event), field, lambda record: ())
        assert_same(only(run.snapshot, field), values)
    # The workload makes what the test is for.
    (positions,) = only(run.snapshot, "pos").values()
    assert positions.min is not None and positions.max is not None
    assert positions.min < -(1 << 61) and positions.max > 1 << 61
    (results,) = only(run.snapshot, "ret").values()
    assert results.min == -22


def test_keys() -> None:
    run = Run(f"t:{EXIT}:ret", by=("comm", "tid", "cpu", "pid"))
    expected = by_key(run.of(EXIT), "ret", lambda x: (run.tids[x.tid], x.tid, x.cpu, run.pid))
    assert {key[0] for key in expected} == set(event_workload.THREADS)
    assert_same(only(run.snapshot, "ret"), expected)


def test_fields_as_keys() -> None:
    run = Run(f"t:{ENTER}:pos,count", by=("fd", "count"))
    for field in "pos", "count":
        expected = by_key(run.of(ENTER), field, lambda x: (x["fd"], x["count"]))
        assert len(expected) == 18
        assert_same(only(run.snapshot, field), expected)


def test_low_bytes_as_keys() -> None:
    run = Run(f"t:{ENTER}:count", by=("s8(pos)", "u8(pos)"))
    expected = by_key(
        run.of(ENTER),
        "count",
        lambda x: ((signed(x, "pos") + 128) % 256 - 128, signed(x, "pos") % 256),
    )
    assert min(expected)[0] < 0 < max(expected)[0]
    assert_same(only(run.snapshot, "count"), expected)


FILTERS: list[tuple[str, Callable[[Record, str], bool]]] = [
    ("count > 7", lambda x, comm: x["count"] > 7),
    ("pos < 0 && fd == 4000", lambda x, comm: signed(x, "pos") < 0 and x["fd"] == 4000),
    ('comm == "saw" || count == 0', lambda x, comm: comm == "saw" or x["count"] == 0),
    ('!(comm != "axe") && pos >= -4K', lambda x, c: c == "axe" and signed(x, "pos") >= -4096),
    ("count & 4", lambda x, comm: bool(x["count"] & 4)),
]


@pytest.mark.parametrize(("text", "accepts"), FILTERS, ids=[text for text, _ in FILTERS])
def test_filters(text: str, accepts: Callable[[Record, str], bool]) -> None:
    run = Run(f"t:{ENTER}:pos", by=("comm",), filter=text)
    accepted = [x for x in run.of(ENTER) if accepts(x, run.tids[x.tid])]
    assert 0 < len(accepted) < CALLS
    expected = by_key(accepted, "pos", lambda x: (run.tids[x.tid],))
    assert_same(only(run.snapshot, "pos"), expected)
    assert run.snapshot.measures[0].accounting.filtered == CALLS - len(accepted)


def test_linear_buckets() -> None:
    low, high, step = -20, 1000, 7
    run = Run(f"t:{EXIT}:ret", linear=(low, high, step))
    values = [record["ret"] for record in run.of(EXIT)]
    (distribution,) = only(run.snapshot, "ret").values()
    expected: dict[tuple[Optional[int], Optional[int]], int] = defaultdict(int)
    for value in values:
        start = low + (value - low) // step * step
        bounds = (start, min(start + step, high)) if low <= value < high else (None, low)
        expected[bounds if value < high else (high, None)] += 1
    assert {(b.low, b.high): b.count for b in distribution.buckets} == expected
    assert (None, low) in expected and (high, None) in expected
    assert (distribution.sum, distribution.min, distribution.max) == (
        sum(values),
        min(values),
        max(values),
    )


def test_one_cpu() -> None:
    run = Run(f"t:{EXIT}:ret", cpu=0)
    expected = by_key([x for x in run.of(EXIT) if x.cpu == 0], "ret", lambda record: ())
    assert_same(only(run.snapshot, "ret"), expected)


def test_intervals_add_up() -> None:
    with Workload("", command=[sys.executable, "-m", "tests.event_workload"]) as workload:
        with (
            corelock.Histograms(f"t:{ENTER}:pos", pid=workload.pid, by=("tid",)) as made,
            taking_all_the_time(made) as taken,
        ):
            workload.run()
        workload.finish()
    whole, *intervals = taken
    assert sum(_count(each) for each in intervals) == _count(whole) == CALLS
    assert sum(each.duration_ns for each in intervals) <= whole.duration_ns
    for interval in intervals:
        assert interval.measures[0].accounting.unaccounted == 0
        for distribution in interval.measures[0].histograms.values():
            # Exact of the interval, not of the whole.
            first, last = distribution.buckets[0], distribution.buckets[-1]
            assert first.low is not None and last.high is not None
            assert distribution.min is not None and distribution.max is not None
            assert first.low <= distribution.min and distribution.max < last.high
    for key, distribution in whole.measures[0].histograms.items():
        parts = [
            x.measures[0].histograms[key] for x in intervals if key in x.measures[0].histograms
        ]
        assert sum(part.sum for part in parts) == distribution.sum
        assert min(part.min for part in parts if part.min is not None) == distribution.min


@contextmanager
def taking_all_the_time(made: corelock.Histograms) -> Iterator[list[HistogramsSnapshot]]:
    """Intervals while something else runs; afterwards the whole, and then all of them."""
    taken: list[HistogramsSnapshot] = []
    ended = threading.Event()

    def take() -> None:
        while not ended.is_set():
            taken.append(made.read_interval())

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()
        whole = made.stop()
        taken.append(made.read_interval())
        taken.insert(0, whole)


def _count(snapshot: HistogramsSnapshot) -> int:
    return sum(each.count for each in snapshot.measures[0].histograms.values())


def test_a_fork_takes_nothing_away() -> None:
    with corelock.Histograms("t:syscalls:sys_exit_getppid:ret", pid=os.getpid()) as made:
        for _ in range(5):
            os.getppid()
        in_child(lambda: refused(made.read_interval))
        os.getppid()
        assert _count(made.stop()) == 6


def test_what_was_stopped_can_be_read_when_closed() -> None:
    with corelock.Histograms(
        latency=[("t:syscalls:sys_enter_getppid", "t:syscalls:sys_exit_getppid")], pid=os.getpid()
    ) as made:
        os.getppid()
        assert _count(made.read_interval()) == 1
        os.getppid()
        stopped = made.stop()
        assert made.read() == stopped
    assert made.read() == made.stop() == stopped
    assert _count(stopped) == 2
    assert _count(made.read_interval()) == 1
    assert _count(made.read_interval()) == 0


def test_what_was_not_stopped_cannot_be_read_when_closed() -> None:
    counter = corelock.HitCounter("t:syscalls:sys_enter_getppid", pid=os.getpid())
    made = corelock.Histograms("t:syscalls:sys_exit_getppid:ret", pid=os.getpid())
    with counter, made:
        counter.read(), made.read(), made.read_interval()
    for read in counter.read, counter.stop, made.read, made.read_interval, made.stop:
        with pytest.raises(corelock.InvalidArgument, match="this is not attached"):
            read()


@pytest.mark.parametrize(
    ("fields", "arguments", "words"),
    [
        ("prev_comm", {}, "Use it as a key, in by: --by prev_comm."),
        ("prev_pid", {"by": ["comm", "pid", "tid", "cpu", "prev_prio"]}, "^by has 5 parts: comm,"),
        ("prev_pid", {"by": ["str(prev_pid)"]}, "Use prev_pid as it is."),
        ("", {"key": ["str(pid)"]}, "Use pid as it is."),
        ("", {"key": ["pid"]}, "Name one of each in key, as OF_START=OF_END: "),
        ("prev_pid", {"key": ["pid=next_pid"]}, "once it is in a latency"),
    ],
)
def test_what_is_said_names_arguments(
    fields: str, arguments: dict[str, Sequence[str]], words: str
) -> None:
    latency = [("t:sched:sched_waking", "t:sched:sched_switch")] if "key" in arguments else []
    named = [f"t:sched:sched_switch:{fields}"] if fields else []
    with pytest.raises(corelock.InvalidArgument) as refused:
        corelock.Histograms(*named, latency=latency, **arguments).__enter__()  # type: ignore[arg-type]
    said = f"{refused.value.message}\n{refused.value.remedy}"
    assert re.search(words, said, re.M), said
    assert "--by" not in said.replace("in by: --by", "") and "--latency" not in said
    assert "--key" not in said


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(corelock.InvalidArgument, match="max_keys is out of range"):
        corelock.Histograms(f"t:{EXIT}:ret", max_keys=0)
    with pytest.raises(corelock.InvalidArgument, match="a key is of a latency"):
        corelock.Histograms(f"t:{EXIT}:ret", key=("fd",))
    for latency in [("t:a:b",)], [("t:a:b", 5)], "ab", 5, ["ab"]:
        with pytest.raises(corelock.InvalidArgument, match="latency"):
            corelock.Histograms(latency=latency)  # type: ignore[arg-type]
    for argument in "by", "key":
        with pytest.raises(corelock.InvalidArgument, match=f"{argument} is no list"):
            corelock.Histograms(
                latency=[("t:a:b", "t:a:c")],
                **{argument: "comm"},  # type: ignore[arg-type]
            )
    with pytest.raises(corelock.InvalidArgument, match="nothing is named"):
        corelock.Histograms().__enter__()
    with corelock.Histograms(f"t:{EXIT}:ret") as made:
        with pytest.raises(corelock.InvalidArgument, match="entered before"):
            made.__enter__()
        made.stop()
        # Stopping and reading may be repeated, and change nothing.
        assert made.stop() == made.read()
