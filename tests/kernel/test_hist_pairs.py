"""Times between two events, texts as keys, and what is lost, against ftrace and known numbers."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import corelock
from corelock import histograms
from corelock.measured import HistAccounting
from tests.cli.command import Corelock
from tests.event_witness import EventWitness
from tests.kernel.test_hist import CALLS, ENTER, EXIT, Run, assert_complete
from tests.namespaces import PidNamespaces, interrupt_inside
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

ATTEMPTS = 5


def test_times_of_threads() -> None:
    for _ in range(ATTEMPTS):
        run = Run(latency=[(f"t:{ENTER}", f"t:{EXIT}")], by=("tid",))
        (measured,) = run.snapshot.measures
        assert_complete(measured.accounting)
        assert measured.accounting.counted == measured.accounting.starts_seen == CALLS
        starts: dict[int, int] = {}
        times: dict[int, list[int]] = defaultdict(list)
        for record in run.records:
            if f"syscalls:{record.name}" == ENTER:
                starts[record.tid] = record.ts_ns
            else:
                times[record.tid].append(record.ts_ns - starts.pop(record.tid))
        assert {key[0] for key in measured.histograms} == times.keys()
        if all(
            _close(measured.histograms[tid,].sum, sum(those), len(those))
            for tid, those in times.items()
        ):
            break
        # The scheduler, or an interrupt, came between the two tools' probes.
    else:
        raise AssertionError(f"times differ in {ATTEMPTS} runs")
    for tid, those in times.items():
        assert measured.histograms[tid,].count == len(those)


def _close(one_ns: int, other_ns: int, events: int) -> bool:
    return abs(one_ns - other_ns) <= 0.02 * other_ns + 2000 * events


def test_starts_and_ends_add_up() -> None:
    """Known calls: starts that are replaced, have no end, and ends that have no start."""
    libc = ctypes.CDLL(None)
    pair = ("t:syscalls:sys_enter_getpgid", "t:syscalls:sys_exit_getsid")
    with corelock.Histograms(latency=[pair], pid=os.getpid()) as made:
        for _ in range(10):
            libc.getpgid(0)
        for _ in range(3):
            libc.getsid(0)
        libc.getpgid(0)
        (measured,) = made.stop().measures
    accounting = measured.accounting
    # With a pid, an end without a start may be anybody's.
    assert accounting == HistAccounting(
        seen=1, counted=1, filtered=0, without_start=0,
        lost={"keys_full": 0, "key_failed": 0, "chunks_full": 0},
        starts_seen=11, starts_ended=1, starts_replaced=9, starts_lost=0, starts_open=1,
    )  # fmt: skip
    assert accounting.unaccounted == 0


def test_ends_without_a_start() -> None:
    code = "import ctypes; c = ctypes.CDLL(None); [c.getsid(0) for _ in range(7)]"
    pair = ("t:syscalls:sys_enter_getpgid", "t:syscalls:sys_exit_getsid")
    with corelock.Histograms(latency=[pair], by=("comm",)) as made:
        subprocess.run([sys.executable, "-c", code], check=True)
        (measured,) = made.stop().measures
    accounting = measured.accounting
    assert accounting.without_start >= 7
    assert accounting.unaccounted == 0


@pytest.fixture()
def loop_device() -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(4 << 20)
        found = subprocess.run(
            ["losetup", "-f", "--show", file.name], check=True, stdout=subprocess.PIPE, text=True
        )
        device = found.stdout.strip()
        try:
            yield device
        finally:
            subprocess.run(["losetup", "-d", device], check=True)


def test_times_of_requests_by_their_key(loop_device: str) -> None:
    issue, complete = "block:block_rq_issue", "block:block_rq_complete"
    number = os.stat(loop_device).st_rdev
    device = os.major(number) << 20 | os.minor(number)
    with (
        corelock.Histograms(
            latency=[(f"t:{issue}", f"t:{complete}")],
            key=("dev", "sector"),
            by=("dev", "rwbs", "nr_sector"),
            filter=f"dev == {device}",
        ) as made,
        EventWitness(issue, complete) as ftrace,
    ):
        requests = _read_and_write(loop_device)
        records = [record for record in ftrace.stop() if record["dev"] == device]
        (measured,) = made.stop().measures
    assert measured.accounting.unaccounted == 0
    assert measured.accounting.starts_replaced == measured.accounting.starts_lost == 0
    expected: Counter[tuple[object, ...]] = Counter()
    starts: dict[int, int] = {}
    times: dict[tuple[object, ...], int] = defaultdict(int)
    for record in records:
        if f"block:{record.name}" == issue:
            starts[record["sector"]] = record.ts_ns
        elif record["sector"] in starts:
            key = (device, record.values["rwbs"], record["nr_sector"])
            expected[key] += 1
            times[key] += record.ts_ns - starts.pop(record["sector"])
    assert sum(expected.values()) >= requests
    assert {key: each.count for key, each in measured.histograms.items()} == expected
    for key, distribution in measured.histograms.items():
        assert distribution.sum == pytest.approx(times[key], rel=0.5, abs=2e6)


def _read_and_write(device: str) -> int:
    """By another process, as the own one's events do not count; how many requests it makes."""
    both = f"if={device} of=/dev/null iflag=direct", f"if=/dev/zero of={device} oflag=direct"
    for words in both:
        subprocess.run(["dd", *words.split(), "bs=8K", "count=100", "status=none"], check=True)
    return 200


@pytest.mark.parametrize("key", ["pid=next_pid", "s32(pid)=u32(next_pid)"])
def test_keys_of_other_names(key: str) -> None:
    """From being woken to running, of a process that sleeps a known number of times."""
    sleeps = 300
    code = f"import sys, time; sys.stdin.readline(); [time.sleep(1e-4) for _ in range({sleeps})]"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as sleeper:
        with corelock.Histograms(
            latency=[("t:sched:sched_waking", "t:sched:sched_switch")],
            key=(key,),
            by=("next_pid",),
            filter=f"next_pid == {sleeper.pid}",
        ) as made:
            sleeper.communicate(b"\n")
            snapshot = made.stop()
    (measured,) = snapshot.measures
    (distribution,) = measured.histograms.values()
    assert measured.histograms.keys() == {(sleeper.pid,)}
    assert measured.accounting.unaccounted == 0
    # For the line that it reads this process wakes it, whose own events do not count, nor do those
    # of a timer that interrupts it; but it may be woken on its way to its end, or before it has
    # left the CPU: the next one replaces that.
    own = snapshot.missed + snapshot.self_hits
    least = sleeps - own - measured.accounting.starts_replaced
    assert least <= distribution.count <= sleeps + 10
    assert distribution.max is not None and distribution.max < 10e9


@pytest.fixture()
def programs() -> Iterator[list[Path]]:
    """Copies of a program with names of 61 to 66 bytes: the longest text has 63."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="p") as folder:
        paths = [
            Path(folder) / "x".ljust(length - len(folder) - 1, "y") for length in range(61, 67)
        ]
        for path in paths:
            shutil.copy("/bin/true", path)
        yield paths


def test_located_texts_are_cut(programs: list[Path]) -> None:
    """64 and more bytes are one key: the first 63."""
    event = "sched:sched_process_exec"
    with (
        corelock.Histograms(f"t:{event}:pid", by=("filename",)) as made,
        EventWitness(event) as ftrace,
    ):
        for path in programs:
            subprocess.run([path], check=True)
        records = ftrace.stop()
        (measured,) = made.stop().measures
    pids: dict[str, list[int]] = defaultdict(list)
    for record in records:
        name = record.values["filename"]
        assert isinstance(name, str)
        pids[name[:63]].append(record["pid"])
    ours = {key[0]: each for key, each in measured.histograms.items()}
    assert len({str(path)[:63] for path in programs}) == 3
    for path in programs:
        name = str(path)[:63]
        assert ours[name].count == len(pids[name])
        assert (ours[name].min, ours[name].sum) == (min(pids[name]), sum(pids[name]))
    assert ours[str(programs[-1])[:63]].count == 4
    assert_complete(measured.accounting)


def test_text_at_an_address() -> None:
    with corelock.Histograms(
        "t:syscalls:sys_enter_openat:dfd", pid=os.getpid(), by=("str(filename)",)
    ) as made:
        for _ in range(3):
            assert not os.access("/nothing", os.R_OK)
            with pytest.raises(FileNotFoundError):
                os.open("/nothing/here", os.O_RDONLY)
        (measured,) = made.stop().measures
    assert measured.histograms["/nothing/here",].count == 3
    assert measured.histograms["/nothing/here",].min == -100


def test_no_room_for_keys() -> None:
    run = Run(f"t:{EXIT}:ret", by=("tid",), max_keys=2)
    (measured,) = run.snapshot.measures
    accounting = measured.accounting
    calls = Counter(record.tid for record in run.of(EXIT))
    assert len(measured.histograms) == 2
    assert all(each.count == calls[key[0]] for key, each in measured.histograms.items())  # type: ignore[index]
    assert accounting.lost["keys_full"] == CALLS - sum(
        each.count for each in measured.histograms.values()
    )
    assert accounting.lost["keys_full"] > 0
    assert accounting.unaccounted == 0


def test_no_room_for_buckets() -> None:
    """More octaves for each of 60 keys than there is room for."""
    libc = ctypes.CDLL(None)
    with corelock.Histograms(f"t:{ENTER}:pos", pid=os.getpid(), by=("fd",), max_keys=60) as made:
        for fd in range(60):
            for bit in range(62):
                libc.pread64(4000 + fd, None, ctypes.c_size_t(0), ctypes.c_long(1 << bit))
        (measured,) = made.stop().measures
    accounting = measured.accounting
    assert accounting.seen == 60 * 62
    assert accounting.lost["keys_full"] == 0
    assert accounting.lost["chunks_full"] > 0
    assert accounting.unaccounted == 0
    for distribution in measured.histograms.values():
        assert distribution.count + distribution.lost == 62


def test_no_room_for_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "_MAX_STARTS", 2)
    with Workload("", command=[sys.executable, "-m", "tests.event_workload"]) as workload:
        # All of its threads wait, and only one call of theirs ends.
        with corelock.Histograms(
            latency=[(f"t:{ENTER}", "t:syscalls:sys_exit_getsid")], pid=workload.pid
        ) as made:
            workload.run()
            (measured,) = made.stop().measures
        workload.finish()
    accounting = measured.accounting
    assert (accounting.starts_seen, accounting.starts_open) == (CALLS, 2)
    assert accounting.starts_lost > 0
    assert accounting.starts_lost + accounting.starts_replaced == CALLS - 2
    assert accounting.unaccounted == 0


def test_many_threads_meet_the_same_new_keys() -> None:
    """CPUs that make the same groups and chunks at the same time agree on them."""
    libc = ctypes.CDLL(None)
    rounds, threads, keys = 3, 4, 200

    def call() -> None:
        for fd in range(keys):
            libc.pread64(4000 + fd, None, ctypes.c_size_t(0), ctypes.c_long(fd))

    for _ in range(rounds):
        with corelock.Histograms(f"t:{ENTER}:pos", pid=os.getpid(), by=("fd",)) as made:
            running = [threading.Thread(target=call) for _ in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            (measured,) = made.stop().measures
        assert_complete(measured.accounting)
        assert {key[0]: each.count for key, each in measured.histograms.items()} == {
            4000 + fd: threads for fd in range(keys)
        }


@pytest.mark.parametrize("level", [1, 2])
def test_ids_are_those_of_the_callers_pid_namespace(level: int) -> None:
    """Whoever is outside of it has none; the threads that a time is of are told apart even so."""
    with PidNamespaces(2) as namespaces:
        with namespaces.workload(2, "known_calls", 300, 3) as inner, ExitStack() as stack:
            ids = set(namespaces.host_ids(2, level))
            tool = stack.enter_context(
                Corelock(
                    "hist", "--json", "--by", "comm,tid", "--filter", 'comm == "known_calls"',
                    "--latency", "t:syscalls:sys_enter_lseek", "t:syscalls:sys_exit_lseek",
                    prefix=namespaces.inside(level),
                )
            )  # fmt: skip
            outer = stack.enter_context(Workload("known_calls", "300", "3"))
            tool.wait_attached()
            inner.run()
            outer.run()
            interrupt_inside(tool)
            found = tool.finish().json
    counts = {each["key"]["tid"]: each["count"] for each in found["histograms"]}
    # Three threads outside, that all are 0.
    assert counts.pop(0) == 900
    assert counts.keys() <= ids
    assert list(counts.values()) == [300] * 3
