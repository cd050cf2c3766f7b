"""``corelock trace`` as users run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, Corelock, Result, environment, run
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

KNOWN = BUILD / "known_calls"
TURN, PLACE = f"u:{KNOWN}:turn", f"u:{KNOWN}:place"
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} (\S.{14}) ([ \d]{6}) ([ \d]{6})((?: \S+)*)")


def trace_known(*arguments: object, times: int = 10, lines: int = 0) -> Result:
    """Of a run of known_calls, until its end, which comes when so many lines are there."""
    with Workload("known_calls", str(times), "1") as workload:
        with Corelock("trace", "-p", workload.pid, *arguments) as command:
            command.wait_attached()
            workload.run()
            for _ in range(lines):
                command.line()
            workload.finish()
            return command.finish()


def test_a_line_an_event() -> None:
    result = trace_known(PLACE, times=5)
    assert result.code == 0
    heading, *lines = result.out.splitlines()
    assert heading == "TIME            COMM               PID    TID FIELDS"
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found)
    assert [match[4] for match in found if match] == [
        f" arg1={i} arg2={1 + i % 2}" for i in range(5)
    ]
    assert {match[1].rstrip() for match in found if match} == {"known_calls"}
    assert all(len(line) <= 80 for line in lines)
    assert result.err.startswith("Tracing known_calls:known_calls:place in known_calls[")
    assert len(result.err.splitlines()) == 1


def test_several_probes_are_named() -> None:
    result = trace_known(PLACE, TURN, "--fields", "arg1", times=2)
    heading, *lines = result.out.splitlines()
    assert heading.split() == ["TIME", "COMM", "PID", "TID", "PROBE", "FIELDS"]
    where = heading.index("PROBE")
    assert [line[where:].split() for line in lines] == [
        ["known_calls:known_calls:turn", "arg1=-1"],
        ["known_calls:known_calls:place", "arg1=0"],
        ["known_calls:known_calls:turn", "arg1=-1"],
        ["known_calls:known_calls:place", "arg1=1"],
    ]


def test_exactly_so_many() -> None:
    result = trace_known(PLACE, "-n", "7", "-v", times=5000)
    assert result.code == 0
    assert len(result.out.splitlines()) == 1 + 7
    (accounting,) = (line for line in result.err.splitlines() if line.startswith("hits "))
    numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]+", accounting)]
    hits, printed, filtered, lost, after = numbers
    assert (printed, filtered, lost, hits) == (7, 0, 0, 7 + after)


def test_json() -> None:
    result = trace_known(PLACE, "--json", "-U", "-K", "--filter", "arg1 != 2", times=4, lines=3)
    assert result.code == 0
    *events, end = result.json_lines
    assert [event["fields"] for event in events] == [
        {"arg1": i, "arg2": 1 + i % 2} for i in (0, 1, 3)
    ]
    for event in events:
        assert event["type"] == "event"
        assert (event["probe"], event["comm"]) == ("known_calls:known_calls:place", "known_calls")
        assert event["kernel_stack"] == []
        names = [frame["name"] for frame in event["user_stack"]]
        assert names[:2] == ["take_turns", "workload_thread"]
        assert event["user_stack_note"] is None
    assert (end["type"], end["schema"]) == ("end", "corelock.trace/1")
    assert end["target"]["pid"] == events[0]["pid"]
    accounting = end["accounting"]
    assert (accounting["hits"], accounting["printed"], accounting["filtered"]) == (4, 3, 1)
    assert (accounting["ring_full"], accounting["unaccounted"]) == (0, 0)
    times = [event["ts_ns"] for event in events]
    assert end["start_ns"] <= times[0] <= times[-1] <= end["start_ns"] + end["duration_ns"]


def test_stacks_stand_below_their_line() -> None:
    result = trace_known(PLACE, "-U", times=1, lines=3)
    _, event, *stack = result.out.splitlines()
    assert LINE.fullmatch(event)
    assert re.fullmatch(r"    take_turns\+0x[0-9a-f]+ \(known_calls\)", stack[0])
    assert all(line.startswith("    ") for line in stack)


def test_losses_come_last_even_if_quiet() -> None:
    with Workload("known_calls", "100000", "2") as workload:
        with Corelock("trace", "-q", "--ring-size", "4K", "-p", workload.pid, PLACE) as command:
            assert command.line().startswith("TIME ")  # it has begun
            workload.run()
            workload.finish()
            result = command.finish()
    assert result.code == 0
    events = result.out.splitlines()[1:]
    (last,) = result.err.splitlines()
    lost = re.fullmatch(r"corelock: incomplete: ring_full ([\d,]+)\. Raise --ring-size.*", last)
    assert lost
    assert len(events) + int(lost[1].replace(",", "")) == 200_000


@contextmanager
def stopped(command: Corelock) -> Iterator[None]:
    """It takes nothing meanwhile."""
    os.kill(command.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, command.pid, os.WSTOPPED | os.WNOWAIT)
    yield
    os.kill(command.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (1, []),
        (2, ["corelock: incomplete: unread 1. What was not in memory is shown as ?."]),
    ],
)
def test_what_comes_after_the_last_is_not_missing(lines: int, words: Sequence[str]) -> None:
    script = (
        "import ctypes, sys; libc = ctypes.CDLL(None); sys.stdin.read(1)\n"
        "for path in (b'/', ctypes.c_void_p(8), b'/', ctypes.c_void_p(8), ctypes.c_void_p(8)):"
        "\n    libc.openat(-1, path, 0)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        with Corelock(
            "trace", "t:syscalls:sys_enter_openat", "-p", child.pid, "--fields", "str(filename)",
            "--filter", "dfd & 0xffffffff == 0xffffffff", "-n", lines,
        ) as command:  # fmt: skip
            command.wait_attached()
            with stopped(command):
                child.communicate(b"x", 60)
            result = command.finish()
    assert result.code == 0
    values = [line.partition("str(filename)=")[2] for line in result.out.splitlines()[1:]]
    assert values == ['"/"', "?"][:lines]
    assert result.err.splitlines()[1:] == words


def test_what_may_have_come_after_the_last_is_said_to() -> None:
    """Nobody knows when what is lost would have come."""
    script = "import os, sys; sys.stdin.read(1)\n" "for _ in range(100_000): os.getppid()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        with Corelock(
            "trace", "t:syscalls:sys_enter_getppid", "-p", child.pid, "-n", "2", "--ring-size", "4K"
        ) as command:
            command.wait_attached()
            with stopped(command):
                child.communicate(b"x", 60)
            result = command.finish()
    assert (result.code, len(result.out.splitlines())) == (0, 1 + 2)
    assert re.fullmatch(
        r"corelock: lost, before the last line or after it: ring_full 99,\d\d\d\. "
        r"Raise --ring-size.*",
        result.err.splitlines()[-1],
    )
    assert "incomplete" not in result.err


def test_a_main_thread_that_may_have_ended_after_the_last_line() -> None:
    """Here another one has called exec."""
    with Workload("exec_midway", "100", "1") as workload:
        with Corelock("trace", "-p", workload.pid, "libc:munmap", "-n", "1") as command:
            command.wait_attached()
            with stopped(command):
                workload.run()
            result = command.finish()
    assert (result.code, len(result.out.splitlines())) == (0, 1 + 1)
    ended = "corelock: lost, before the last line or after it: main_thread_ended 1. Since then, "
    assert result.err.splitlines()[-1].startswith(ended)


def test_losses_in_json() -> None:
    result = trace_known(PLACE, "--json", "--ring-size", "4K", times=100_000)
    assert result.code == 0
    *events, end = result.json_lines
    accounting = end["accounting"]
    assert accounting["ring_full"] > 0
    assert accounting["hits"] == len(events) + accounting["ring_full"]
    assert accounting["ring_full_by_probe"] == {
        "known_calls:known_calls:place": accounting["ring_full"]
    }


def test_nothing_moves_the_cursor() -> None:
    """What a program names its files cannot do anything to a terminal."""
    script = (
        "import ctypes, sys; sys.stdin.read(1); libc = ctypes.CDLL(None)\n"
        r"for path in (b'/\x1b[2J\n\x07', None, ctypes.c_void_p(8), '/\u202e\u00e9'.encode()):"
        "\n    libc.openat(-1, path, 0)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        with Corelock(
            "trace", "t:syscalls:sys_enter_openat", "-p", child.pid, "--fields", "str(filename)",
            "--filter", "dfd & 0xffffffff == 0xffffffff",
        ) as command:  # fmt: skip
            command.wait_attached()
            assert child.stdin is not None
            child.stdin.write(b"x")
            child.stdin.close()
            child.wait(60)
            result = command.finish()
    assert result.code == 0
    values = [line.partition("str(filename)=")[2] for line in result.out.splitlines()[1:]]
    assert values == ['"/\\x1b[2J\\n\\x07"', "NULL", "?", '"/\\u202eé"']
    assert result.err.splitlines()[-1].startswith("corelock: incomplete: unread 1.")


def test_ctrl_c() -> None:
    with Corelock("trace", "t:sched:sched_process_exit", "-v") as command:
        while not command.line("err").startswith("Tracing "):
            pass
        subprocess.run(["true"], check=True)
        command.interrupt()
        result = command.finish()
    assert result.code == 0
    assert "Traceback" not in result.err
    assert " true " in result.out
    assert "attached to 1 by tracepoint" in result.err


def test_a_reader_that_has_seen_enough() -> None:
    """No word, no error: as of any command in a pipe."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {COMMAND} trace -q t:sched:sched_switch | head -3"],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_a_file_for_results(tmp_path: Path) -> None:
    result = trace_known(PLACE, "-o", tmp_path / "events", "--json", times=3)
    assert (result.code, result.out) == (0, "")
    *events, end = map(json.loads, (tmp_path / "events").read_text().splitlines())
    assert [event["fields"]["arg1"] for event in events] == [0, 1, 2]
    assert end["accounting"]["printed"] == 3


def test_the_time_is_up() -> None:
    result = run("trace", "t:syscalls:sys_enter_getppid", "-d", "0.2", "-p", os.getpid(), "-q")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1


BAD = {
    "unknown event": (["t:sched:sched_swich"], 1, "sched:sched_switch"),
    "unknown field": (["t:sched:sched_switch", "--fields", "prev_pdi"], 2, "prev_pid"),
    "no address": (["t:sched:sched_switch", "--fields", "str(prev_pid)"], 2, "no address"),
    "an array": (["t:raw_syscalls:sys_enter", "--fields", "args"], 2, "it is an array"),
    "filter": (["t:sched:sched_switch", "--filter", "prev_pid >"], 2, "^"),
    "filter's field": (["t:sched:sched_switch", "--filter", "foo == 1"], 2, "no field foo"),
    "pid gone": (["t:sched:sched_switch", "-p", "4194304"], 1, "no process"),
    "too many": (["t:sched:*", "--max-probes", "3"], 2, "--max-probes"),
    "no such file": (["u:/nowhere:probe"], 1, "/nowhere"),
    "no such function": (["libc:no_such_function"], 1, "no_such_function"),
    "cpu": (["t:sched:sched_switch", "-c", "4096"], 2, "no CPU 4096"),
    "ring": (["t:sched:sched_switch", "-U", "--ring-size", "16K"], 2, "is too small for events"),
    "argument of another": ([PLACE, "--fields", "arg3"], 2, "no field arg3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    arguments, code, words = BAD[name]
    run("trace", *arguments, "-d", "1").assert_refused(words, code=code)


def test_a_pattern_is_needed() -> None:
    result = run("trace")
    assert result.code == 2
    assert "PROBE" in result.err
    assert run("trace", "t:sched:sched_switch", "--ring-size", "1").code == 2
    assert run("trace", "t:sched:sched_switch", "-n", "0").code == 2
