"""``corelock holders`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.command import Corelock, eventually, run
from tests.cli.hosts import prepared
from tests.workloads import Workload

kernel = pytest.mark.kernel

WRONG = {
    "pid zero": (["--pid", "0"], "not a pid"),
    "pid word": (["--pid", "nginx"], "not a valid integer"),
    "longer zero": (["--longer-than", "0"], "not a number of milliseconds above 0"),
    "longer nan": (["--longer-than", "nan"], "not a number of milliseconds above 0"),
    "watch negative": (["--watch", "-1"], "not a number of seconds above 0"),
    "unknown option": (["--writers"], "--waiters"),
    "pid and cgroup": (["--pid", "1", "--cgroup", "/"], "Choose one of --pid, --cgroup"),
    "cgroup empty": (["--cgroup", ""], "the cgroup's path is empty"),
    "words": (["redis"], "unexpected extra argument"),
}


@pytest.mark.parametrize(("arguments", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_usage(arguments: list[str], hint: str) -> None:
    result = run("holders", *arguments)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert hint in " ".join(result.err.split())


def test_help() -> None:
    result = run("holders", "-h")
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    for option in (
        "-p, --pid",
        "--cgroup",
        "--container",
        "--longer-than",
        "--watch",
        "--waiters",
        "--json",
        "-o",
        "-q",
        "-v",
    ):
        assert option in result.out


@kernel
def test_a_process_that_is_not_held() -> None:
    result = run("holders", "--pid", os.getpid())
    assert (result.code, result.err) == (0, "")
    assert f"[{os.getpid()}]" in result.out
    # Its parent waits for it, and takes no lock.
    assert result.out.startswith("nothing held: looked at ")


@kernel
def test_no_such_process() -> None:
    run("holders", "--pid", 2**22 + 1).assert_refused("no process or thread has the id")


@kernel
def test_no_privilege() -> None:
    prefix = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"]
    run("holders", prefix=prefix).assert_refused("missing capability: CAP_BPF and CAP_PERFMON")


@kernel
def test_no_btf() -> None:
    prefix = prepared("mount -t tmpfs none /sys/kernel/btf")
    run("holders", prefix=prefix).assert_refused("no kernel BTF")


@kernel
def test_a_lock_without_words(tmp_path: Path) -> None:
    """As PREEMPT_RT's, by a BTF that does not have them."""
    btf = Path("/sys/kernel/btf/vmlinux")
    other = btf.read_bytes().replace(b"\0rw_semaphore\0", b"\0rw_simaphore\0")
    (tmp_path / "btf").write_bytes(other)
    prefix = prepared(f"mount --bind {tmp_path}/btf {btf}")
    run("holders", prefix=prefix).assert_refused("does not say who holds it", "PREEMPT_RT")


@kernel
def test_holder_and_waiters_by_name(tmp_path: Path) -> None:
    with Workload("lock_chain", "write", "wr") as chain:
        [holder] = chain.extra
        chain.run()
        for waiting in ("  waiting: 1\n", "  waiting: 2\n"):
            chain.go()
            eventually(lambda: waiting in run("holders", "--pid", chain.pid).out)  # noqa: B023
        plain = run("holders", "--pid", chain.pid)
        full = run("holders", "--pid", chain.pid, "--waiters", "-o", tmp_path / "out")
        text = (tmp_path / "out").read_text()
        as_json = run("holders", "--pid", chain.pid, "--json", "--waiters").json
    assert (full.code, full.out, full.err) == (0, "", "")
    assert f"lock_chain[{chain.pid}]" in text
    assert re.search(rf"^  held write  chain-holder\[{holder}\]  mmap +certain: ", text, re.M)
    assert re.search(r"^   1  write  chain-1\[\d+\]  mprotect +certain: queued$", text, re.M)
    assert re.search(r"^   2  read   chain-2\[\d+\]  mincore +certain: queued$", text, re.M)
    assert "fuse_file_mmap+0x" in text
    assert max(map(len, text.splitlines())) <= 80
    assert plain.out.endswith("\n  waiting: 2\n")
    assert as_json["schema"] == "corelock.holders/1"
    assert as_json["target"]["pid"] == chain.pid
    [lock] = as_json["locks"]
    assert lock["holder"]["certainty"] == "owner"
    assert lock["holder"]["thread"]["tid"] == holder
    assert [waiter["thread"]["comm"] for waiter in lock["waiters"]] == ["chain-1", "chain-2"]


@kernel
def test_held_for_longer() -> None:
    with Workload("lock_chain", "write") as chain, Workload("lock_chain", "read") as other:
        chain.run()
        other.run()
        found = run("holders", "--longer-than", 50, "--json").json
        for pid, same_hold in ((chain.pid, "exact"), (other.pid, "likely")):
            [lock] = [x for x in found["locks"] if pid in {p["pid"] for p in x["processes"]}]
            assert lock["same_hold"] == same_hold
            assert lock["held_ns"] >= 50_000_000 == found["longer_than_ns"]
            assert lock["samples"] == 2
        chain.finish()
        gone = run("holders", "--longer-than", 50)
        assert f"[{chain.pid}]" not in gone.out
        assert f"[{other.pid}]" in gone.out


@kernel
def test_a_storm_of_short_holds_is_no_long_one() -> None:
    with Workload("storm", "2", "100000000") as storm:
        storm.go()
        result = run("holders", "--pid", storm.pid, "--longer-than", 100)
    assert "nothing held for 100m or longer" in result.out


@kernel
@pytest.mark.parametrize("stop", ["interrupt", "terminate"])
def test_watch_until_told_to_end(stop: str) -> None:
    with Workload("lock_chain", "write") as chain:
        chain.run()
        with Corelock("holders", "--watch", "0.05", "--json") as watch:
            assert watch.line("err").startswith("Watching mmap_lock of all processes.")
            looks = [json.loads(watch.line()) for _ in range(4)]
            if stop == "interrupt":
                watch.interrupt()
            else:
                watch.process.terminate()
            result = watch.finish()
    assert (result.code, len(result.err.splitlines())) == (0, 1)
    # One look proves nothing, the next ones more and more.
    assert looks[0]["locks"] == []
    held_ns = [
        lock["held_ns"]
        for look in looks[1:]
        for lock in look["locks"]
        if lock["processes"][0]["pid"] == chain.pid
    ]
    assert len(held_ns) == 3
    assert held_ns == sorted(held_ns)
    assert held_ns[0] >= 40_000_000


@kernel
def test_watch_ends_with_the_process() -> None:
    with Workload("lock_chain", "write") as chain:
        chain.run()
        with Corelock("holders", "--pid", chain.pid, "--watch", "0.02") as watch:
            assert watch.line("err").startswith(f"Watching mmap_lock of lock_chain[{chain.pid}].")
            assert watch.line().startswith("--- ")
            chain.finish()
            result = watch.finish()
    assert result.code == 0
    assert result.err.splitlines()[1:] == [f"lock_chain[{chain.pid}] has exited."]
    assert f"lock_chain[{chain.pid}]" in result.out
    assert "one hold" in result.out
