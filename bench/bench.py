"""Measures what tracing with corelock costs, next to bpftrace, perf and doing nothing.

    make bench                      about eight minutes
    make bench BENCH_ARGS=--quick   two or three, rough

Everything is a ratio between runs that stand next to each other in time; see
docs/performance.md. A missed reach is a result and no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contenders import Bpftrace, Corelock, Floor, Perf, Unmeasurable, corelock_command, tracefs
from measure import (
    EVENTS,
    Cost,
    Load,
    Recorded,
    Spread,
    blame_cost,
    hit_cost,
    program_cost,
    recordings,
    start_up,
    throughput,
)  # fmt: skip

#: The reaches of the project: not to be exceeded.
REACH_LOSS = 0.40  # of what bpftrace loses of the load's throughput
REACH_COST = 1.35  # of a program that only reads the clock
REACH_BLAME = 1.10  # of the same events without blame
REACH_START = 1 / 3  # of bpftrace's start-up
REACH_HIT = 1.0  # of bpftrace's count()
REACH_BYTES = 1 / 3  # of perf's file for the same events


def main() -> int:
    """Measure and print; 0 if everything could be measured."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        _check()
        report = _measure(arguments)
    except (Unmeasurable, OSError, RuntimeError, subprocess.SubprocessError) as error:
        _progress("")
        print(f"bench: not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _progress("")
        return 130
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="What tracing costs, in ratios.")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each comparison (default 7)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of a short load")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="of the load (4)")
    parser.add_argument("--iterations", type=int, metavar="N", help="of each thread (15000)")
    parser.add_argument("--json", metavar="FILE", help="write every ratio there, too")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 7)
    arguments.iterations = arguments.iterations or (6000 if arguments.quick else 15000)
    if min(arguments.rounds, arguments.threads, arguments.iterations) < 1:
        parser.error("numbers begin at 1")
    return arguments


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _check() -> None:
    """Say all that is missing before anything is measured."""
    missing = [each.missing() for each in (Corelock, Floor, Bpftrace, Perf) if each.missing()]
    if os.geteuid() != 0:
        missing.append("root is needed")
    if missing:
        raise Unmeasurable("; ".join(missing))


def _measure(arguments: argparse.Namespace) -> dict[str, object]:
    load = Load(arguments.threads, arguments.iterations)
    machine = _machine()
    print(f"{'kernel':10} {machine['kernel']}, {machine['cpus']} x {machine['cpu']}")
    print(f"{'versions':10} {machine['corelock']}; {machine['bpftrace']}; {machine['perf']}")
    print(f"{'load':10} storm: {load.threads} threads x {load.iterations} iterations;", end=" ")
    print(f"{arguments.rounds} rounds; median, least..most")
    with tracefs():
        kept = throughput(load, arguments.rounds, _progress)
        loss_ratio = _print_throughput(kept)
        costs = program_cost(load, arguments.rounds, _progress)
        cost_ratio = _print_cost(costs)
        blame_costs = blame_cost(load, arguments.rounds, _progress)
        blame_ratio = _print_blame_cost(blame_costs)
        recorded = recordings(load, arguments.rounds, _progress)
        reaches = _print_recordings(recorded)
        hits = hit_cost(arguments.rounds, _progress)
        hit_ratios = _print_hits(hits)
        times = start_up(2 * arguments.rounds, _progress)
        start_ratio = _print_start_up(times)
    print()
    _print_reach("throughput lost, of bpftrace's", loss_ratio, REACH_LOSS)
    _print_reach("program cost, of the floor's", cost_ratio, REACH_COST)
    _print_reach("cost of blame, uncontended", blame_ratio, REACH_BLAME)
    _print_reach("start-up, of bpftrace's", start_ratio, REACH_START)
    for what, ratio in hit_ratios.items():
        _print_reach(f"count, {what}, of bpftrace's", ratio, REACH_HIT)
    for what, value, reach in reaches:
        _print_reach(what, value, reach)
    return {
        "machine": machine,
        "load": {"threads": load.threads, "iterations": load.iterations},
        "throughput_kept": kept,
        "program_cost": [_cost(cost) for cost in costs],
        "blame_cost": [_cost(cost) for cost in blame_costs],
        "recordings": {
            name: [{"throughput_kept": run.throughput, **run.kept._asdict()} for run in runs]
            for name, runs in recorded.items()
        },
        "hit_cost_ns": {
            what: [{"corelock": ours, "bpftrace": theirs} for ours, theirs in costs]
            for what, costs in hits.items()
        },
        "start_up_s": [{"corelock": ours, "bpftrace": theirs} for ours, theirs in times],
        "ratios": {"lost": loss_ratio, "cost": cost_ratio, "blame": blame_ratio,
                   "start_up": start_ratio},
    }  # fmt: skip


def _cost(cost: Cost) -> dict[str, object]:
    return {
        "by_event_ns": cost.by_event_ns,
        "mean_ns": cost.mean_ns,
        "other_mean_ns": cost.other_mean_ns,
        "ratio": cost.ratio,
    }


def _print_throughput(kept: dict[str, list[float]]) -> float:
    print("\nthroughput kept, of an untraced run's")
    medians = {}
    for name, ratios in kept.items():
        spread = Spread.of(ratios)
        medians[name] = spread.median
        _print_line(name, spread)
    ours, theirs = 1 - medians["corelock"], 1 - medians["bpftrace"]
    if theirs <= 0:
        raise Unmeasurable("bpftrace cost nothing: the load is too short for this machine")
    print(f"  throughput lost: corelock {ours:.1%}, bpftrace {theirs:.1%}, ", end="")
    print(f"ratio {ours / theirs:.2f}")
    return ours / theirs


def _print_cost(costs: list[Cost]) -> float:
    print("\nnanoseconds of program per event (both in the same runs, in both orders)")
    return _print_costs(costs, "corelock", "floor")


def _print_blame_cost(costs: list[Cost]) -> float:
    print("\nthe same for events of one thread, in nobody's way, with and without blame")
    return _print_costs(costs, "with blame", "without")


def _print_costs(costs: list[Cost], one: str, other: str) -> float:
    for event in EVENTS:
        _print_line(f"{one}, {event}", Spread.of([cost.by_event_ns[event] for cost in costs]), 0)
    _print_line(f"{one}, mean", Spread.of([cost.mean_ns for cost in costs]), 0)
    _print_line(f"{other}, mean", Spread.of([cost.other_mean_ns for cost in costs]), 0)
    ratio = Spread.of([cost.ratio for cost in costs])
    _print_line(f"{one} / {other}", ratio)
    return ratio.median


def _print_start_up(times: list[tuple[float, float]]) -> float:
    print("\nstart-up: milliseconds from the command to its attached probes")
    _print_line("corelock", Spread.of([ours * 1e3 for ours, _ in times]), 0)
    _print_line("bpftrace", Spread.of([theirs * 1e3 for _, theirs in times]), 0)
    ratio = Spread.of([ours / theirs for ours, theirs in times])
    _print_line("corelock / bpftrace", ratio)
    return ratio.median


def _print_hits(hits: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    print("\nnanoseconds of program per hit that is counted")
    ratios = {}
    for what, costs in hits.items():
        _print_line(f"corelock count, {what}", Spread.of([ours for ours, _ in costs]), 0)
        _print_line(f"bpftrace, {what}", Spread.of([theirs for _, theirs in costs]), 0)
        ratio = Spread.of([ours / theirs for ours, theirs in costs])
        _print_line("corelock / bpftrace", ratio)
        ratios[what] = ratio.median
    return ratios


def _print_recordings(recorded: dict[str, list[Recorded]]) -> list[tuple[str, float, float]]:
    """The two recorders beside each other; each reach by its name, value and limit."""
    print("\nrecordings of every event")
    for name, runs in recorded.items():
        lost = [run.kept.lost for run in runs]
        _print_line(f"{name}, throughput", Spread.of([run.throughput for run in runs]))
        _print_line(f"{name}, bytes/event", Spread.of(list(map(_bytes_each, runs))))
        _print_line(f"{name}, lost", Spread.of(lost), 0)
    ours, theirs = recorded["corelock record"], recorded["perf"]
    kept = Spread.of([b.throughput / a.throughput for a, b in zip(ours, theirs)])
    size = Spread.of([_bytes_each(a) / _bytes_each(b) for a, b in zip(ours, theirs)])
    _print_line("perf / corelock, throughput", kept)
    _print_line("corelock / perf, bytes", size, 3)
    if not any(run.kept.lost for run in theirs):
        print("  perf has lost nothing: this load is no test of what is lost")
    return [
        ("recording's losses", float(max(run.kept.lost for run in ours)), 0.0),
        ("perf's throughput, of ours", kept.median, 1.0),
        ("recording's bytes, of perf's", size.median, REACH_BYTES),
    ]


def _bytes_each(run: Recorded) -> float:
    return run.kept.file_bytes / run.kept.events


def _print_line(name: str, spread: Spread, digits: int = 2) -> None:
    print(f"  {name:28} {spread.median:8.{digits}f}   ", end="")
    print(f"{spread.least:.{digits}f}..{spread.most:.{digits}f}", flush=True)


def _print_reach(what: str, ratio: float, reach: float) -> None:
    verdict = "met" if ratio <= reach else "missed"
    print(f"reach: {what:32} {ratio:.3f} <= {reach:.3f}  {verdict}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}\r" if text else "\r\033[K", end="", file=sys.stderr, flush=True)


def _machine() -> dict[str, object]:
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "corelock": _version([str(corelock_command()), "--version"]),
        "bpftrace": _version(["bpftrace", "--version"]),
        "perf": _version(["perf", "--version"]),
    }


def _version(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said.strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
