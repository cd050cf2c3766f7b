"""What the command prints, on workloads whose locking is known."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, Corelock, Result, environment, run
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]
Object = dict[str, Any]

THREADS, ITERATIONS = 3, 200

TIMES_KEYS = ["count", "total", "max", "p50", "p90", "p99", "p999"]
ROW_KEYS = [
    "mm_pid", "mm_comm", "pid", "tid", "comm", "foreign", "mode", "operation", "acquisitions",
    "holds", "downgrades", "trylock_failures", "aborted_waits", "wait_ns", "hold_ns",
]  # fmt: skip
SLOW_KEYS = [
    "kind", "ts_ns", "mm_pid", "pid", "tid", "comm", "foreign", "mode", "operation",
    "duration_ns", "kernel_stack", "user_stack",
]  # fmt: skip
KEYS = [
    "schema", "host", "target", "cgroup", "start_ns", "duration_ns", "rows", "slow", "accounting",
]  # fmt: skip
EVENTS = ["start_locking", "acquire_returned", "released"]
ACCOUNTING_KEYS = {
    "events", "paired", "held_at_start", "held_at_end", "open_waits", "unmatched", "lost",
    "slow_recorded",
    "slow_lost", "children_not_followed", "hooks_missed", "charges_full", "self", "unaccounted",
    "attached_by",
}  # fmt: skip


def trace_storm(
    background: Background, *options: object, iterations: int = ITERATIONS
) -> tuple[Result, int, set[int]]:
    """Trace a whole storm of its process, with its threads; Ctrl-C ends it before they exit."""
    with Workload("storm", str(THREADS), str(iterations)) as storm:
        corelock = background("hold-times", "--pid", storm.pid, *options)
        tids = set(storm.tids) - {storm.pid}
        storm.run()
        corelock.interrupt()
        result = corelock.finish()
        storm.finish()
    assert result.code == 0, result.err
    assert len(tids) == THREADS
    return result, storm.pid, tids


def assert_consistent(object_: Object) -> None:
    """What must hold of every object, whatever was traced."""
    accounting = object_["accounting"]
    parts = [accounting[key] for key in ("paired", "held_at_start", "held_at_end", "unaccounted")]
    parts += accounting["unmatched"].values()
    parts += accounting["lost"].values()
    assert sum(accounting["events"].values()) == sum(parts)
    assert accounting["unaccounted"] == 0
    for row in object_["rows"]:
        assert row["acquisitions"] == row["wait_ns"]["count"]
        assert row["holds"] == row["hold_ns"]["count"]
        assert row["foreign"] == (row["pid"] != row["mm_pid"])
        assert row["mode"] in ("read", "write")
        assert row["downgrades"] == 0 or row["mode"] == "write"
        for times in row["wait_ns"], row["hold_ns"]:
            assert_times(times)


def assert_times(times: Object) -> None:
    """Count, total, maximum and quantiles fit each other."""
    quantiles = [times[name] for name in ("p50", "p90", "p99", "p999")]
    if times["count"] == 0:
        assert (times["total"], times["max"], quantiles) == (0, 0, [None] * 4)
        return
    assert quantiles == sorted(quantiles)
    assert quantiles[-1] <= times["max"] <= times["total"] <= times["count"] * times["max"]


def total(rows: list[Object], field: str, **wanted: Any) -> int:
    """The sum of a field over the rows that have these values."""
    return sum(row[field] for row in rows if all(row[k] == v for k, v in wanted.items()))


def by_key(rows: list[Object]) -> dict[tuple[Any, ...], Object]:
    """Rows by what names them, each once."""
    keyed = {(r["mm_pid"], r["tid"], r["mode"], r["operation"]): r for r in rows}
    assert len(keyed) == len(rows)
    return keyed


# --- the table --------------------------------------------------------------------------------


def test_table(corelock_background: Background) -> None:
    result, pid, tids = trace_storm(corelock_background, "-s", "0", "-n", "0")
    result.assert_table()
    lines = result.out.splitlines()
    assert lines[0].startswith(f"mmap_lock of storm[{pid}], ")
    assert max(map(len, lines)) <= 80
    # The totals and one sum: nothing else follows the rows.
    end = " ".join(result.out.partition("\ndowngrades ")[2].split())
    assert re.fullmatch(
        rf"{THREADS * ITERATIONS} trylock failures \d+ aborted waits 0 "
        r"events ([\d,]+) = paired \1 \+ held at start 0 \+ held at end 0 "
        r"\+ unmatched 0 \+ lost 0",
        end.replace(",", ""),
    )
    for tid in tids:
        for operation in ("mmap", "mprotect", "munmap"):
            row = rf"storm\[{tid}\] +{operation} +W +{ITERATIONS} "
            assert re.search(row, result.out, re.M)
    assert result.err == f"Tracing mmap_lock of storm[{pid}]. Ctrl-C to end.\n"


def test_quiet() -> None:
    result = run("hold-times", "-q", "--", "true")
    result.assert_table()
    assert result.err == ""


def test_with_a_duration_nobody_is_told_of_control_c() -> None:
    result = run("hold-times", "-d", "0.1", "--pid", os.getpid())
    assert result.code == 0
    assert result.err.startswith("Tracing ")
    assert "Ctrl-C" not in result.err


def test_top(corelock_background: Background) -> None:
    result, _, _ = trace_storm(corelock_background, "-n", "1", "-s", "0")
    lines = result.out.splitlines()
    assert len([line for line in lines if line.startswith("storm[")]) == 1
    assert len([line for line in lines if re.match(r"\.\.\. and \d+ more \(use -n\)", line)]) == 1


def test_sort(corelock_background: Background) -> None:
    result, _, _ = trace_storm(corelock_background, "-S", "count", "-n", "0", "-s", "0")
    rows = [line for line in result.out.splitlines() if line.startswith("storm[")]
    counts = [int(re.findall(r" [RW] +([\d,]+)", row)[0].replace(",", "")) for row in rows]
    assert len(counts) > THREADS
    assert counts == sorted(counts, reverse=True)


def test_by_operation(corelock_background: Background) -> None:
    result, _, tids = trace_storm(corelock_background, "--by", "operation", "-s", "0")
    assert f"mprotect {THREADS * ITERATIONS} " in " ".join(result.out.split())
    assert not any(f"[{tid}]" in result.out for tid in tids)
    assert "OPERATION" in result.out
    assert "THREAD" not in result.out


def test_histograms(corelock_background: Background) -> None:
    plain, _, _ = trace_storm(corelock_background)
    result, _, tids = trace_storm(corelock_background, "--hist", "-s", "0", "-n", "0")
    assert "|@" not in plain.out
    tid = min(tids)
    heading = f"storm[{tid}] mprotect write: hold (ns)\n"
    assert heading in result.out
    body = result.out.partition(heading)[2].partition("\n\n")[0]
    counts = re.findall(r"^\[\S+ \S+\) +(\d+) \|[@ ]+\|$", body, re.M)
    assert sum(map(int, counts)) == ITERATIONS
    assert result.out.rpartition("\n\n")[2].startswith("events ")


def test_terminal_gets_colour_and_pipes_none() -> None:
    terminal = subprocess.run(
        ["script", "-qec", '"$TRACED" hold-times -q -- true', "/dev/null"],
        capture_output=True,
        text=True,
        env=environment(TRACED=COMMAND, TERM="xterm"),
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert "\x1b[" in terminal.stdout
    assert "\x1b[" not in run("hold-times", "--", "true").out


# --- JSON -------------------------------------------------------------------------------------


def test_json(corelock_background: Background) -> None:
    result, pid, tids = trace_storm(corelock_background, "--json", "-n", "1")
    assert result.out.count("\n") == 1
    object_ = result.json
    assert list(object_) == KEYS
    assert object_["schema"] == "corelock.hold-times/1"
    uname = os.uname()
    assert object_["host"] == {
        "kernel": uname.release, "arch": uname.machine, "hostname": uname.nodename,
    }  # fmt: skip
    assert object_["target"] == {"pid": pid, "comm": "storm"}
    assert object_["duration_ns"] > 0
    for row in object_["rows"]:
        assert list(row) == ROW_KEYS
        assert list(row["wait_ns"]) == list(row["hold_ns"]) == TIMES_KEYS
    assert set(object_["accounting"]) == ACCOUNTING_KEYS
    assert list(object_["accounting"]["events"]) == EVENTS
    assert_consistent(object_)

    rows = object_["rows"]
    assert not any(row["foreign"] for row in rows)
    for tid in tids:
        assert total(rows, "acquisitions", tid=tid, mode="write") == 3 * ITERATIONS
        assert total(rows, "holds", tid=tid, mode="write") == 3 * ITERATIONS
        assert total(rows, "downgrades", tid=tid, operation="munmap") == ITERATIONS
        assert total(rows, "holds", tid=tid, operation="munmap", mode="read") == ITERATIONS
        assert total(rows, "acquisitions", tid=tid, operation="munmap", mode="read") == 0


def test_json_lies_within_the_time_of_the_trace(corelock_background: Background) -> None:
    result, _, _ = trace_storm(corelock_background, "--json", "--slow-us", "0", "-s", "50")
    object_ = result.json
    end_ns = object_["start_ns"] + object_["duration_ns"]
    assert object_["slow"]
    for slow in object_["slow"]:
        assert object_["start_ns"] <= slow["ts_ns"] <= slow["ts_ns"] + slow["duration_ns"] <= end_ns
    for row in object_["rows"]:
        # A thread cannot hold a lock longer than the trace takes.
        assert row["hold_ns"]["total"] <= object_["duration_ns"]


def test_json_of_no_single_process() -> None:
    result = run("hold-times", "--all", "--json", "-d", "0.2")
    assert result.json["target"] is None
    assert_consistent(result.json)


def test_documented_names_are_those_of_the_json() -> None:
    document = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    accounting = run("hold-times", "--json", "--", "true").json["accounting"]
    for group in ("events", "unmatched", "lost", "slow_lost"):
        for name in accounting[group]:
            assert f"`{name}`" in document


# --- intervals --------------------------------------------------------------------------------


def assert_adds_up(parts: list[Object], whole: Object) -> None:
    """The rows of the intervals are together those of the whole run."""
    assert whole["rows"]
    keys = by_key(whole["rows"])
    intervals = [by_key(part["rows"]) for part in parts]
    assert set().union(*intervals) == set(keys)
    for key, row in keys.items():
        mine = [interval[key] for interval in intervals if key in interval]
        for field in ("acquisitions", "holds", "downgrades", "trylock_failures", "aborted_waits"):
            assert sum(each[field] for each in mine) == row[field], (key, field)
        for times in ("wait_ns", "hold_ns"):
            for field in ("count", "total"):
                assert sum(each[times][field] for each in mine) == row[times][field], (key, times)
            assert max(each[times]["max"] for each in mine) == row[times]["max"], (key, times)
    assert parts[0]["start_ns"] == whole["start_ns"]
    for earlier, later in zip(parts, parts[1:]):
        assert earlier["start_ns"] + earlier["duration_ns"] == later["start_ns"]


def test_intervals_add_up(corelock_background: Background) -> None:
    """Load in several intervals, the end in the middle of one that has load, too."""
    with Workload("storm", "3", "30000") as storm:
        corelock = corelock_background("hold-times", "--json", "-i", "0.1", "--pid", storm.pid)
        storm.go()
        for _ in range(3):
            assert corelock.line()
        corelock.interrupt()
        result = corelock.finish()
    assert result.code == 0
    *parts, whole = result.json_lines
    assert len(parts) >= 3
    assert_consistent(whole)
    assert_adds_up(parts, whole)


def test_intervals_up_to_the_duration(corelock_background: Background) -> None:
    """2 intervals of half the duration are 2 intervals and the whole."""
    with Workload("storm", "1", "20000") as storm:
        options = ["--json", "-i", "0.25", "-d", "0.5", "--pid", storm.pid]
        corelock = corelock_background("hold-times", *options)
        storm.go()
        result = corelock.finish()
    *parts, whole = result.json_lines
    assert len(parts) == 2
    assert_adds_up(parts, whole)


def test_slow_of_intervals_are_in_the_whole(corelock_background: Background) -> None:
    with Workload("storm", "3", "10000") as storm:
        options = ["--json", "-i", "0.1", "-s", "2", "--slow-us", "0", "--pid", storm.pid]
        corelock = corelock_background("hold-times", *options)
        storm.run()
        assert corelock.line()
        corelock.interrupt()
        *parts, whole = corelock.finish().json_lines
    for kind in ("wait", "hold"):
        every = [s for part in parts for s in part["slow"] if s["kind"] == kind]
        longest = sorted((s["duration_ns"] for s in every), reverse=True)[:2]
        assert len(longest) == 2
        kept = [s["duration_ns"] for s in whole["slow"] if s["kind"] == kind]
        assert len(kept) == 2
        # The whole may have longer ones of a last interval that was cut short.
        assert min(kept) >= min(longest)


# --- CSV and -o -------------------------------------------------------------------------------


def test_csv(corelock_background: Background) -> None:
    result, _, tids = trace_storm(corelock_background, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.out, newline=""), strict=True))
    assert rows
    assert list(rows[0])[:8] == ROW_KEYS[:8]
    assert None not in rows[0]
    for tid in tids:
        mine = [row for row in rows if row["tid"] == str(tid) and row["mode"] == "write"]
        assert sum(int(row["acquisitions"]) for row in mine) == 3 * ITERATIONS
        assert {row["foreign"] for row in mine} == {"false"}
        assert all(int(row["hold_total_ns"]) >= int(row["hold_max_ns"]) for row in mine)


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=["table", "json", "csv"])
def test_output_file(form: list[str], corelock_background: Background, tmp_path: Path) -> None:
    file = tmp_path / "out"
    result, _, tids = trace_storm(corelock_background, "-n", "0", *form, "-o", file)
    assert result.out == ""
    for tid in tids:
        assert str(tid) in file.read_text()
    assert file.read_text().endswith("\n")


def test_output_to_a_dash_is_stdout() -> None:
    result = run("hold-times", "-o", "-", "--", "true")
    result.assert_table()
    assert not Path("-").exists()


def test_output_file_has_all_intervals(tmp_path: Path) -> None:
    file = tmp_path / "out"
    result = run(
        "hold-times", "--json", "-i", "0.1", "-d", "0.55", "-o", file, "--pid", os.getpid()
    )
    assert result.out == ""
    assert len(Result(0, file.read_text(), "").json_lines) >= 5


# --- slow events ------------------------------------------------------------------------------


def test_slow_zero_takes_all(corelock_background: Background) -> None:
    result, pid, tids = trace_storm(
        corelock_background, "--json", "--slow-us", "0", "-s", "100000", iterations=20
    )
    object_ = result.json
    slow, rows = object_["slow"], object_["rows"]
    assert object_["accounting"]["slow_lost"] == {"ring_full": 0, "stack_failed": 0}
    for kind, count in ("wait", "acquisitions"), ("hold", "holds"):
        assert len([s for s in slow if s["kind"] == kind]) == total(rows, count)
    assert object_["accounting"]["slow_recorded"] == len(slow)

    for each in slow:
        assert list(each) == SLOW_KEYS
        assert each["pid"] == each["mm_pid"] == pid
        assert each["kernel_stack"]
        for frame in each["kernel_stack"]:
            assert list(frame) == ["name", "offset", "address"]
        for frame in each["user_stack"]:
            assert set(frame) == {"name", "offset", "module", "address"}
    for kind in ("wait", "hold"):
        durations = [s["duration_ns"] for s in slow if s["kind"] == kind]
        assert durations == sorted(durations, reverse=True)


def test_stacks_name_functions(corelock_background: Background) -> None:
    result, _, tids = trace_storm(
        corelock_background, "--json", "--slow-us", "0", "-s", "100000", iterations=20
    )
    writes = [s for s in result.json["slow"] if s["mode"] == "write"]
    writes = [s for s in writes if s["tid"] in tids]
    assert {s["operation"] for s in writes} == {"mmap", "mprotect", "munmap"}
    for slow in writes:
        kernel = [frame["name"] for frame in slow["kernel_stack"]]
        assert any(name and slow["operation"] in name for name in kernel), kernel
        user = [frame["name"] for frame in slow["user_stack"]]
        modules = [os.path.basename(frame["module"] or "") for frame in slow["user_stack"]]
        # The innermost frame is libc's wrapper of the system call, which has no frame pointer.
        assert user[0] == slow["operation"]
        assert user[1] in {"workload_map", "workload_unmap", "storm"}
        assert user[-4:] == ["storm", "workload_thread", "start_thread", "clone3"]
        assert modules[0].startswith("libc")
        assert modules[1] == "storm"


def test_stacks_in_the_table(corelock_background: Background) -> None:
    result, _, _ = trace_storm(corelock_background, "--slow-us", "0", "-s", "1")
    assert len(re.findall(r"^(?:wait|hold) +\d", result.out, re.M)) == 2
    assert re.search(r"^    \S+\+0x[0-9a-f]+ \(storm\)$", result.out, re.M)


@pytest.mark.parametrize("options", [["--slow-us", "off"], ["-s", "0"]], ids=["off", "no stacks"])
def test_no_slow_events(options: list[str], corelock_background: Background) -> None:
    result, _, _ = trace_storm(corelock_background, "--json", *options)
    assert result.json["slow"] == []
    assert result.json["accounting"]["slow_recorded"] == 0
    assert result.json["rows"]


def test_slow_threshold(corelock_background: Background) -> None:
    result, _, _ = trace_storm(
        corelock_background, "--json", "--slow-us", "5.5", "-s", "100000", iterations=500
    )
    slow = result.json["slow"]
    assert slow
    assert min(s["duration_ns"] for s in slow) >= 5500
    assert result.json["accounting"]["slow_lost"]["ring_full"] == 0
    longest = max(row["hold_ns"]["max"] for row in result.json["rows"])
    assert max(s["duration_ns"] for s in slow if s["kind"] == "hold") == longest


# --- targets ----------------------------------------------------------------------------------


def test_command_from_its_first_instruction() -> None:
    first, second = (run("hold-times", "--json", "--", "true").json for _ in range(2))
    assert first["target"]["comm"] == "true"
    for object_ in first, second:
        rows, pid = object_["rows"], object_["target"]["pid"]
        assert {row["comm"] for row in rows} == {"true"}
        assert {row["tid"] for row in rows} == {pid}
        accounting = object_["accounting"]
        assert (accounting["held_at_start"], accounting["held_at_end"]) == (0, 0)
        assert not any(accounting["unmatched"].values())
        assert total(rows, "acquisitions", operation="exit") > 0
        # The dynamic loader's: the first thing it does is to ask where the heap ends.
        assert total(rows, "acquisitions", operation="mmap") > 3
        assert total(rows, "acquisitions", operation="munmap") > 0
    for operation in ("mmap", "brk", "mprotect", "munmap"):
        counts = [total(o["rows"], "acquisitions", operation=operation) for o in (first, second)]
        assert counts[0] == counts[1], operation


def test_command_gets_its_arguments_and_output(tmp_path: Path) -> None:
    result = run("hold-times", "-q", "-o", tmp_path / "out", "--", "printf", "%s|", "a b", "", "-h")
    assert result == (0, "a b||-h|", "")


def test_follow() -> None:
    command = ["--json", "--", "sh", "-c", "/bin/true; exit 0"]
    alone = run("hold-times", *command).json
    both = run("hold-times", "--follow", *command).json
    pid = alone["target"]["pid"]
    assert {row["mm_pid"] for row in alone["rows"]} == {pid}
    assert {row["mm_comm"] for row in alone["rows"]} == {"sh"}

    pid = both["target"]["pid"]
    children = [row for row in both["rows"] if row["mm_pid"] != pid]
    assert {row["mm_comm"] for row in children} == {"true"}
    assert len({row["mm_pid"] for row in children}) == 1
    # All of the child is there, from its own loader to its exit.
    assert total(children, "acquisitions", comm="true", operation="mmap") > 3
    assert total(children, "acquisitions", comm="true", operation="exit") > 0
    assert_consistent(both)


def test_follow_of_a_running_process(corelock_background: Background) -> None:
    forks = 5
    for options in [], ["--follow"]:
        with Workload("fork_large", "4", str(forks)) as parent:
            corelock = corelock_background("hold-times", "--json", *options, "--pid", parent.pid)
            parent.run()
            corelock.interrupt()
            object_ = corelock.finish().json
        assert_consistent(object_)
        own = [row for row in object_["rows"] if row["mm_pid"] == parent.pid]
        children = {row["mm_pid"] for row in object_["rows"]} - {parent.pid}
        assert len(children) == (forks if options else 0)
        writes = sum(r["acquisitions"] for r in own if r["mode"] == "write")
        assert writes == forks


def test_follow_grandchildren() -> None:
    script = "sh -c '/bin/true; exit 0'; exit 0"
    object_ = run("hold-times", "--json", "--follow", "--", "sh", "-c", script).json
    assert len({row["mm_pid"] for row in object_["rows"]}) == 3
    assert "true" in {row["mm_comm"] for row in object_["rows"]}
    assert_consistent(object_)


def test_tid(corelock_background: Background) -> None:
    with Workload("storm", "3", str(ITERATIONS)) as storm:
        tid = max(storm.tids)
        corelock = corelock_background("hold-times", "--json", "--tid", tid)
        storm.run()
        corelock.interrupt()
        object_ = corelock.finish().json
    rows = object_["rows"]
    assert {row["tid"] for row in rows} == {tid}
    assert total(rows, "acquisitions", mode="write") == 3 * ITERATIONS
    assert_consistent(object_)


def test_tid_locks_other_processes_too(corelock_background: Background) -> None:
    """--tid is a thread whatever it locks; --pid is a process whoever locks it."""
    with Workload("smaps_reader", "4", "20") as target:
        (reader,) = target.extra
        by_tid = corelock_background("hold-times", "--json", "--tid", reader)
        by_pid = corelock_background("hold-times", "--json", "--pid", target.pid)
        target.run()
        for corelock in by_tid, by_pid:
            corelock.interrupt()
        thread, process = by_tid.finish().json, by_pid.finish().json
    foreign = [row for row in thread["rows"] if row["mm_pid"] == target.pid]
    assert foreign
    assert all(row["foreign"] and row["pid"] == reader for row in foreign)
    seen = [row for row in process["rows"] if row["tid"] == reader]
    assert total(seen, "acquisitions") == total(foreign, "acquisitions") > 0


def test_comm(corelock_background: Background) -> None:
    with Workload("storm", "1", "100") as one, Workload("storm", "1", "200") as two:
        with Workload("many_threads", "1", "10") as other:
            corelock = corelock_background("hold-times", "--json", "--comm", "storm")
            for workload in one, two, other:
                workload.run()
            corelock.interrupt()
            object_ = corelock.finish().json
    rows = object_["rows"]
    assert {row["mm_comm"] for row in rows} == {"storm"}
    assert total(rows, "acquisitions", mm_pid=one.pid, mode="write") == 300
    assert total(rows, "acquisitions", mm_pid=two.pid, mode="write") == 600
    assert total(rows, "acquisitions", mm_pid=other.pid) == 0
    assert_consistent(object_)


def test_comm_of_a_process_started_later(corelock_background: Background) -> None:
    corelock = corelock_background("hold-times", "--json", "--comm", "storm")
    with Workload("storm", "1", "100") as storm:
        storm.run()
        corelock.interrupt()
        rows = corelock.finish().json["rows"]
    assert total(rows, "acquisitions", mm_pid=storm.pid, operation="mprotect") >= 100


def test_all_sees_a_process_started_later(corelock_background: Background) -> None:
    corelock = corelock_background("hold-times", "--json", "--all")
    with Workload("storm", "2", "100") as storm:
        tids = set(storm.tids) - {storm.pid}
        storm.run()
        corelock.interrupt()
        result = corelock.finish()
    rows = result.json["rows"]
    for tid in tids:
        operations = {"mmap": 100, "munmap": 100}
        for operation, count in operations.items():
            assert total(rows, "acquisitions", tid=tid, operation=operation, mode="write") >= count
    assert not any(row["pid"] == corelock.pid for row in rows)
    assert_consistent(result.json)


def test_all_finishes_the_ordinary_way_without_load() -> None:
    result = run("hold-times", "--all", "-d", "0.2", "-n", "1")
    result.assert_table()


def test_losses_are_the_last_line_even_when_quiet(tmp_path: Path) -> None:
    command = [str(BUILD / "storm"), "3", "10"]
    options = ["-q", "--json", "--max-rows", "2", "-o", tmp_path / "out"]
    result = run("hold-times", *options, "--", *command)
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert re.fullmatch(r"corelock: incomplete: map_full \d+\. Raise --max-rows\.", line)
