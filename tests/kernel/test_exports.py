"""Exports of recordings of real loads: who waited for whom, and the kernel's own sums."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import corelock
from tests import perfetto_reader, pprof_reader
from tests.exported import exported
from tests.locks import let_queue
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


def test_an_arrow_leads_from_the_holder_to_each_that_waited_for_it(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with Workload("lock_chain", "write", "w") as chain, corelock.HolderSampler() as sampler:
        with corelock.record(path, pid=chain.pid) as recorder:
            chain.run()
            let_queue(chain, sampler, 1)
            chain.finish()
            recorder.stop()
    trace = perfetto_reader.read(exported("perfetto", path)[0])
    longest = max(
        (s for s in trace.slices if s.category == "wait"), key=lambda s: s.end_ns - s.begin_ns
    )
    assert (longest.track.name, longest.name) == ("chain-1", "wait write mprotect")
    (arrow,) = (a for a in trace.arrows if a[1].begin_ns == longest.end_ns)
    holder, waiter = arrow
    assert (holder.track.name, holder.name) == ("chain-holder", "hold write mmap")
    assert waiter.track is longest.track
    assert longest.args["kept_longest_by"] == f"chain-holder[{chain.extra[0]}] write mmap"
    assert "stack" in longest.args and longest.args["contended"] is True


def test_sums_are_what_the_kernel_added_up(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with Workload("storm", "4", "2000") as storm:
        with corelock.record(path, pid=storm.pid) as recorder:
            storm.run()
            recorder.stop()
            rows = recorder.snapshot().rows
        storm.finish()
    found: Counter[tuple[str, str, str]] = Counter()
    waited = 0
    for sample in pprof_reader.read(exported("pprof", path)[0], tmp_path).samples:
        labels = sample.labels
        held_ns = sample.values["hold/nanoseconds"]
        found[labels["tid"], labels["mode"], labels["operation"]] += held_ns
        waited += sample.values["wait/nanoseconds"]
    expected = Counter[tuple[str, str, str]]()
    for row in rows:
        expected[str(row.tid), row.mode, row.operation] += row.hold.total_ns
    assert +found == +expected
    assert waited == sum(row.wait.total_ns for row in rows)
    lines = exported("folded", path)[0].splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == found.total()
