"""A cgroup as the target: whose events count, before, while and after a process is in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest

import corelock
from corelock import HolderSampler, NoSuchTarget, Row, Tracer
from corelock.tracer import ATTACH, Attach
from tests import cgroups
from tests.cgroups import move
from tests.cli.command import environment, eventually
from tests.locks import let_queue
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

_ROUNDS = 20


@pytest.fixture()
def nested() -> Iterator[Path]:
    """A cgroup with ``a/b`` below it."""
    with cgroups.cgroup(below="a/b") as folder:
        yield folder


def unread(folder: Path, *, attach: Optional[Attach] = None, blame: bool = False) -> Tracer:
    """A tracer whose slow events nobody reads."""
    return Tracer(cgroup=str(folder), slow_ns=None, attach=attach, blame=blame)


each_attach = pytest.mark.parametrize("attach", ATTACH)


def cycles_of(rows: Iterable[Row], *, mm_pid: int) -> Counter[str]:
    """Write acquisitions of one process's lock by mmap and munmap."""
    counts: Counter[str] = Counter()
    for row in rows:
        if row.mm_pid == mm_pid and row.mode == "write" and row.operation in ("mmap", "munmap"):
            counts[row.operation] += row.acquisitions
    return counts


def assert_all_paired(tracer: Tracer, *, held_at_start: int = 0) -> None:
    accounting = tracer.accounting()
    assert accounting.complete, accounting
    assert not any(accounting.unmatched.values()), accounting
    assert (accounting.held_at_start, accounting.held_at_end) == (held_at_start, 0), accounting


@contextmanager
def portions(count: int) -> Iterator[Workload]:
    """A process that makes ``count`` cycles each time it is told to."""
    with Workload("cycles", str(count)) as workload:
        yield workload
        workload.finish()


# --- who is in it -----------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [".", "a", "a/b"])
@each_attach
def test_processes_of_it_and_of_those_below_count(
    nested: Path, traced: str, attach: Attach
) -> None:
    with portions(7) as inside, portions(5) as outside, portions(3) as beside:
        (nested / "c").mkdir()
        move(inside.pid, nested / "a" / "b")
        move(beside.pid, nested / "c")
        with unread(nested / traced, attach=attach) as tracer:
            for workload in (inside, outside, beside):
                workload.run()
            tracer.stop()
            rows = tracer.snapshot().rows
            assert cycles_of(rows, mm_pid=inside.pid) == {"mmap": 7, "munmap": 7}
            assert cycles_of(rows, mm_pid=outside.pid) == {}
            expected = {"mmap": 3, "munmap": 3} if traced == "." else {}
            assert cycles_of(rows, mm_pid=beside.pid) == expected
            assert {row.mm_pid for row in rows} <= {inside.pid, beside.pid}
            assert_all_paired(tracer)


def test_it_may_be_named_as_in_proc(nested: Path) -> None:
    with portions(7) as inside:
        move(inside.pid, nested / "a" / "b")
        lines = Path(f"/proc/{inside.pid}/cgroup").read_text().splitlines()
        [path] = [line[3:] for line in lines if line.startswith("0::")]
        with Tracer(cgroup=path, slow_ns=None) as tracer:
            assert tracer.cgroup is not None
            assert tracer.cgroup.path == path
            assert tracer.cgroup.id == (nested / "a" / "b").stat().st_ino
            inside.run()
            tracer.stop()
            counts = cycles_of(tracer.snapshot().rows, mm_pid=inside.pid)
            assert counts == {"mmap": 7, "munmap": 7}


def test_the_root_is_everything() -> None:
    with cgroups.hierarchy() as root, portions(7) as anybody, unread(root) as tracer:
        anybody.run()
        tracer.stop()
        counts = cycles_of(tracer.snapshot().rows, mm_pid=anybody.pid)
        assert counts == {"mmap": 7, "munmap": 7}


def test_processes_that_are_made_in_it_count(nested: Path) -> None:
    """Forked while it is traced, each with counts of its own, and what fork itself locks."""
    enter = f"echo $$ >{nested}/a/b/cgroup.procs && exec {BUILD}/many_processes 20 10"
    with unread(nested) as tracer:
        with Workload("many_processes", command=["sh", "-c", enter]) as parent:
            children = set(cgroups.pids(nested / "a" / "b")) - {parent.pid}
            assert len(children) == 20
            parent.run()
            parent.finish()
        tracer.stop()
        rows = tracer.snapshot().rows
        assert {row.mm_pid for row in rows} == {parent.pid, *children}
        for child in children:
            assert cycles_of(rows, mm_pid=child) == {"mmap": 11, "munmap": 11}
            forks = [row for row in rows if row.mm_pid == child and row.tid == parent.pid]
            assert sum(row.acquisitions for row in forks) == 1, "the child's own mm, by fork"
        assert_all_paired(tracer)


def test_foreign_threads_count_by_whose_lock_it_is(nested: Path) -> None:
    with Workload("smaps_reader", "16", "20", "1") as inside:
        (reader,) = inside.extra
        move(inside.pid, nested / "a")
        move(reader, nested)
        with unread(nested / "a") as tracer:
            inside.run()
            tracer.stop()
            rows = tracer.snapshot().rows
            assert {row.mm_pid for row in rows} == {inside.pid}
            foreign = [row for row in rows if row.pid == reader]
            assert all(row.foreign for row in foreign)
            assert sum(row.acquisitions for row in foreign) >= 20
            assert_all_paired(tracer)
    with Workload("smaps_reader", "16", "20", "1") as outside:
        move(outside.extra[0], nested / "a")
        with unread(nested / "a") as tracer:
            outside.run()
            tracer.stop()
            assert outside.pid not in {row.mm_pid for row in tracer.snapshot().rows}
            assert_all_paired(tracer)


# --- who comes and goes -----------------------------------------------------------------------


@each_attach
def test_a_process_counts_while_it_is_in(nested: Path, attach: Attach) -> None:
    """Whatever its thread remembers from before is forgotten."""
    with portions(7) as process, unread(nested, attach=attach) as tracer:
        process.run()
        move(process.pid, nested / "a" / "b")
        process.run()
        move(process.pid, nested)
        process.run()
        move(process.pid, nested.parent)
        process.run()
        move(process.pid, nested / "a")
        process.run()
        tracer.stop()
        counts = cycles_of(tracer.snapshot().rows, mm_pid=process.pid)
        assert counts == {"mmap": 21, "munmap": 21}
        assert_all_paired(tracer)


def test_the_exit_of_one_that_left_does_not_count(nested: Path) -> None:
    with unread(nested) as tracer:
        with portions(7) as stays, portions(7) as leaves:
            for process in (stays, leaves):
                move(process.pid, nested)
                process.run()
            move(leaves.pid, nested.parent)
        tracer.stop()
        exits = [row.mm_pid for row in tracer.snapshot().rows if row.operation == "exit"]
        assert set(exits) == {stays.pid}
        assert_all_paired(tracer)


def test_what_is_open_when_it_leaves_is_kept(nested: Path) -> None:
    with Workload("lock_chain", "write", "ww") as chain, HolderSampler() as sampler:
        move(chain.pid, nested)
        with unread(nested, blame=True) as tracer:
            chain.run()
            let_queue(chain, sampler, 1)
            move(chain.pid, nested.parent)
            let_queue(chain, sampler, 1)
            chain.finish()
            tracer.stop()
            found = tracer.blame()
            written = [row for row in found.rows if row.mode == "write"]
            assert {row.comm: (row.acquisitions, row.holds) for row in written} == {
                "chain-holder": (1, 1), "chain-1": (1, 1),
            }  # fmt: skip
            [charge] = [c for c in found.charges if c.waiter.comm == "chain-1"]
            assert charge.holder.comm == "chain-holder"
            assert found.unaccounted_ns == 0
            assert_all_paired(tracer)


@each_attach
def test_what_was_open_when_it_came_is_as_if_from_before(nested: Path, attach: Attach) -> None:
    with Workload("lock_chain", "write", "ww") as chain, HolderSampler() as sampler:
        with unread(nested, attach=attach, blame=True) as tracer:
            chain.run()
            let_queue(chain, sampler, 1)
            before_ns = time.monotonic_ns()
            move(chain.pid, nested)
            let_queue(chain, sampler, 1)
            chain.finish()
            tracer.stop()
            found = tracer.blame()
            counts = {
                row.comm: (row.acquisitions, row.holds)
                for row in found.rows
                if row.mode == "write" and row.operation != "exit"
            }
            assert counts == {"chain-2": (1, 1)}
            # The holder's release; the first waiter's acquisition and release.
            assert_all_paired(tracer, held_at_start=3)
            whose = {c.holder.comm for c in found.charges if c.waiter.comm == "chain-2"}
            assert whose == {"chain-holder", "chain-1"}
            # How long it had been held before is not known.
            holds = [e for e in found.examples.values() if (e.kind, e.mode) == ("hold", "write")]
            assert holds
            assert all(hold.start_ns > before_ns for hold in holds)
            assert found.unaccounted_ns == 0


def acquired(tracer: Tracer) -> int:
    return sum(row.acquisitions for row in tracer.snapshot().rows)


def test_comings_and_goings_in_full_flight_lose_nothing(nested: Path) -> None:
    with Workload("storm", "2", "150000") as storm, unread(nested) as tracer:
        with Tracer(pid=storm.pid, slow_ns=None) as whole:
            storm.go()
            for _ in range(_ROUNDS):
                for folder, seen_by in (nested / "a" / "b", tracer), (nested.parent, whole):
                    move(storm.pid, folder)
                    before = acquired(seen_by)
                    eventually(lambda s=seen_by, b=before: acquired(s) > b)  # type: ignore[misc]
            storm.wait_done()
            tracer.stop()
            whole.stop()
            assert 0 < acquired(tracer) < acquired(whole)
        accounting = tracer.accounting()
        assert accounting.complete, accounting
        assert not any(accounting.unmatched.values()), accounting
        # At each coming a thread has two things open at the most, and each ends once.
        assert accounting.held_at_start <= _ROUNDS * 2 * 2


# --- without tracing --------------------------------------------------------------------------


def test_who_holds_locks_in_it(nested: Path) -> None:
    with Workload("lock_chain", "write", "w") as chain, portions(1) as idle:
        move(chain.pid, nested / "a" / "b")
        move(idle.pid, nested / "a")
        with HolderSampler(cgroup=str(nested / "a")) as sampler:
            assert sampler.cgroup is not None
            assert sampler.snapshot().locks == ()
            chain.run()
            snapshot = sampler.snapshot()
            assert snapshot.mms == 2
            [lock] = snapshot.locks
            assert [process.pid for process in lock.processes] == [chain.pid]
            assert corelock.holders(cgroup=str(nested / "a" / "b")).mms == 1
            move(chain.pid, nested)
            assert (sampler.snapshot().mms, sampler.snapshot().locks) == (1, ())
            assert corelock.holders(chain.pid, cgroup=str(nested / "a")).mms == 0
            chain.finish()


# --- what is traced ---------------------------------------------------------------------------


def test_a_container_by_the_beginning_of_its_id(nested: Path) -> None:
    name = f"{os.getpid():08x}" + "0123456789abcdef" * 3 + "01234567"
    folder = nested / f"docker-{name}.scope"
    (folder / "init.scope").mkdir(parents=True)
    with portions(7) as process:
        move(process.pid, folder / "init.scope")
        with Tracer(container=name[:14], slow_ns=None) as tracer:
            assert tracer.cgroup is not None
            assert (tracer.cgroup.container, tracer.cgroup.folder) == (name, str(folder))
            process.run()
            tracer.stop()
            counts = cycles_of(tracer.snapshot().rows, mm_pid=process.pid)
            assert counts == {"mmap": 7, "munmap": 7}


_IN_NAMESPACE = """
import subprocess, sys
from corelock import Tracer
from tests.workloads import Workload
folder, name = sys.argv[1:]
subprocess.run(["mount", "-t", "cgroup2", "none", folder], check=True)
with Workload("cycles", "7") as process:
    open(f"{folder}/b/cgroup.procs", "w").write(str(process.pid))
    with Tracer(cgroup=name, slow_ns=None) as tracer:
        process.run()
        tracer.stop()
        rows = tracer.snapshot().rows
        print(tracer.cgroup.path, sum(r.acquisitions for r in rows if r.operation == "mmap"))
"""


@pytest.mark.parametrize("by", ["folder", "path"])
def test_from_within_a_cgroup_namespace(nested: Path, tmp_path: Path, by: str) -> None:
    """Where nobody sees how deep it lies."""
    name = f"{tmp_path}/b" if by == "folder" else "/b"
    enter = f'echo $$ >{nested}/a/cgroup.procs && exec unshare --cgroup --mount "$@"'
    process = subprocess.run(
        ["sh", "-c", enter, "sh", sys.executable, "-c", _IN_NAMESPACE, str(tmp_path), name],
        capture_output=True, text=True, timeout=60,
        env=environment(PYTHONPATH=str(Path(__file__).parent.parent.parent)),
    )  # fmt: skip
    assert process.stdout == "/b 7\n", process


def test_one_that_is_too_deep_is_refused(nested: Path) -> None:
    deep = nested
    for _ in range(70):
        deep /= "d"
        deep.mkdir()
    with pytest.raises(corelock.Unsupported, match="levels deep"):
        Tracer(cgroup=str(deep)).start()


def test_one_that_has_been_removed_is_refused(nested: Path) -> None:
    (nested / "a" / "b").rmdir()
    with pytest.raises(NoSuchTarget, match="no cgroup of version 2"):
        Tracer(cgroup=str(nested / "a" / "b")).start()
