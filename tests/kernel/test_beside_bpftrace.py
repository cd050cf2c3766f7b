"""Ten things users ask, of corelock and of bpftrace in the same run: the answers are the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Union

import pytest

from tests.bpftrace import Bpftrace
from tests.cli.command import Corelock, Result
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

KNOWN = BUILD / "known_calls"
Background = Callable[..., Corelock]


class Both:
    """What both said when the workload was through."""

    def __init__(self, result: Result, bpftrace: Bpftrace) -> None:
        self.result = result
        self.bpftrace = bpftrace

    @property
    def counts(self) -> dict[str, int]:
        """Those of ``corelock count --json``."""
        return {each["name"]: each["count"] for each in self.result.json["counts"]}

    @property
    def histograms(self) -> list[dict[str, Any]]:
        """Those of ``corelock hist --json``."""
        histograms: list[dict[str, Any]] = self.result.json["histograms"]
        return histograms


@contextmanager
def asked(
    background: Background, workload: Workload, script: str, *arguments: object
) -> Iterator[Both]:
    """Both attach, the workload runs to its end, both answer. PID in the script is its pid."""
    with Bpftrace(script.replace("PID", str(workload.pid))) as bpftrace:
        corelock = background(*arguments, "-p", workload.pid)
        workload.run()
        workload.finish()
        result = corelock.finish()
        bpftrace.finish()
    assert result.code == 0, result.err
    assert "incomplete" not in result.err
    yield Both(result, bpftrace)


def octaves(histogram: dict[str, Any]) -> dict[tuple[Union[int, None], Union[int, None]], int]:
    """corelock's buckets by powers of two, as bpftrace's hist() has them."""
    counts: dict[tuple[Union[int, None], Union[int, None]], int] = {}
    for bucket in histogram["buckets"]:
        low = bucket["low"]
        if low < 0:
            key = (None, -1)
        elif low < 2:
            key = (low, low)
        else:
            power = 1 << (low.bit_length() - 1)
            key = (power, 2 * power - 1)
        counts[key] = counts.get(key, 0) + bucket["count"]
    return counts


def of_bpftrace(buckets: list[dict[str, int]]) -> dict[tuple[Any, Any], int]:
    return {(b.get("min"), b.get("max")): b["count"] for b in buckets if b["count"]}


def test_1_how_often_a_program_calls_a_function(corelock_background: Background) -> None:
    script = f"uprobe:{KNOWN}:known_function /pid == PID/ {{ @ = count(); }}"
    with Workload("known_calls", "500", "2") as workload:
        arguments = ("count", "--json", f"{KNOWN}:known_function")
        with asked(corelock_background, workload, script, *arguments) as both:
            assert both.counts == {"known_calls:known_function": both.bpftrace.maps["@"]}
            assert both.bpftrace.maps["@"] == 1000


def test_2_how_often_it_makes_a_system_call(corelock_background: Background) -> None:
    script = "tracepoint:syscalls:sys_enter_lseek /pid == PID/ { @ = count(); }"
    with Workload("known_calls", "500", "2") as workload:
        arguments = ("count", "--json", "tracepoint:syscalls:sys_enter_lseek")
        with asked(corelock_background, workload, script, *arguments) as both:
            assert both.counts == {"syscalls:sys_enter_lseek": both.bpftrace.maps["@"]}


def test_3_how_often_it_comes_by_a_static_probe(corelock_background: Background) -> None:
    """One that is reached whether its semaphore is raised or not."""
    script = f"usdt:{KNOWN}:known_calls:place /pid == PID/ {{ @ = count(); }}"
    with Workload("known_calls", "500", "2") as workload:
        arguments = ("count", "--json", f"u:{KNOWN}:place")
        with asked(corelock_background, workload, script, *arguments) as both:
            assert both.counts == {"known_calls:known_calls:place": both.bpftrace.maps["@"]}


def test_4_which_events_of_a_category(corelock_background: Background) -> None:
    events = ("sched_process_exit", "sched_process_wait", "sched_process_exec")
    script = " ".join(
        f"tracepoint:sched:{event} /pid == PID/ {{ @[probe] = count(); }}" for event in events
    )
    with Workload("known_calls", "1", "7") as workload:
        arguments = ("count", "--json", f"t:sched:{'|'.join(events)}")
        with asked(corelock_background, workload, script, *arguments) as both:
            found = both.bpftrace.maps["@"]
            assert both.counts == {k.partition(":")[2]: n for k, n in found.items()}
            assert both.counts["sched:sched_process_exit"] == 8


def test_5_how_large_reads_are(corelock_background: Background) -> None:
    script = "tracepoint:syscalls:sys_exit_read /pid == PID/ { @ = hist(args->ret); }"
    with Workload("smaps_reader", "64", "20") as workload:
        (reader,) = workload.extra[-1:]
        with Bpftrace(script.replace("PID", str(reader))) as bpftrace:
            arguments = ("hist", "--json", "-p", reader, "t:syscalls:sys_exit_read:ret")
            corelock = corelock_background(*arguments)
            workload.run()
            corelock.interrupt()
            result = corelock.finish()
            bpftrace.finish()
        (histogram,) = result.json["histograms"]
        assert octaves(histogram) == of_bpftrace(bpftrace.maps["@"])
        assert histogram["count"] >= 20


def test_6_in_buckets_of_one_width(corelock_background: Background) -> None:
    script = (
        "tracepoint:syscalls:sys_enter_mmap /pid == PID/ { @ = lhist(args->len, 0, 65536, 4096); }"
    )
    with Workload("storm", "2", "100") as workload:
        arguments = ("hist", "--json", "--linear", "0:65536:4096", "t:syscalls:sys_enter_mmap:len")
        with asked(corelock_background, workload, script, *arguments) as both:
            (histogram,) = both.histograms
            ours = {
                (b["low"], None if b["high"] is None else b["high"] - 1): b["count"]
                for b in histogram["buckets"]
            }
            assert ours == of_bpftrace(both.bpftrace.maps["@"])


def test_7_by_thread_and_with_a_condition(corelock_background: Background) -> None:
    script = (
        "tracepoint:syscalls:sys_enter_munmap /pid == PID && args->len > 4096/"
        " { @[tid] = count(); @sum[tid] = sum(args->len); }"
    )
    with Workload("storm", "3", "100") as workload:
        arguments = ("hist", "--json", "--by", "tid", "--filter", "len > 4K")
        with asked(
            corelock_background, workload, script, *arguments, "t:syscalls:sys_enter_munmap:len"
        ) as both:
            ours = {str(h["key"]["tid"]): (h["count"], h["sum"]) for h in both.histograms}
            maps = both.bpftrace.maps
            assert ours == {tid: (n, maps["@sum"][tid]) for tid, n in maps["@"].items()}
            assert len(ours) == 3


def test_8_how_long_a_system_call_takes(corelock_background: Background) -> None:
    """Each reads the clock for itself: of the same calls, within a bucket or so each."""
    script = (
        "tracepoint:syscalls:sys_enter_munmap /pid == PID/ { @s[tid] = nsecs; } "
        "tracepoint:syscalls:sys_exit_munmap /@s[tid]/"
        " { @n = count(); @t = sum(nsecs - @s[tid]); delete(@s[tid]); }"
    )
    with Workload("storm", "2", "500") as workload:
        arguments = ("hist", "--json", "--latency", "t:syscalls:sys_enter_munmap")
        with asked(
            corelock_background, workload, script, *arguments, "t:syscalls:sys_exit_munmap"
        ) as both:
            (histogram,) = both.histograms
            assert histogram["count"] == both.bpftrace.maps["@n"] >= 1000
            assert 0.5 < histogram["sum"] / both.bpftrace.maps["@t"] < 2


def test_9_arguments_of_a_static_probe(corelock_background: Background) -> None:
    script = (
        f"usdt:{KNOWN}:known_calls:place /pid == PID/" ' { printf("%d %d\\n", arg0, (int32)arg1); }'
    )
    with Workload("known_calls", "50", "1") as workload:
        arguments = ("trace", "--json", f"u:{KNOWN}:place")
        with asked(corelock_background, workload, script, *arguments) as both:
            events = [each for each in both.result.json_lines if each["type"] == "event"]
            ours = [f"{e['fields']['arg1']} {e['fields']['arg2']}" for e in events]
            assert ours == both.bpftrace.printed
            assert len(ours) == 50


def test_10_which_files_are_opened(corelock_background: Background) -> None:
    script = "tracepoint:syscalls:sys_enter_openat /pid == PID/"
    script += ' { printf("%s\\n", str(args->filename)); }'
    with Workload("smaps_reader", "64", "5") as workload:
        (reader,) = workload.extra[-1:]
        with Bpftrace(script.replace("PID", str(reader))) as bpftrace:
            corelock = corelock_background(
                "trace", "--json", "-p", reader, "--fields", "str(filename)",
                "t:syscalls:sys_enter_openat",
            )  # fmt: skip
            workload.run()
            corelock.interrupt()
            result = corelock.finish()
            bpftrace.finish()
        events = [each for each in result.json_lines if each["type"] == "event"]
        assert [each["fields"]["str(filename)"] for each in events] == bpftrace.printed
        assert f"/proc/{workload.pid}/smaps" in bpftrace.printed


def test_what_there_is_to_ask_about() -> None:
    """Tracepoints of a category, and a file's static probes."""
    for ours, theirs in (("t:sched:*", "tracepoint:sched:*"), (f"u:{KNOWN}:*", f"usdt:{KNOWN}:*")):
        with Corelock("list", ours) as corelock:
            listed = corelock.finish()
        assert listed.code == 0, listed.err
        said = subprocess.run(
            ["bpftrace", "-l", theirs], capture_output=True, text=True, check=True
        )
        names = {line.rpartition(":")[2] for line in said.stdout.split()}
        assert {re.split(r"[\s(]", line)[0].rpartition(":")[2] for line in listed.out.splitlines()
                if line and not line.startswith(" ")} == names  # fmt: skip
