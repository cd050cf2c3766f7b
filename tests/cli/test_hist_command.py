"""``corelock hist`` as a user runs it."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Corelock, Result, run
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

LSEEK = ("--latency", "t:syscalls:sys_enter_lseek", "t:syscalls:sys_exit_lseek")


def traced(*arguments: str, times: int = 200) -> Result:
    """The command on known_calls, which makes 2 * times calls of lseek; it has ended."""
    with Workload("known_calls", str(times), "2") as workload:
        with Corelock("hist", "--pid", workload.pid, *arguments) as corelock:
            corelock.wait_attached()
            workload.run()
            workload.finish()
            return corelock.finish()


def out_of(*arguments: str) -> str:
    result = traced(*arguments)
    assert result.code == 0, result.err
    assert "incomplete" not in result.err
    return result.out


def test_table() -> None:
    out = out_of("t:syscalls:sys_enter_lseek:fd,offset", "--by", "comm")
    assert max(map(len, out.splitlines())) <= 80
    first, second = out.split("\n\n")[:2]
    heading, key, bar, figures = first.splitlines()
    assert heading == "syscalls:sys_enter_lseek:fd"
    assert key == "comm known_calls"
    assert re.fullmatch(r"\[[24], [48]\) +400 \|@{52}\|", bar)
    assert figures.startswith("count 400  mean ")
    assert second.splitlines()[2].startswith("[0, 1) ")
    assert out.endswith("syscalls:sys_enter_lseek: 400 events = 400 counted\n")


def test_times() -> None:
    out = out_of(*LSEEK)
    assert out.startswith("syscalls:sys_enter_lseek -> syscalls:sys_exit_lseek (ns)\n")
    assert re.search(r"^count 400  mean [\d.]+[nu]  p50 ", out, re.M)
    assert "syscalls:sys_enter_lseek: 400 events = 400 ended\n" in out


def test_json_has_all_that_is_counted() -> None:
    found = json.loads(out_of("t:syscalls:sys_exit_lseek:ret", "--by", "tid,cpu", "--json"))
    assert found["schema"] == "corelock.hist/1"
    assert found["target"]["comm"] == "known_calls"
    assert sum(each["count"] for each in found["histograms"]) == 400
    for each in found["histograms"]:
        assert (each["event"], each["field"]) == ("syscalls:sys_exit_lseek", "ret")
        assert set(each["key"]) == {"tid", "cpu"}
        assert (each["min"], each["max"], each["sum"], each["mean"]) == (0, 0, 0, 0.0)
        assert each["buckets"] == [{"low": 0, "high": 1, "count": each["count"]}]
    (accounting,) = found["accounting"]
    assert (accounting["seen"], accounting["unaccounted"]) == (400, 0)


def test_intervals_then_the_whole() -> None:
    with Workload("known_calls", "100", "2") as workload:
        arguments = ("--pid", workload.pid, "-i", "0.2", "--json", *LSEEK)
        with Corelock("hist", *arguments) as corelock:
            corelock.wait_attached()
            workload.run()
            assert json.loads(corelock.line())["schema"] == "corelock.hist/1"
            corelock.interrupt()
            result = corelock.finish()
        workload.finish()
    assert result.code == 0
    *intervals, whole = result.json_lines
    assert whole["accounting"][0]["counted"] == 200
    assert sum(each["accounting"][0]["counted"] for each in intervals) == 200
    assert whole["start_ns"] == intervals[0]["start_ns"]
    assert whole["start_ns"] < min(each["start_ns"] for each in intervals[1:])


def test_linear_buckets_and_what_is_outside() -> None:
    libc = ctypes.CDLL(None)
    with Corelock(
        "hist", "t:syscalls:sys_enter_lseek:offset", "-p", os.getpid(), "--linear", "0:40:10"
    ) as corelock:
        corelock.wait_attached()
        for offset in (-5, 0, 9, 35, 39, 40, 1000):
            libc.lseek(4000, ctypes.c_long(offset), 0)
        corelock.interrupt()
        result = corelock.finish()
    rows = [line.partition("|")[0].rsplit(None, 1) for line in result.out.splitlines()[1:-3]]
    assert [(bounds, int(count)) for bounds, count in rows] == [
        ("(..., 0)", 1),
        ("[0, 10)", 2),
        ("[10, 30)", 0),
        ("[30, 40)", 2),
        ("[40, ...)", 2),
    ]
    assert "p50 34  p99 -  min -5  max 1000" in result.out


def test_no_room_is_said_last_and_how_to_make_some() -> None:
    result = traced("t:syscalls:sys_exit_lseek:ret", "--by", "tid", "--max-keys", "1")
    assert result.code == 0
    last = result.err.splitlines()[-1]
    assert last == "corelock: incomplete: keys_full 200. Raise --max-keys."
    assert "200 counted + 200 lost (keys_full)" in result.out


def test_top_keys() -> None:
    out = out_of("t:syscalls:sys_exit_lseek:ret", "--by", "tid", "-n", "1")
    assert "... and 1 more key of syscalls:sys_exit_lseek:ret (use -n)" in out


def test_whoever_reads_no_further_ends_it_quietly() -> None:
    code = f"{sys.executable} -m corelock hist t:sched:sched_switch:prev_pid -d 0.2 -q"
    script = f"{code} | true; echo status ${{PIPESTATUS[0]}} >&2"
    ended = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, text=True)
    assert ended.stderr == "status 0\n"


def test_events_by_wildcard_and_fields_named_twice() -> None:
    out = out_of(
        "t:syscalls:sys_*_lseek:__syscall_nr,__syscall_nr", "t:syscalls:sys_exit_lseek:ret"
    )
    headings = re.findall(r"^syscalls:\S+$", out, re.M)
    assert sorted(headings) == [
        "syscalls:sys_enter_lseek:__syscall_nr",
        "syscalls:sys_exit_lseek:__syscall_nr",
        "syscalls:sys_exit_lseek:ret",
    ]
    assert out.count("count 400  ") == 3


BAD: list[tuple[tuple[str, ...], tuple[str, ...], int]] = [
    (("t:kmem:kmaloc:bytes_req",), ("kmem:kmaloc", "Did you mean kmem:kmalloc"), 1),
    (("t:kmem:kmalloc:bytes_rek",), ("has no field 'bytes_rek'", "bytes_req", "bytes_alloc"), 2),
    (("t:kmem:kmalloc",), ("no field of kmem:kmalloc is named", "There are: call_site"), 2),
    (("t:kmem:kmalloc:",), ("no field of kmem:kmalloc is named",), 2),
    (("kmem:kmalloc:bytes_req",), ("not fields of a tracepoint", "Write t:category"), 2),
    (("libc:malloc:arg1",), ("tracepoints alone: corelock count and trace take functions",), 2),
    (("vfs_read:count",), ("count and trace take functions", "and static probes"), 2),
    (("u:libc:setjmp:arg1",), ("count and trace take functions", "and static probes"), 2),
    (("t:sched:sched_switch:prev_comm",), ("is a text", "--by prev_comm"), 2),
    (("t:sched:sched_switch:common_pid",), ("perf writes over", "tid has the same"), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "com"), ("no field 'com'", "Did you mean comm"), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "str(node)"), ("no address",), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "s64(node)"), ("node has 32 bits only", "kmalloc"), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "u8(cpu)"), ("cpu has no other form",), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "s24(node)"), ("there is no form s24", "s8 to u64"), 2),
    (("t:kmem:kmalloc:bytes_req", "--by", "u8(nodes)"), ("has no field 'nodes'",), 2),
    (
        ("t:block:block_rq_issue:bytes", "--by", "cmd,comm,rwbs,bytes"),
        ("takes 104", "96 is the most"),
        2,
    ),
    (
        ("t:sched:sched_switch:prev_pid", "--by", "comm,pid,tid,cpu,prev_prio"),
        ("has 5 parts", "4 is the most"),
        2,
    ),
    (("t:kmem:kmalloc:bytes_req", "--filter", "bytes_req >"), ("bytes_req >", "^"), 2),
    (
        ("t:kmem:kmalloc:bytes_req", "--filter", "bites > 1"),
        ("for kmem:kmalloc: there is no field bites", "^"),
        2,
    ),
    (("t:kmem:kmalloc:bytes_req", "--linear", "9:3:1"), ("no linear buckets", "LO:HI:STEP"), 2),
    (("t:kmem:kmalloc:bytes_req", "--linear", "0:9:0"), ("no linear buckets",), 2),
    (("t:kmem:kmalloc:bytes_req", "--linear", "0:1000:1"), ("1,000 buckets", "step of 2"), 2),
    (("t:kmem:kmalloc:bytes_req", "--linear", f"0:{1 << 70}:1"), ("out of range",), 2),
    (("--latency", "t:kmem:kmalloc", "t:kmem:kmalloc"), ("begins and ends with",), 2),
    (
        ("--latency", "t:kmem:kmalloc", "vfs_read"),
        ("not a tracepoint: 'vfs_read'", "count and trace"),
        2,
    ),
    (("--latency", "t:kmem:kmalloc", "t:kmem:*"), ("events", "Name one"), 2),
    (
        ("--latency", "t:kmem:kmalloc", "t:kmem:kfree", "--key", "bytes_req"),
        ("kmem:kfree has no field 'bytes_req'", "ptr"),
        2,
    ),
    (
        ("--latency", "t:sched:sched_wakeup", "t:sched:sched_switch", "--key", "tid", "--by", "x"),
        ("no field 'x'",),
        2,
    ),
    (
        ("t:kmem:kfree:ptr", "--latency", "t:kmem:kmalloc", "t:kmem:kfree"),
        ("kmem:kfree is named twice",),
        2,
    ),
    (("t:kmem:kmalloc:bytes_req", "-p", "4194304"), ("4194304",), 1),
    (("t:kmem:kmalloc:bytes_req", "-c", "999"), ("no CPU 999",), 2),
]


@pytest.mark.parametrize(("arguments", "words", "code"), BAD, ids=[" ".join(x[0]) for x in BAD])
def test_bad_input(arguments: tuple[str, ...], words: tuple[str, ...], code: int) -> None:
    run("hist", *arguments, "-d", "0.1").assert_refused(*words, code=code)


def test_events_without_the_field_are_counted_and_the_others_named() -> None:
    """What the remedy says is had then."""
    events = run("list", "--json", "t:sched:*").json["probes"]
    having = [
        each["pattern"].split(":")[2]
        for each in events
        if "pid" in [field["name"] for field in each["fields"]]
    ]
    assert 1 < len(having) < len(events)
    refused = run("hist", "t:sched:*:pid", "-d", "0.1")
    refused.assert_refused(
        f"{len(having)} of the {len(events)} events that t:sched:* matches have the field pid, "
        f"{len(events) - len(having)} have not",
        code=2,
    )
    named = re.search(r"hist '(\S+)'$", refused.err.rstrip())
    assert named and sorted(named[1].split(":")[2].split("|")) == sorted(having)
    assert run("hist", named[1], "-d", "0.1").code == 0


def test_fields_that_no_event_has() -> None:
    refused = run("hist", "t:sched:*:pidd", "-d", "0.1")
    words = "events that t:sched:* matches has the field pidd"
    refused.assert_refused("none of the", words, "mean pid?", code=2)
    both = run("hist", "t:sched:*:pid,zzzzz", "-d", "0.1")
    both.assert_refused("has the fields pid and zzzzz", "corelock list -v 't:sched:*'", code=2)


USAGE = [
    ((), "Name fields"),
    (("--latency", "t:kmem:kmalloc"), "takes two tracepoints, START and END: --latency t:sys"),
    (("--latency",), "takes two tracepoints, START and END: --latency t:sys"),
    (("--latency", "t:kmem:kmalloc", "-d", "1"), "takes two tracepoints, START and END, not '-d'"),
    (("--latency", "t:kmem:kmalloc", "--by", "comm"), "START and END, not '--by': --latency t:sys"),
    (("--key", "dev", "t:kmem:kfree:ptr"), "--key goes with --latency"),
    (("t:kmem:kfree:ptr", "--linear", "1:2"), "is not LO:HI:STEP"),
    (("t:kmem:kfree:ptr", "--by", "comm,,pid"), "has an empty name"),
    (("t:kmem:kfree:ptr", "-i", "2", "-d", "1"), "longer than the whole run"),
    (("t:kmem:kfree:ptr", "-T", "--json"), "-T goes without --json"),
    (("t:kmem:kfree:ptr", "--max-keys", "0"), "--max-keys"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE)
def test_usage(arguments: tuple[str, ...], words: str) -> None:
    result = run("hist", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert words in " ".join(result.err.split())


def test_missing_capability() -> None:
    result = run(
        "hist", "t:kmem:kfree:ptr", "-d", "0.1",
        prefix=("setpriv", "--bounding-set=-sys_admin,-bpf", "--inh-caps=-sys_admin,-bpf"),
    )  # fmt: skip
    result.assert_refused("CAP_BPF")


def test_a_kernel_without_global_barriers() -> None:
    """As where CPUs do without the timer: programs are waited for in another way."""
    prefix = (sys.executable, str(Path(__file__).with_name("seccomp.py")), "membarrier")
    with Workload("known_calls", "200", "2") as workload:
        arguments = ("--pid", workload.pid, "-i", "0.1", "--json", *LSEEK)
        with Corelock("hist", *arguments, prefix=prefix) as corelock:
            corelock.wait_attached()
            workload.run()
            workload.finish()
            result = corelock.finish()
    assert result.code == 0, result.err
    *intervals, whole = result.json_lines
    assert sum(each["accounting"][0]["counted"] for each in intervals) == 400
    assert whole["accounting"][0]["counted"] == 400
    assert whole["accounting"][0]["unaccounted"] == 0


@pytest.mark.parametrize("key", ["pid", "comm"])
def test_a_key_is_the_same_in_both_events(key: str) -> None:
    """Or the woken thread's would be paired with the one that runs: times of nothing."""
    pair = ("t:sched:sched_waking", "t:sched:sched_switch")
    refused = run("hist", "--latency", *pair, "--key", key)
    refused.assert_refused(f"{key} is a field of sched:sched_waking alone", "next_pid", code=2)
