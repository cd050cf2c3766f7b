"""corelock's portable file on other kernels, against the same witness as on this one.

Every guest runs the same checks (guest/checks.sh) in one boot, and a test looks at
one check of one guest. Counts must be equal; so must times, as far as an emulated
machine tells them. Run by ``make vmtest``; pytest does not collect it by itself.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

import corelock
from corelock.histogram import Histogram
from corelock.model import Row, Times
from corelock.probes.kernel_functions import BLACKLISTED, INIT, NOINSTR, NOTRACE
from corelock.tracer import ATTACH
from tests.blame_witness import Due, blame
from tests.cli.command import Result
from tests.kernel.test_against_ftrace import assert_same_counts, assert_seen, differing_times
from tests.recorded import cycles_of, totals_of
from tests.vm.guest import TIMEOUT_S, Boot, Check, Kernel
from tests.vm.preemption import Switch, SwitchFormat, preempted_ns
from tests.witness import (
    KINDS,
    Event,
    RecordFormat,
    Totals,
    by_threads,
    decode_page,
    on_process,
    recompute,
)  # fmt: skip

WAYS = ATTACH
HOLD_TIMES = (
    "storm:2:300",
    "mprotect_large:64:30",
    "smaps_reader:64:10:2:0:smaps_rollup",
    "fork_large:64:10",
)
BLAME = ("mprotect_large:128:40", "smaps_reader:128:20:1:0:smaps_rollup")
RECORD = ("storm:2:300", "mprotect_large:64:30")
MODES = ("write", "read")
TARGETS = ("all", "comm", "cgroup")
STORM = "storm:2:100"

CHECKS = [
    "doctor",
    *(f"traced:hold-times:{way}:{workload}" for way in WAYS for workload in HOLD_TIMES),
    *(f"traced:blame:{way}:{workload}" for way in WAYS for workload in BLAME),
    *(f"traced:record:{way}:{workload}" for way in WAYS for workload in RECORD),
    *(f"chain:{way}:{mode}" for way in WAYS for mode in MODES),
    *(f"holders:{mode}" for mode in MODES),
    *(f"target:{kind}:{way}:{STORM}" for way in WAYS for kind in TARGETS),
    *(f"namespace:{way}:{STORM}" for way in WAYS),
    "count",
    "many",
    "hist",
    "trace",
]

#: Why functions cannot be probed, as far as it is known before it is tried.
FORESEEN = (INIT, NOINSTR, NOTRACE, BLACKLISTED)

#: Of what is due to a holder, how much must have been charged to it where waits are long, and
#: how much, of all that is due, may have been charged without being due where they are short.
SHARE = 0.95
WRONG = 0.15
#: What may lie between the two tracers' looks at the clock, where an instruction takes 1 ns.
APART_NS = 3000


def check_of(booted: Boot, name: str) -> Check:
    """A check that the guest was through with, and that went as it should."""
    if name not in booted.checks:
        pytest.fail(f"the guest did not get to {name}: see test_boot", pytrace=False)
    check = booted.checks[name]
    if check.code != 0:
        said = "\n".join(check.text(f) for f in ("guest.err", "workload.err", "err"))
        pytest.fail(f"{name} went wrong in the guest ({check.code}): {said}", pytrace=False)
    return check


def refused(kernel: Kernel, command: str, check: Check, record_property: Any) -> bool:
    """Whether this kernel is one for the command to refuse; then it must have done so clearly."""
    words = (kernel.refused or {}).get(command)
    if words is None:
        assert check.exit == 0, check.text("err")
        return False
    assert check.exit is not None
    Result(check.exit, check.text("out"), check.text("err")).assert_refused(words)
    message = check.text("err").splitlines()[0]
    record_property("refused", message.partition("corelock: ")[2])
    return True


def dropped(kernel: Kernel, check: Check, found: dict[str, Any]) -> bool:
    """Whether the kernel kept events from tp_btf programs, as some may (kernels.toml), and
    corelock said so."""
    accounting = found["accounting"]
    misses = sum(n for name, n in accounting["lost"].items() if name.startswith("recursion_"))
    if not misses:
        return False
    assert kernel.drops and accounting["attached_by"] == "tp_btf", accounting
    assert accounting["unaccounted"] == 0
    said = check.text("err")
    assert "corelock: incomplete: " in said and "--attach tp" in said, said
    return True


def assert_accounted(found: dict[str, Any]) -> None:
    """Nothing lost, nothing unmatched, and the sum is right."""
    accounting = found["accounting"]
    counts = {**accounting["unmatched"], **accounting["lost"], **accounting["slow_lost"]}
    for name in ("unaccounted", "charges_full"):
        counts[name] = accounting[name]
    assert not {name: count for name, count in counts.items() if count}


def undropped(kernel: Kernel, checks: Iterable[Check]) -> list[Check]:
    """Those in which the kernel kept no events."""
    return [each for each in checks if not dropped(kernel, each, json.loads(each.text("out")))]


def traced(
    kernel: Kernel, command: str, check: Check, record_property: Any
) -> Optional[dict[str, Any]]:
    """What corelock found; None if there is nothing more to ask: it refused to run, as it must
    on this kernel, or events were dropped."""
    if refused(kernel, command, check, record_property):
        return None
    found: dict[str, Any] = json.loads(check.text("out"))
    if dropped(kernel, check, found):
        record_property("drops", "counted")
        return None
    return found


class Traced:
    """A check in which corelock and ftrace looked at one run of a workload."""

    def __init__(self, check: Check) -> None:
        assert check.text("workload.exit").strip() == "0", check.text("workload.err")
        self.json = json.loads(check.text("out"))
        self.pid, *self.extra = map(int, check.text("pids").split())
        self.tids = {self.pid, *map(int, check.text("tids").split())}
        events, self.switches = _recorded(check)
        self.events = on_process(events, self.tids)

    def rows(self) -> tuple[Row, ...]:
        """Those of ``hold-times --json``, as the tests on this kernel have them."""
        return tuple(map(_row, self.json["rows"]))

    def assert_complete(self) -> None:
        """That, and nothing open."""
        assert_accounted(self.json)
        assert self.json["accounting"]["held_at_start"] == 0
        assert self.json["accounting"]["held_at_end"] == 0


#: Once for the tests that look at it, one after the other.
run_of = functools.lru_cache(maxsize=len(WAYS) * len(HOLD_TIMES))(Traced)


def _recorded(check: Check) -> tuple[list[Event], list[Switch]]:
    """What ftrace recorded, in order of time."""
    formats: dict[int, Any] = {}
    for name in *KINDS, "sched_switch":
        text = check.text(f"ftrace/{name}")
        kind = KINDS.get(name)
        (number,) = re.findall(r"^ID: (\d+)$", text, re.M)
        formats[int(number)] = RecordFormat(kind, text) if kind else SwitchFormat(text)
    layout = re.findall(
        r"field:[^;]*?\bdata;\s*offset:(\d+);\s*size:(\d+);", check.text("ftrace/header_page")
    )
    page_bytes = sum(map(int, layout[0]))
    records: list[Any] = []
    for name in sorted(check.files):
        if not name.endswith(".stats"):
            continue
        stats = dict(re.findall(r"^(.+): (\d+)$", check.text(name), re.M))
        assert [stats[k] for k in ("overrun", "commit overrun", "dropped events")] == ["0"] * 3
        raw = check.files[name.replace(".stats", ".raw")]
        pages = (raw[at : at + page_bytes] for at in range(0, len(raw), page_bytes))
        of_cpu = [record for page in pages for record in decode_page(page, formats)]
        assert len(of_cpu) == int(stats["entries"])
        records += of_cpu
    records.sort(key=lambda record: record.ts_ns)
    switches = [record for record in records if isinstance(record, Switch)]
    return [record for record in records if isinstance(record, Event)], switches


def _times(entry: dict[str, int]) -> Times:
    return Times(entry["count"], entry["total"], entry["max"], entry["max"], Histogram())


def _row(entry: dict[str, Any]) -> Row:
    """In the initial pid namespace, where JSON leaves out the host's ids."""
    same = ("mm_pid", "mm_comm", "pid", "tid", "comm", "mode", "operation", "downgrades",
            "trylock_failures", "aborted_waits")  # fmt: skip
    return Row(
        process_key=0,
        thread_key=0,
        mm_host_pid=entry["mm_pid"],
        host_pid=entry["pid"],
        host_tid=entry["tid"],
        wait=_times(entry["wait_ns"]),
        hold=_times(entry["hold_ns"]),
        **{name: entry[name] for name in same},
    )


# --- the tests --------------------------------------------------------------------------------


def test_boot(kernel: Kernel, booted: Boot) -> None:
    """It came up with the kernel that was asked for, ran all checks, and went down."""
    if booted.failure:
        pytest.fail(booted.failure, pytrace=False)
    major, minor = re.findall(r"\d+", booted.release)[:2]
    if kernel.series is None:
        assert int(major) >= 7
    else:
        assert f"{major}.{minor}" == kernel.series
    assert list(booted.checks) == CHECKS


@pytest.mark.feature("doctor")
def test_doctor(kernel: Kernel, booted: Boot, record_property: Any) -> None:
    """Its verdicts are what the other tests find."""
    check = check_of(booted, "doctor")
    report = json.loads(check.text("out"))
    assert report["schema"] == "corelock.doctor/1"
    found = {each["name"]: each for each in report["checks"]}
    words = kernel.refused or {}
    if "doctor" in words:
        assert (check.exit, report["works"], report["attach"]) == (1, False, None)
        assert found["tracepoints"]["verdict"] == "fail"
        assert words["doctor"] in found["tracepoints"]["found"]
        record_property("refused", found["tracepoints"]["found"])
        return
    assert (check.exit, report["works"], report["attach"]) == (0, True, "tp_btf")
    passed = ["tracepoints", "attach_tp_btf", "attach_tp"] + ["holders"] * ("holders" not in words)
    assert {found[name]["verdict"] for name in passed} == {"pass"}, found
    traced = check_of(booted, f"traced:hold-times:tp_btf:{HOLD_TIMES[0]}")
    has_path = "memcg_path" in traced.text("ftrace/mmap_lock_start_locking")
    assert report["event_layout"] == ("memcg_path" if has_path else "memcg_id")
    assert ("cgroup's path" in found["event_cost"]["found"]) == has_path
    assert report["event_cost_ns"] > 0


@pytest.mark.feature("hold-times, {way}")
@pytest.mark.parametrize("workload", HOLD_TIMES)
@pytest.mark.parametrize("way", WAYS)
def test_hold_times(
    kernel: Kernel, booted: Boot, way: str, workload: str, record_property: Any
) -> None:
    check = check_of(booted, f"traced:hold-times:{way}:{workload}")
    if traced(kernel, "hold-times", check, record_property) is None:
        return
    run = run_of(check)
    rows = run.rows()
    assert_seen(SimpleNamespace(events=run.json["accounting"]["events"]), run.events)
    run.assert_complete()
    assert_same_counts(rows, run.events)
    assert_known_counts(workload, rows, run)


@pytest.mark.feature("hold-times, {way}")
@pytest.mark.parametrize("way", WAYS)
def test_times(kernel: Kernel, booted: Boot, way: str) -> None:
    """Sums of times, as tests/kernel/test_against_ftrace.py has them.

    Where a thread is preempted between the two probes on one event (newer kernels let it),
    the witness is off by as long as that took; ftrace saw how long. What corelock does wrong
    it does wrong in each run, and not all may be spoilt.
    """
    if "hold-times" in (kernel.refused or {}):
        return
    checks = [check_of(booted, f"traced:hold-times:{way}:{each}") for each in HOLD_TIMES]
    runs = [run_of(check) for check in undropped(kernel, checks)]
    differing = [differing_times(run.rows(), run.events, APART_NS) for run in runs]
    assert not all(differing) or not runs, differing
    for run in runs:
        excused_ns = preempted_ns(run.switches)
        assert not differing_times(run.rows(), run.events, APART_NS, excused_ns)


def assert_known_counts(workload: str, rows: tuple[Row, ...], run: Traced) -> None:
    """What the program does, it does exactly so often."""
    name, *numbers = workload.split(":")
    arguments = [int(number) for number in numbers if number.isdigit()]
    writes: Counter[str] = Counter()
    for row in rows:
        if row.mode == "write":
            writes[row.operation] += row.acquisitions
    if name == "storm":
        times = arguments[0] * arguments[1]
        assert writes == dict.fromkeys(("mmap", "mprotect", "munmap"), times)
        assert sum(row.downgrades for row in rows) == times
    elif name == "mprotect_large":
        assert writes["mprotect"] == arguments[1]
        assert sum(row.downgrades for row in rows) == writes["munmap"] == writes["mmap"] > 0
    elif name == "smaps_reader":
        foreign = [row for row in rows if row.foreign]
        assert {row.pid for row in foreign} == set(run.extra)
        assert {(row.operation, row.mode) for row in foreign} == {("read", "read")}
        assert sum(row.holds for row in foreign) >= arguments[1]
    elif name == "fork_large":
        assert writes["clone"] == arguments[1]


class Blamed(Traced):
    """One of ``blame``: in ns, what corelock charged, and what the witness says is due."""

    def __init__(self, check: Check) -> None:
        super().__init__(check)
        self.assert_complete()
        found = self.json
        assert found["unaccounted_ns"] == 0
        assert found["wait_ns"] == found["charged_ns"] + found["unknown_ns"]
        assert found["charged_ns"] == sum(charge["charged_ns"] for charge in found["charges"])
        self.worst = max(found["charges"], key=lambda charge: charge["charged_ns"])["holder"]
        self.charged: Counter[Due] = Counter()
        for charge in found["charges"]:
            waiter, holder = charge["waiter"], charge["holder"]
            modes = waiter["mode"] == "write", holder["mode"] == "write"
            key = Due(waiter["tid"], modes[0], holder["tid"], modes[1])
            self.charged[key] += charge["charged_ns"]
        self.due = blame(self.events)[0]
        self.due_ns = sum(self.due.values())
        self.undue_ns = sum(max(0, ns - self.due.get(key, 0)) for key, ns in self.charged.items())


blame_of = functools.lru_cache(maxsize=len(WAYS) * len(BLAME))(Blamed)


@pytest.mark.feature("blame, {way}")
@pytest.mark.parametrize("workload", BLAME)
@pytest.mark.parametrize("way", WAYS)
def test_blame(kernel: Kernel, booted: Boot, way: str, workload: str, record_property: Any) -> None:
    """Many short waits. A guest's threads spend much of their time in the programs, and are
    preempted when those end: before they are in the lock's queue, which leaves much of the
    wait unknown (docs/blame.md). Who keeps the lock most is charged most all the same."""
    check = check_of(booted, f"traced:blame:{way}:{workload}")
    if traced(kernel, "blame", check, record_property) is None:
        return
    run = blame_of(check)
    holder = run.worst
    if workload.startswith("smaps_reader"):
        assert (holder["tid"], holder["foreign"]) == (run.extra[0], True)
        assert (holder["operation"], holder["mode"]) == ("read", "read")
    else:
        assert (holder["operation"], holder["mode"]) == ("mprotect", "write")


@pytest.mark.feature("record, {way}")
@pytest.mark.parametrize("workload", RECORD)
@pytest.mark.parametrize("way", WAYS)
def test_record(
    kernel: Kernel, booted: Boot, way: str, workload: str, tmp_path: Path, record_property: Any
) -> None:
    """Every cycle, and for the slow ones a stack with names."""
    check = check_of(booted, f"traced:record:{way}:{workload}")
    if refused(kernel, "record", check, record_property):
        return
    path = tmp_path / "recording"
    path.write_bytes(check.files["recording"])
    with corelock.open_recording(path) as recording:
        found, stacks = recording.footer, list(recording.stacks.values())
    assert found is not None
    if dropped(kernel, check, found):
        record_property("drops", "counted")
        return
    assert_accounted(found)
    tids = {int(tid) for name in ("pids", "tids") for tid in check.text(name).split()}
    witness = recompute(by_threads(_recorded(check)[0], tids))
    assert not witness.unmatched
    ours = totals_of(cycles_of(path))
    theirs = {key: totals for key, totals in witness.totals.items() if totals != Totals()}
    assert ours.keys() == theirs.keys()
    for key, want in theirs.items():
        for count in ("acquisitions", "holds", "downgrades", "failures"):
            assert getattr(ours[key], count) == getattr(want, count), (key, count)
    names = {frame[1] for stack in stacks for frame in (*stack.kernel, *stack.user)}
    if workload.startswith("mprotect_large"):
        assert {"do_mprotect_pkey", "main"} <= names or "start_thread" in names, names


@pytest.mark.feature("blame, tp_btf")
def test_undue_blame(kernel: Kernel, booted: Boot) -> None:
    """Of the same runs, what nobody is due to be charged with; as in test_times one may be
    spoilt, where one emulated CPU stood still between the two tracers' looks at the clock."""
    if "blame" in (kernel.refused or {}):
        return
    checks = [check_of(booted, f"traced:blame:{each}:{load}") for each in WAYS for load in BLAME]
    runs = [blame_of(check) for check in undropped(kernel, checks)]
    assert sum(run.undue_ns > WRONG * run.due_ns for run in runs) <= 1


@pytest.mark.feature("blame, {way}")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_chain(kernel: Kernel, booted: Boot, way: str, mode: str, record_property: Any) -> None:
    """Two long waits for one hold: nearly all of them is charged, and to nobody else."""
    check = check_of(booted, f"chain:{way}:{mode}")
    if traced(kernel, "blame", check, record_property) is None:
        return
    run = blame_of(check)
    (holder,) = run.extra
    its = [key for key in run.due if (key.holder, key.holder_write) == (holder, mode == "write")]
    assert sorted(key.waiter_write for key in its) == [False, True]
    assert sum(run.due[key] for key in its) >= 0.5 * run.due_ns
    assert sum(min(ns, run.charged[key]) for key, ns in run.due.items()) >= SHARE * run.due_ns
    assert run.undue_ns <= (1 - SHARE) * run.due_ns
    worst = run.worst
    assert (worst["tid"], worst["comm"]) == (holder, "chain-holder")
    assert worst["operation"] == ("mmap" if mode == "write" else "pread64")


@pytest.mark.feature("holders")
@pytest.mark.parametrize("mode", MODES)
def test_holders(kernel: Kernel, booted: Boot, mode: str, record_property: Any) -> None:
    check = check_of(booted, f"holders:{mode}")
    if refused(kernel, "holders", check, record_property):
        return
    pid, holder = map(int, check.text("pids").split())
    (lock,) = json.loads(check.text("out"))["locks"]
    assert [process["pid"] for process in lock["processes"]] == [pid]
    assert lock["mode"] == mode
    assert lock["consistent"]
    thread = lock["holder"]["thread"]
    assert (thread["tid"], thread["comm"]) == (holder, "chain-holder")
    assert thread["operation"] == ("mmap" if mode == "write" else "pread64")
    assert lock["holder"]["certainty"] == ("owner" if mode == "write" else "hint")
    names = [frame["name"] or "" for frame in thread["kernel_stack"]]
    assert any("fuse" in name for name in names), names
    waiters = [(each["mode"], each["thread"]["comm"]) for each in lock["waiters"]]
    assert waiters == [("write", "chain-1"), ("read", "chain-2")]


def assert_storm(found: dict[str, Any], way: str) -> None:
    """Each thread's system calls are counted, every one, and waits charged or unknown."""
    assert_accounted(found)
    assert found["accounting"]["attached_by"] == way
    assert found["blame"]["unaccounted_ns"] == 0
    times = 200
    writes = Counter[str]()
    for row in found["rows"]:
        if row["comm"].startswith("storm") and row["tid"] != row["pid"] and row["mode"] == "write":
            writes[row["operation"]] += row["acquisitions"]
    assert {name: writes[name] for name in ("mmap", "mprotect", "munmap")} == dict.fromkeys(
        ("mmap", "mprotect", "munmap"), times
    )


@pytest.mark.feature("targets, {way}")
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_targets(kernel: Kernel, booted: Boot, kind: str, way: str, record_property: Any) -> None:
    check = check_of(booted, f"target:{kind}:{way}:{STORM}")
    found = traced(kernel, "hold-times", check, record_property)
    if found is not None:
        assert_storm(found, way)


@pytest.mark.feature("pid namespaces, {way}")
@pytest.mark.parametrize("way", WAYS)
def test_pid_namespace(kernel: Kernel, booted: Boot, way: str, record_property: Any) -> None:
    check = check_of(booted, f"namespace:{way}:{STORM}")
    found = traced(kernel, "hold-times", check, record_property)
    if found is None:
        return
    assert_storm(found, way)
    # corelock is 1 or 2 there, and the command is next.
    assert found["target"]["pid"] < 10 < found["target"]["host_pid"]


# --- whether a failure is told ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("hang", ("still running after 45 s", "as if for ever")),
        ("panic", ("went down before all checks", "Kernel panic")),
        ("poweroff", ("went down before all checks", "Power down")),
    ],
)
def test_of_these_tests(guests: Any, check: str, words: tuple[str, ...]) -> None:
    """A guest that gets stuck or goes down early has failed; its console shows how."""
    booted = guests.boot_another(check, timeout_s=45.0)
    assert booted.release
    assert booted.checks == {}
    for word in words:
        assert word in str(booted.failure)


def test_a_check_that_fails_has_failed(guests: Any) -> None:
    booted = guests.boot_another("no_such_check", timeout_s=TIMEOUT_S)
    assert booted.failure is None
    with pytest.raises(pytest.fail.Exception, match="no_such_check went wrong"):
        check_of(booted, "no_such_check")


#: What check_count of the guest counts, and how often known_calls:500:2 comes by.
KNOWN_COUNTS = {
    "null_lseek": 1000,
    "known_calls:known_function": 1000,
    "known_calls:known_calls:turn": 1000,
    "known_calls:known_calls:place": 1000,
    "syscalls:sys_enter_lseek": 1000,
    "sched:sched_process_exit": 3,
}


#: What check_trace of the guest prints of turn i.
TRACED_VALUES: dict[str, Callable[[int], dict[str, Any]]] = {
    "known_calls:known_calls:turn": lambda i: {
        "arg1": -1, "arg2": i % 256, "arg3": -i, "arg4": -i * 10_000_000_000,
        "str(arg5)": "odd" if i & 1 else "even", "arg6": 3 * (i % 8), "arg7": 42,
    },
    "known_calls:known_calls:place": lambda i: {"arg1": i, "arg2": 1 + (i & 1)},
    "syscalls:sys_enter_lseek": lambda i: {"offset": 0, "whence": 0, "s32(whence)": 0},
    "null_lseek": lambda i: {"arg2": 0, "arg3": 0, "offset": 0},
}  # fmt: skip


def missed(kernel: Kernel, check: Check, count: int, shortfall: int, record_property: Any) -> bool:
    """Whether the kernel kept hits from a program that ran already on that CPU, as it may where
    programs can be preempted, and corelock said how many."""
    if not count:
        return False
    assert kernel.drops, f"missed {count}"
    assert shortfall <= count
    assert re.search(rf"^corelock: incomplete: .*\bmissed {count:,}\b", check.text("err"), re.M)
    record_property("drops", "counted")
    return True


@pytest.mark.feature("count")
def test_count(kernel: Kernel, booted: Boot, record_property: Any) -> None:
    """A function of the kernel and one of a program, static probes, a system call, an event."""
    check = check_of(booted, "count")
    if refused(kernel, "count", check, record_property):
        return
    found = json.loads(check.text("out"))
    counts = {each["name"]: each["count"] for each in found["counts"]}
    assert not found["probes"]["refused"]
    if "hist" in check.files:
        by_thread = re.findall(r"common_pid: +(\d+) \} hitcount: +(\d+)", check.text("hist"))
        ours = [int(hits) for tid, hits in by_thread if tid in check.text("tids").split()]
        assert sum(ours) == KNOWN_COUNTS["syscalls:sys_enter_lseek"]
    shortfall = sum(KNOWN_COUNTS.values()) - sum(counts.values())
    if not missed(kernel, check, found["missed"], shortfall, record_property):
        assert counts == KNOWN_COUNTS


@pytest.mark.feature("trace")
def test_trace(kernel: Kernel, booted: Boot, record_property: Any) -> None:
    """Every value of known_calls:200:2, who called, and the arguments of a kernel function."""
    check = check_of(booted, "trace")
    if refused(kernel, "trace", check, record_property):
        return
    *events, end = map(json.loads, check.text("out").splitlines())
    accounting = end["accounting"]
    losses = ("ring_full", "unread", "unaccounted")
    assert not {cause: accounting[cause] for cause in losses if accounting[cause]}
    record_property("ways", end["probes"]["attached"])
    shortfall = 2 * 200 * len(TRACED_VALUES) - accounting["hits"]
    if missed(kernel, check, accounting["missed"], shortfall, record_property):
        return
    threads: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["probe"] == "null_lseek":
            assert event["fields"].pop("arg1") >> 48 == 0xFFFF  # the file's address
        threads[event["probe"], event["tid"]].append(event)
    assert Counter(probe for probe, _ in threads) == dict.fromkeys(TRACED_VALUES, 2)
    for (probe, _), these in threads.items():
        values = TRACED_VALUES[probe]
        assert [event["fields"] for event in these] == [values(i) for i in range(200)]
        # Of a system call's events only newer kernels take a stack; of user code there is none.
        if not probe.startswith("syscalls"):
            stacks = {bool(event["kernel_stack"]) for event in these}
            assert stacks == {probe == "null_lseek"}
        for event in these:
            names = [frame["name"] for frame in event["user_stack"]]
            assert "workload_thread" in names, event


@pytest.mark.feature("count, many")
def test_a_thousand_functions(kernel: Kernel, booted: Boot, record_property: Any) -> None:
    """Each function that its patterns match is attached to, or it is known beforehand that it
    cannot be; and many at once where the kernel has a way to."""
    check = check_of(booted, "many")
    if refused(kernel, "count", check, record_property):
        return
    found = json.loads(check.text("out"))["probes"]
    attached, reasons = found["attached"], found["refused"]
    functions = sum(attached.get(way, 0) for way in ("kprobe_multi", "fentry", "kprobe"))
    assert functions >= 1000
    unforeseen = {
        name for reason, names in reasons.items() if reason not in FORESEEN for name in names
    }
    assert len(unforeseen) <= functions / 100, unforeseen
    record_property("ways", attached)


@pytest.mark.feature("hist")
def test_hist(kernel: Kernel, booted: Boot, record_property: Any) -> None:
    """Each system call of two threads has a time, and each thread's exit a priority."""
    check = check_of(booted, "hist")
    if refused(kernel, "hist", check, record_property):
        return
    found = json.loads(check.text("out"))
    assert not any(each["unaccounted"] for each in found["accounting"])
    assert not any(sum(each["lost"].values()) for each in found["accounting"])
    assert not found["faults"]
    starts = next(each["starts"] for each in found["accounting"] if "starts" in each)
    shortfall = 2003 - starts["seen"] - sum(each["seen"] for each in found["accounting"])
    if missed(kernel, check, found["missed"], shortfall, record_property):
        return
    counts: dict[str, list[int]] = {}
    for each in found["histograms"]:
        assert each["key"]["comm"] == "known_calls"
        assert sum(bucket["count"] for bucket in each["buckets"]) == each["count"]
        counts.setdefault(each["event"], []).append(each["count"])
    assert counts["syscalls:sys_exit_lseek"] == [500, 500]
    assert sum(counts["sched:sched_process_exit"]) == 3
    assert starts == {"seen": 1000, "ended": 1000, "replaced": 0, "lost": 0, "open": 0}
    assert {each["p50"] for each in found["histograms"] if each["field"] == "prio"} == {120}
