"""Pids as the caller sees them: tool and target in pid namespaces, one or two levels deep.

What an id is on the host is known from /proc here, outside of all of them, and the
counts from ftrace, which knows threads by their ids on the host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from corelock import HolderSampler
from tests.cli.command import Corelock, eventually, run
from tests.locks import queue_length
from tests.namespaces import PidNamespaces, interrupt_inside
from tests.witness import Event, Ftrace, Totals, by_threads, on_process, recompute
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]


@pytest.fixture(params=[1, 2], ids=["one level", "two levels"])
def level(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture()
def namespaces(level: int) -> Iterator[PidNamespaces]:
    with PidNamespaces(level) as open_namespaces:
        yield open_namespaces


def host_id(row: dict[str, Any], name: str) -> int:
    """``pid``, ``tid`` or ``mm_pid`` on the host, as docs/json.md says."""
    return int(row.get(name.replace("pid", "host_pid").replace("tid", "host_tid"), row[name]))


def counts_of(rows: list[dict[str, Any]]) -> dict[tuple[int, str], tuple[int, ...]]:
    """Corelock's counts by thread, by its id on the host, and mode."""
    counts: dict[tuple[int, str], tuple[int, ...]] = {}
    for row in rows:
        key = host_id(row, "tid"), row["mode"]
        failures = row["trylock_failures"] + row["aborted_waits"]
        ours = row["acquisitions"], row["holds"], row["downgrades"], failures
        counts[key] = tuple(map(sum, zip(counts.get(key, (0, 0, 0, 0)), ours)))
    return counts


def witnessed(events: list[Event]) -> dict[tuple[int, str], tuple[int, ...]]:
    """The same of the witness."""
    return {
        (tid, mode): (t.acquisitions, t.holds, t.downgrades, t.failures)
        for (tid, mode), t in recompute(events).totals.items()
        if t != Totals()
    }


def assert_consistent(object_: dict[str, Any]) -> None:
    accounting = object_["accounting"]
    assert accounting["unaccounted"] == 0
    assert not any(accounting["lost"].values())
    assert not any(accounting["unmatched"].values())


def stop(corelock: Corelock) -> Any:
    """Ctrl-C for one that was started by ``inside()``; what it wrote."""
    interrupt_inside(corelock)
    result = corelock.finish()
    assert result.code == 0, result.err
    return result.json


# --- tool and target, each at some level --------------------------------------------------------


@pytest.mark.parametrize(("tool", "target"), [(1, 1), (2, 2), (1, 2), (0, 1), (0, 2)])
def test_a_process_and_its_threads(tool: int, target: int, corelock_background: Background) -> None:
    with PidNamespaces(max(tool, target)) as namespaces, ExitStack() as stack:
        storm = stack.enter_context(namespaces.workload(target, "storm", 3, 200))
        # The pid as the tool sees it, by what it calls itself.
        own = namespaces.host_ids(target, target)
        seen = {on_host: id_ for id_, on_host in namespaces.host_ids(target, tool).items()}
        pid = seen[own[storm.pid]]
        tids = {int(t) for t in os.listdir(f"/proc/{own[storm.pid]}/task")}
        corelock = corelock_background(
            "hold-times", "--json", "--pid", pid, prefix=namespaces.inside(tool)
        )
        with Ftrace() as ftrace:
            storm.run()
            events = ftrace.stop()
            assert ftrace.lost == 0
        if tool:
            interrupt_inside(corelock)
        else:
            corelock.interrupt()
        object_ = corelock.finish().json
    assert_consistent(object_)
    assert counts_of(object_["rows"]) == witnessed(on_process(events, tids))
    for row in object_["rows"]:
        assert (row["pid"], row["mm_pid"]) == (pid, pid)
        assert host_id(row, "pid") == host_id(row, "mm_pid") == own[storm.pid]
        assert row["tid"] == seen[host_id(row, "tid")]
        assert not row["foreign"]
        if not tool:
            assert not {"mm_host_pid", "host_pid", "host_tid"} & set(row)
    assert object_["target"]["pid"] == pid
    assert object_["target"].get("host_pid", pid) == own[storm.pid]


def test_tid(level: int, namespaces: PidNamespaces, corelock_background: Background) -> None:
    with namespaces.workload(level, "storm", 3, 200) as storm:
        host_ids = namespaces.host_ids(level, level)
        tid = max(id_ for id_ in host_ids if id_ > storm.pid)
        inside = namespaces.inside(level)
        corelock = corelock_background("hold-times", "--json", "--tid", tid, prefix=inside)
        storm.run()
        object_ = stop(corelock)
    assert_consistent(object_)
    assert {(row["tid"], host_id(row, "tid")) for row in object_["rows"]} == {(tid, host_ids[tid])}
    assert sum(r["acquisitions"] for r in object_["rows"] if r["mode"] == "write") == 600


def test_a_command_and_its_children(level: int, namespaces: PidNamespaces, tmp_path: Path) -> None:
    forks = 5
    command = [BUILD / "fork_large", 4, forks]
    inside = namespaces.inside(level)
    for follow in [], ["--follow"]:
        options = ["--json", "-o", tmp_path / "out", *follow]
        assert run("hold-times", *options, "--", *command, prefix=inside).code == 0
        object_ = json.loads((tmp_path / "out").read_text())
        assert_consistent(object_)
        target = object_["target"]
        assert target["comm"] == "fork_large"
        assert target["host_pid"] != target["pid"]
        own = [row for row in object_["rows"] if row["mm_pid"] == target["pid"]]
        assert {row["mm_host_pid"] for row in own} == {target["host_pid"]}
        clones = [row for row in own if row["operation"] == "clone" and row["mode"] == "write"]
        assert sum(row["acquisitions"] for row in clones) == forks
        children = {row["mm_pid"] for row in object_["rows"]} - {target["pid"]}
        assert len(children) == (forks if follow else 0)
        assert 0 not in children


def test_follow_of_a_running_process(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    with namespaces.workload(level, "fork_large", 4, 5) as parent:
        options = ["--json", "--follow", "--pid", parent.pid]
        corelock = corelock_background("hold-times", *options, prefix=namespaces.inside(level))
        parent.run()
        object_ = stop(corelock)
    assert_consistent(object_)
    assert len({row["mm_pid"] for row in object_["rows"]} - {0, parent.pid}) == 5


def test_a_name_is_that_of_the_namespaces_processes(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    with (
        namespaces.workload(level, "storm", 2, 100) as inner,
        Workload("storm", "1", "50") as other,
    ):
        options = ["--json", "--comm", "storm"]
        corelock = corelock_background("hold-times", *options, prefix=namespaces.inside(level))
        inner.run()
        other.run()
        object_ = stop(corelock)
    assert_consistent(object_)
    assert {row["mm_pid"] for row in object_["rows"]} == {inner.pid}
    assert sum(r["acquisitions"] for r in object_["rows"] if r["mode"] == "write") == 600


def test_all_is_the_host(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    """What is outside has the pids of the host."""
    with (
        namespaces.workload(level, "storm", 1, 100) as inner,
        Workload("storm", "1", "50") as other,
    ):
        corelock = corelock_background(
            "hold-times", "--json", "--all", prefix=namespaces.inside(level)
        )
        inner.run()
        other.run()
        object_ = stop(corelock)
    rows = [row for row in object_["rows"] if row["mm_comm"] == "storm" and row["mode"] == "write"]
    outer = [row for row in rows if row["mm_pid"] == 0]
    assert {(row["pid"], row["tid"] and 1) for row in outer} == {(0, 0)}
    assert (
        {row["mm_host_pid"] for row in outer} == {row["host_pid"] for row in outer} == {other.pid}
    )
    assert sum(row["acquisitions"] for row in outer) == 150
    assert sum(row["acquisitions"] for row in rows if row["mm_pid"] == inner.pid) == 300


_OWN = """
import mmap, os, corelock
pid = os.getpid()
with corelock.Tracer(everything=True) as host, corelock.Tracer(pid=pid) as own:
    mmap.mmap(-1, 1 << 20).close()
    own.stop()
    host.stop()
    writes = [row for row in own.snapshot().rows if (row.mode, row.operation) == ("write", "mmap")]
    print(own.host_pid, {(row.pid, row.host_pid) for row in writes} == {(pid, own.host_pid)})
    print(host.accounting().self_events >= 3, host.accounting().unaccounted)
    print(any(row.host_pid == own.host_pid for row in host.snapshot().rows))
"""


def test_the_tracer_itself(level: int, namespaces: PidNamespaces) -> None:
    """It can be the target, and else its own locking is in no row."""
    command = [*namespaces.inside(level), sys.executable, "-c", _OWN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (host_pid, right), balance, shown = (line.split() for line in process.stdout)
    assert int(host_pid) > 0
    assert (right, balance, shown) == ("True", ["True", "0"], ["False"])


_LOAD = """
import os, sys
from corelock._native import Options, Session
session = Session()
session.configure(Options("PROCESS", int(sys.argv[1]) or os.getpid()))
try:
    session.load()
    print(os.getpid(), session.host_target_id())
except Exception as error:
    print(error)
"""


def load(prefix: list[str], pid: int = 0) -> str:
    """What the library says to a process that is to be traced; 0: the one that asks."""
    command = [*prefix, sys.executable, "-c", _LOAD, str(pid)]
    return subprocess.check_output(command, text=True).strip()


def test_a_process_that_has_gone(level: int, namespaces: PidNamespaces) -> None:
    said = load(namespaces.inside(level), 12345)
    assert said.startswith("cannot find 12345 in this pid namespace: No such process")


@pytest.mark.parametrize("level", [0, 1])
def test_the_library_needs_no_proc(level: int) -> None:
    """Python does; but whose pids they are, the library finds out without it."""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    with PidNamespaces(level) as namespaces:
        own, on_host = map(int, load([*namespaces.inside(level), *hide]).split())
        assert (own == on_host) == (level == 0)


# --- from outside -------------------------------------------------------------------------------


def read_smaps(pid: int) -> None:
    """As far as it gets, if the process exits meanwhile."""
    with suppress(ProcessLookupError):
        Path(f"/proc/{pid}/smaps").read_bytes()


@contextmanager
def reading_smaps(pid: int) -> Iterator[int]:
    """A thread of this process, outside, that reads a process's smaps all the time; its tid."""
    tid, begun, done = [0], threading.Event(), threading.Event()

    def read() -> None:
        tid[0] = threading.get_native_id()
        while not done.is_set():
            read_smaps(pid)
            begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        begun.wait()
        yield tid[0]
    finally:
        done.set()
        thread.join()


def test_a_locker_from_outside(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    with namespaces.workload(level, "storm", 2, 100) as storm:
        pid = namespaces.host_ids(level, level)[storm.pid]
        inside = namespaces.inside(level)
        as_json = corelock_background("hold-times", "--json", "--pid", storm.pid, prefix=inside)
        as_text = corelock_background("hold-times", "--pid", storm.pid, prefix=inside)
        tids = {int(tid) for tid in os.listdir(f"/proc/{pid}/task")}
        with Ftrace() as ftrace:
            storm.run()
            for _ in range(20):
                read_smaps(pid)
            events = ftrace.stop()
        object_ = stop(as_json)
        interrupt_inside(as_text)
        text = as_text.finish().out
    assert_consistent(object_)
    own_tid = threading.get_native_id()
    foreign = [row for row in object_["rows"] if row["foreign"]]
    assert {(row["pid"], row["tid"], row["mm_pid"]) for row in foreign} == {(0, 0, storm.pid)}
    assert {(r["host_pid"], r["host_tid"]) for r in foreign} == {(os.getpid(), own_tid)}
    [mm] = {event.mm for event in on_process(events, tids)}
    ours = [event for event in by_threads(events, {own_tid}) if event.mm == mm]
    assert counts_of(foreign) == witnessed(ours)
    assert sum(row["acquisitions"] for row in foreign) >= 20
    assert f"[^{own_tid}] " in text
    assert "\n[^N] outside of this pid namespace: N is its id on the host\n" in text


def test_blame_of_a_holder_outside(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    with namespaces.workload(level, "smaps_reader", 128, 40) as load:
        host_ids = namespaces.host_ids(level, level)
        inside = namespaces.inside(level)
        as_json = corelock_background("blame", "--json", "--pid", load.pid, prefix=inside)
        options = ["--by", "process", "--pid", load.pid]
        as_text = corelock_background("blame", *options, prefix=inside)
        with reading_smaps(host_ids[load.pid]) as own_tid:
            load.run()
        object_ = stop(as_json)
        interrupt_inside(as_text)
        text = as_text.finish().out
    assert_consistent(object_)
    assert object_["unaccounted_ns"] == 0
    [inner] = load.extra
    by_holder = {}
    for charge in object_["charges"]:
        holder = charge["holder"]
        key = holder["tid"], host_id(holder, "tid")
        by_holder[key] = by_holder.get(key, 0) + charge["charged_ns"]
    assert by_holder[0, own_tid] > 0
    assert by_holder[inner, host_ids[inner]] > 0
    assert sum(by_holder.values()) == object_["charged_ns"]
    # Two processes, though the reader inside might have been joined with the one outside.
    assert f"[^{os.getpid()}] read: " in text
    assert f"[{inner}] read: " in text


def test_waits_outside_are_accounted_for(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    """So many that some of the threads have no home of their own in the kernel's tables."""
    readers = 600
    with namespaces.workload(level, "lock_chain", "write") as chain:
        chain.run()
        pid = namespaces.host_ids(level, level)[chain.pid]
        options = ["--json", "--pid", chain.pid]
        corelock = corelock_background("hold-times", *options, prefix=namespaces.inside(level))
        threads = [threading.Thread(target=read_smaps, args=(pid,)) for _ in range(readers)]
        for thread in threads:
            thread.start()
        with HolderSampler() as sampler:
            eventually(lambda: queue_length(sampler, pid) == readers)
        object_ = stop(corelock)
        chain.finish()
        for thread in threads:
            thread.join()
    assert_consistent(object_)
    assert object_["accounting"]["open_waits"] == readers


# --- holders ------------------------------------------------------------------------------------


def test_holders(level: int, namespaces: PidNamespaces) -> None:
    inside = namespaces.inside(level)
    with namespaces.workload(level, "lock_chain", "write", "w") as chain:
        chain.run()
        chain.go()
        [holder] = chain.extra
        host_ids = namespaces.host_ids(level, level)

        def queued() -> Any:
            found = run("holders", "--waiters", "--json", "--pid", chain.pid, prefix=inside).json
            return found if found["locks"][0]["waiter_count"] else None

        eventually(queued)
        found = queued()
        everywhere = run("holders", "--json", prefix=inside).json
        ask = "import sys; from corelock import HolderSampler as S; pid = int(sys.argv[1])\n"
        ask += "with S() as s: print(s.lock_is_held(pid), s.lock_is_held(1))"
        command = [*inside, sys.executable, "-c", ask, str(chain.pid)]
        assert subprocess.check_output(command, text=True).split() == ["True", "False"]
    assert found["target"]["host_pid"] == host_ids[chain.pid]
    assert found["whole_host"] is False
    [lock] = found["locks"]
    [process] = lock["processes"]
    assert (process["pid"], process["host_pid"]) == (chain.pid, host_ids[chain.pid])
    assert lock["holder"]["certainty"] == "owner"
    threads = [lock["holder"]["thread"], lock["waiters"][0]["thread"]]
    assert [thread["pid"] for thread in threads] == [chain.pid] * 2
    assert {thread["host_pid"] for thread in threads} == {host_ids[chain.pid]}
    assert threads[0]["tid"] == holder
    assert [thread["host_tid"] for thread in threads] == [host_ids[t["tid"]] for t in threads]
    assert [lock["processes"][0]["pid"] for lock in everywhere["locks"]] == [chain.pid]
    assert everywhere["self_mms"] == 1
    # Of the namespace, whose processes are few.
    assert everywhere["mms"] < 20


def test_a_waiter_outside_is_not_said_to_have_left(level: int, namespaces: PidNamespaces) -> None:
    inside = namespaces.inside(level)
    with namespaces.workload(level, "lock_chain", "write") as chain:
        chain.run()
        pid = namespaces.host_ids(level, level)[chain.pid]
        reader = threading.Thread(target=read_smaps, args=(pid,))
        reader.start()
        try:
            text = [""]

            def queued() -> bool:
                text[0] = run("holders", "--waiters", "--pid", chain.pid, prefix=inside).out
                return "waiting: 1" in text[0]

            eventually(queued)
        finally:
            chain.finish()
            reader.join()
    [waiter] = [line for line in text[0].splitlines() if line.startswith("   1  read ")]
    assert waiter.endswith("not of this pid namespace, or left")


def test_a_holder_outside_is_not_said_to_be_gone(level: int, namespaces: PidNamespaces) -> None:
    inside = namespaces.inside(level)
    with namespaces.workload(level, "smaps_reader", 256) as load:
        pid = namespaces.host_ids(level, level)[load.pid]
        with reading_smaps(pid), ExitStack() as stack:
            options = ["--watch", "0.005", "--json", "--pid", load.pid]
            holders = stack.enter_context(Corelock("holders", *options, prefix=inside))
            found: list[dict[str, Any]] = []

            def seen() -> bool:
                # A line for each look.
                found.extend(json.loads(holders.line())["locks"])
                return len(found) >= 3

            eventually(seen)
            interrupt_inside(holders)
            assert holders.finish().code == 0
    for lock in found:
        assert (lock["mode"], lock["readers"], lock["foreign"]) == ("read", 1, False)
        assert lock["holder"] == {"certainty": "not-visible", "thread": None}


# --- what is read of /proc ----------------------------------------------------------------------


def test_user_stacks_have_names(
    level: int, namespaces: PidNamespaces, corelock_background: Background
) -> None:
    with namespaces.workload(level, "call_chain") as chain:
        options = ["--slow-us", 0, "-s", 100, "--json", "--pid", chain.pid]
        corelock = corelock_background("hold-times", *options, prefix=namespaces.inside(level))
        pid = namespaces.host_ids(level, level)[chain.pid]
        read_smaps(pid)
        chain.run()
        object_ = stop(corelock)
    names = {
        tuple(frame["name"] for frame in slow["user_stack"][1:5])
        for slow in object_["slow"]
        if slow["operation"] in ("mmap", "munmap")
    }
    assert names == {("map_once", "inner", "outer_of", "outer")}
    own = [slow for slow in object_["slow"] if not slow["foreign"]]
    assert {slow["mm_pid"] for slow in own} == {slow["pid"] for slow in own} == {chain.pid}
    assert {slow["mm_host_pid"] for slow in own} == {slow["host_pid"] for slow in own} == {pid}
    # /proc has nothing of who is outside: its stack is addresses.
    outer = [slow for slow in object_["slow"] if slow["foreign"]]
    assert outer
    assert {(slow["pid"], slow["host_pid"]) for slow in outer} == {(0, os.getpid())}
    frames = [frame for slow in outer for frame in slow["user_stack"]]
    assert frames
    assert {frame["name"] for frame in frames} == {None}
