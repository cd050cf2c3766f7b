"""The measurements. All compare neighbours in time, and yield ratios."""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from contenders import (
    COUNTED,
    Blame,
    Bpftrace,
    BpftraceCount,
    ByRecords,
    Contender,
    Corelock,
    Count,
    Floor,
    Kept,
    Perf,
    Record,
    Unmeasurable,
)  # fmt: skip

from tests.workloads import Workload

Progress = Callable[[str], None]

EVENTS = ("start", "acquire", "release")
COMPARED: tuple[type[Contender], ...] = (Corelock, ByRecords, Blame, Bpftrace, Perf)


@dataclass(frozen=True)
class Load:
    """So many threads that map, touch, protect and unmap, so many times each."""

    threads: int
    iterations: int

    def workload(self) -> Workload:
        return Workload("storm", str(self.threads), str(self.iterations))


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Cost:
    """Nanoseconds of program per event, of one contender and of what it is compared with."""

    by_event_ns: dict[str, float]
    mean_ns: float
    other_mean_ns: float

    @property
    def ratio(self) -> float:
        return self.mean_ns / self.other_mean_ns


def throughput(load: Load, rounds: int, say: Progress) -> dict[str, list[float]]:
    """Of each contender, how much of the load's throughput was left, by round.

    Each traced run stands between two untraced ones (A B A C A D A) and is
    compared with the mean of those two.
    """
    kept: dict[str, list[float]] = {contender.name: [] for contender in COMPARED}
    before = _rate(load, None)
    for number in range(rounds):
        # Nobody is always first.
        turn = number % len(COMPARED)
        for contender in COMPARED[turn:] + COMPARED[:turn]:
            traced = _rate(load, contender)
            after = _rate(load, None)
            kept[contender.name].append(traced / ((before + after) / 2))
            before = after
        say(f"throughput {number + 1}/{rounds}")
    return kept


@dataclass(frozen=True)
class Recorded:
    """A run that was recorded: what was left of the load's throughput, and what was kept."""

    throughput: float
    kept: Kept


def recordings(load: Load, rounds: int, say: Progress) -> dict[str, list[Recorded]]:
    """corelock's and perf's recordings of the same load, in turns (A B A C A), by round."""
    recorders: tuple[type[Union[Record, Perf]], ...] = (Record, Perf)
    found: dict[str, list[Recorded]] = {recorder.name: [] for recorder in recorders}
    before = _rate(load, None)
    for number in range(rounds):
        for recorder in recorders[:: 1 if number % 2 else -1]:
            rate, kept = _recorded(load, recorder)
            after = _rate(load, None)
            found[recorder.name].append(Recorded(rate / ((before + after) / 2), kept))
            before = after
        say(f"recordings {number + 1}/{rounds}")
    return found


def _recorded(load: Load, recorder: type[Union[Record, Perf]]) -> tuple[float, Kept]:
    with load.workload() as storm, recorder(storm.pid) as running:
        start_s = time.monotonic()
        storm.run()
        elapsed_s = time.monotonic() - start_s
        kept = running.kept()  # type: ignore[attr-defined]
        storm.finish()
    return load.threads * load.iterations / elapsed_s, kept


def _rate(load: Load, contender: Optional[type[Contender]]) -> float:
    with ExitStack() as stack:
        storm = stack.enter_context(load.workload())
        if contender is not None:
            stack.enter_context(contender(storm.pid))
        start_s = time.monotonic()
        storm.run()
        elapsed_s = time.monotonic() - start_s
        storm.finish()
    return load.threads * load.iterations / elapsed_s


def program_cost(load: Load, rounds: int, say: Progress) -> list[Cost]:
    """What corelock's programs take per event, beside the floor's, by round."""
    return _costs(load, (Corelock, Floor), rounds, say)


def blame_cost(load: Load, rounds: int, say: Progress) -> list[Cost]:
    """What charging waits adds to events that are in nobody's way: one thread's."""
    alone = Load(1, load.threads * load.iterations)
    return _costs(alone, (Blame, Corelock), rounds, say)


def _costs(
    load: Load, pair: tuple[type[Contender], type[Contender]], rounds: int, say: Progress
) -> list[Cost]:
    """What the programs of the first take per event, beside those of the second, by round.

    Both are attached during the same run and see the same events. Whichever
    attached first runs first, finds the caches cold, and is dearer (here by an
    eighth of the floor); so a round is two runs, once in each order, summed.
    """
    costs = []
    with program_statistics():
        for number in range(rounds):
            runs = [_program_times(load, pair), _program_times(load, pair[::-1])]
            costs.append(_cost(runs, *pair))
            say(f"cost of {pair[0].name} {number + 1}/{rounds}")
    return costs


def hit_cost(rounds: int, say: Progress) -> dict[str, list[tuple[float, float]]]:
    """Nanoseconds of program per hit: (corelock count, bpftrace's count()), by probe and round.

    Both are attached during the same run; a round is two, once in each order.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    with program_statistics():
        for what in COUNTED:
            found[what] = []
            for number in range(rounds):
                one, other = (_hit_times(what, order) for order in (ONE_FIRST, OTHER_FIRST))
                ours, theirs = (
                    (one[name][0] + other[name][0]) / (one[name][1] + other[name][1])
                    for name in (Count.name, BpftraceCount.name)
                )
                found[what].append((ours, theirs))
                say(f"cost of a hit, {what} {number + 1}/{rounds}")
    return found


ONE_FIRST = (Count, BpftraceCount)
OTHER_FIRST = ONE_FIRST[::-1]
_HITS = 100_000


def _hit_times(
    what: str, order: Sequence[type[Union[Count, BpftraceCount]]]
) -> dict[str, tuple[int, int]]:
    """(nanoseconds, runs) of each contender's programs."""
    with Workload("known_calls", str(_HITS), "1") as calls, ExitStack() as stack:
        ids = {}
        for contender in order:
            tracer = stack.enter_context(contender(calls.pid, what))
            ids[contender.name] = _program_ids(tracer.process.pid)
        before = _programs()
        calls.run()
        after = _programs()
        calls.finish()
    times = {}
    for name, own in ids.items():
        ns, runs = (
            sum(_rise(before, after, each, key) for each in own)
            for key in ("run_time_ns", "run_cnt")
        )
        if runs < _HITS:
            raise Unmeasurable(f"{name} saw {runs} of {_HITS} hits")
        times[name] = ns, runs
    return times


#: (nanoseconds, runs) by contender and event.
ProgramTimes = dict[str, dict[str, tuple[int, int]]]


def _cost(runs: list[ProgramTimes], one: type[Contender], other: type[Contender]) -> Cost:
    def mean(contender: type[Contender], events: Sequence[str]) -> float:
        times = [run[contender.name][event] for run in runs for event in events]
        count = sum(count for _, count in times)
        if not count:
            raise Unmeasurable(f"the kernel counted no run of {contender.name}'s programs")
        return sum(ns for ns, _ in times) / count

    by_event = {event: mean(one, [event]) for event in EVENTS}
    return Cost(by_event, mean(one, EVENTS), mean(other, EVENTS))


def _program_times(load: Load, order: Sequence[type[Contender]]) -> ProgramTimes:
    with load.workload() as storm, ExitStack() as stack:
        ids = {}
        for contender in order:
            tracer = stack.enter_context(contender(storm.pid))
            ids[contender.name] = _program_ids(tracer.process.pid)
        before = _programs()
        storm.run()
        after = _programs()
        storm.finish()
    times: ProgramTimes = {}
    for name, own in ids.items():
        times[name] = {}
        for identity in own:
            program = str(after[identity].get("name", ""))
            for event in EVENTS:
                if event[:7] in program:
                    times[name][event] = (
                        _rise(before, after, identity, "run_time_ns"),
                        _rise(before, after, identity, "run_cnt"),
                    )
        if set(times[name]) != set(EVENTS):
            raise Unmeasurable(f"{name} has programs for {sorted(times[name])} only")
    return times


def _rise(
    before: dict[int, dict[str, object]], after: dict[int, dict[str, object]], key: int, name: str
) -> int:
    return int(str(after[key].get(name, 0))) - int(str(before[key].get(name, 0)))


def _program_ids(pid: int) -> set[int]:
    """The BPF programs that a process holds open."""
    ids = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        if "prog_type" in fields:
            ids.add(int(fields["prog_id"]))
    return ids


def _programs() -> dict[int, dict[str, object]]:
    """Every loaded BPF program by its id, as the kernel describes it."""
    listed = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True)
    return {program["id"]: program for program in json.loads(listed.stdout)}


@contextmanager
def program_statistics() -> Iterator[None]:
    """The kernel times BPF programs for as long as someone holds this descriptor.

    Unlike with the sysctl, nothing is left on, however this process ends.
    """
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    fd = libbpf.bpf_enable_stats(0)  # BPF_STATS_RUN_TIME
    if fd < 0:
        raise Unmeasurable(f"no BPF run-time statistics: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(fd)


def start_up(rounds: int, say: Progress) -> list[tuple[float, float]]:
    """Seconds from the command to its attached probes: (corelock, bpftrace), by round.

    The witness is each program's own word, which both give right after their
    last probe: bpftrace 0.17 runs BEGIN then (strace shows it within 0.2 ms of
    the last PERF_EVENT_IOC_SET_BPF, and 2 ms after the first). Looking for new
    programs in the kernel instead would keep a CPU busy next to what is timed.
    """
    times = []
    with Workload("storm", "1", "1") as idle:
        for number in range(rounds):
            order = (Corelock, Bpftrace) if number % 2 else (Bpftrace, Corelock)
            took = {}
            for contender in order:
                with contender(idle.pid) as tracer:
                    took[contender.name] = tracer.attached_s - tracer.started_s
            times.append((took["corelock"], took["bpftrace"]))
            say(f"start-up {number + 1}/{rounds}")
        idle.finish()
    return times
