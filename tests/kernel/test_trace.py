"""Events one by one: every value against what the program, or the kernel's own tracing, says."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Union

import pytest

import corelock
from corelock import HolderSampler, target
from corelock._native.probes import prototypes
from corelock.errors import InvalidArgument, NoSuchProbe, UnusableFile
from corelock.events import Event
from corelock.symbolize import Symbolizer
from tests import postgres
from tests.cli.command import Corelock, eventually
from tests.event_witness import EventWitness
from tests.forks import in_child, refused
from tests.locks import let_queue, queue_length
from tests.namespaces import PidNamespaces, interrupt_inside
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

KNOWN = BUILD / "known_calls"
TURN, PLACE = f"u:{KNOWN}:turn", f"u:{KNOWN}:place"
LIBC = ctypes.CDLL(None, use_errno=True)


def signed(number: int, bits: int) -> int:
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def assert_complete(trace: corelock.EventTrace, events: int) -> None:
    """Nothing was lost, and each hit went somewhere."""
    accounting = trace.accounting()
    assert (accounting.taken, accounting.unaccounted) == (events, 0)
    assert not accounting.ring_full and not accounting.missed


def by_thread(events: list[Event], probe: str) -> list[list[Event]]:
    threads: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.probe.endswith(probe):
            threads[event.tid].append(event)
    return list(threads.values())


# --- static probes --------------------------------------------------------------


def test_every_argument_of_a_static_probe() -> None:
    with Workload("known_calls", "2000", "3") as workload:
        fields = ("arg1", "arg2", "arg3", "arg4", "str(arg5)", "arg6", "arg7")
        with corelock.EventTrace(TURN, PLACE, pid=workload.pid, fields=fields) as trace:
            workload.run()
            trace.stop()
            events = list(trace.take())
            assert_complete(trace, 12_000)
            assert trace.accounting().hits == 12_000
        tids = workload.tids
    turns, places = by_thread(events, ":turn"), by_thread(events, ":place")
    assert len(turns) == len(places) == 3
    for thread in turns:
        for i, event in enumerate(thread):
            assert event.values == {
                "arg1": -1,
                "arg2": i % 256,
                "arg3": signed(-i, 16),
                "arg4": -i * 10_000_000_000,
                "str(arg5)": "odd" if i & 1 else "even",
                "arg6": 3 * (i % 8),
                "arg7": 42,
            }
    for thread in places:
        # Two locations, whose arguments are in different places.
        assert [event.values for event in thread] == [
            {"arg1": i, "arg2": 1 + (i & 1)} for i in range(2000)
        ]
    assert {event.pid for event in events} == {workload.pid}
    assert {event.comm for event in events} == {"known_calls"}
    assert {event.tid for event in events} <= set(tids) | {e.tid for e in events}
    assert all(not event.unread and not event.cut for event in events)


def test_without_fields_all_are_shown() -> None:
    with Workload("known_calls", "1", "1") as workload:
        with corelock.EventTrace(TURN, f"{KNOWN}:known_function", pid=workload.pid) as trace:
            workload.run()
            trace.stop()
            function, turn = trace.take()
    assert list(turn.values) == [f"arg{number}" for number in range(1, 8)]
    # Nothing says what arguments it has.
    assert function.values == {}


def test_order_is_that_of_time() -> None:
    with Workload("known_calls", "2000", "1") as workload:
        with corelock.EventTrace(TURN, PLACE, pid=workload.pid) as trace:
            workload.run()
            trace.stop()
            times = [event.time_ns for event in trace.take()]
            assert trace.start_ns <= times[0] and times[-1] <= trace.end_ns
    assert times == sorted(times)


def test_arguments_of_a_function() -> None:
    with Workload("known_calls", "300", "1") as workload:
        fields = ["arg1", "hex(arg1)", "s8(arg1)", "u16(arg1)"]
        with corelock.EventTrace(
            f"{KNOWN}:known_function", pid=workload.pid, fields=fields
        ) as trace:
            workload.run()
            trace.stop()
            found = [event.values for event in trace.take()]
    assert found == [
        {"arg1": i, "hex(arg1)": i, "s8(arg1)": signed(i, 8), "u16(arg1)": i} for i in range(300)
    ]


def test_postgres_says_its_queries() -> None:
    """The text of every statement, as the server's own log has it."""
    probe = f"u:{postgres.program('postgres')}:query__start"
    with postgres.server("-c log_statement=all") as server:
        server.run("pgbench", "-i", "-q", "postgres")
        before = len(server.log())
        with corelock.EventTrace(probe, fields=["str(arg1)"]) as trace:
            server.run("pgbench", "-n", "-t", "20", "-c", "2", "postgres")
            trace.stop()
            events = list(trace.take())
            assert_complete(trace, len(events))
        said = re.findall(r"statement: (.*)", server.log()[before:])
    assert len(said) > 2 * 20 * 7
    # Of long ones the first 63 bytes.
    assert Counter(e.values["str(arg1)"] for e in events) == Counter(t[:63] for t in said)
    assert any(event.cut for event in events)
    assert {event.comm for event in events} == {"postgres"}


NULL_SOMEWHERE = """
#include <stdio.h>
#include <sys/sdt.h>

__attribute__((noinline)) void opened(const char *name)
{
    if (name)
        DTRACE_PROBE1(test, opened, name);
    else
        DTRACE_PROBE1(test, opened, (char *)0);
}

int main(void)
{
    char name[] = "a name";

    opened(0);
    opened(name);
    opened((char *)0xffffffff81000000);
    return 0;
}
"""


def test_a_text_that_is_a_constant_in_one_location(tmp_path: Path) -> None:
    program = tmp_path / "null"
    subprocess.run(
        ["gcc", "-O2", "-xc", "-", "-o", program], input=NULL_SOMEWHERE, text=True, check=True
    )
    with corelock.EventTrace(f"u:{program}:opened", fields=["str(arg1)"]) as trace:
        subprocess.run([program], check=True)
        trace.stop()
        events = list(trace.take())
        assert_complete(trace, len(events))
        assert trace.accounting().unread == 1
    assert [(event.values["str(arg1)"], event.unread) for event in events] == [
        (None, ()), ("a name", ()), (None, ("str(arg1)",)),
    ]  # fmt: skip


# --- tracepoints ----------------------------------------------------------------


def test_fields_are_what_ftrace_says() -> None:
    """All fields of several events of the same run, of the threads that lived within it."""
    names = (
        "sched:sched_switch", "sched:sched_process_exec", "sched:sched_process_exit",
        "kmem:mm_page_alloc", "signal:signal_generate",
    )  # fmt: skip
    with EventWitness(*names) as ftrace:
        with corelock.EventTrace(*(f"t:{name}" for name in names)) as trace:
            children = []
            for _ in range(10):
                with subprocess.Popen(["/bin/true"]) as child:
                    children.append(child.pid)
            trace.stop()
            events = [event for event in trace.take() if event.tid in children]
            assert not trace.accounting().losses
        said = [record for record in ftrace.stop() if record.tid in children]
    ours, theirs = defaultdict(list), defaultdict(list)
    for event in events:
        ours[event.probe.partition(":")[2], event.tid].append((event.cpu, event.values))
    for record in said:
        values = {k: v for k, v in record.values.items() if not k.startswith("common_")}
        theirs[record.name.rpartition(":")[2], record.tid].append((record.cpu, values))
    assert ours == theirs
    assert {name for name, _ in ours} == {name.partition(":")[2] for name in names}


def openat(path: Union[bytes, None, int]) -> None:
    pointer = ctypes.c_void_p(path) if isinstance(path, int) else ctypes.c_char_p(path)
    LIBC.openat(-1, pointer, os.O_RDONLY | os.O_CLOEXEC)


def test_texts_of_any_kind() -> None:
    paths: list[Union[bytes, None, int]] = [
        b"/nowhere\n\x1b[2J\"\\", b"", None, 8, b"x" * 62, b"x" * 63, b"x" * 70, b"\xff\xc3\xa9",
    ]  # fmt: skip
    with corelock.EventTrace(
        "t:syscalls:sys_enter_openat", pid=os.getpid(), fields=["str(filename)", "s32(dfd)"]
    ) as trace:
        for path in paths:
            openat(path)
        trace.stop()
        events = [e for e in trace.take() if e.values["s32(dfd)"] == -1]
        assert trace.accounting().unread == 1
    assert [event.values["str(filename)"] for event in events] == [
        "/nowhere\n\x1b[2J\"\\", "", None, None, "x" * 62, "x" * 63, "x" * 63, "\\xffé",
    ]  # fmt: skip
    assert [event.unread for event in events] == [
        ("str(filename)",) if path == 8 else () for path in paths
    ]
    assert [bool(event.cut) for event in events] == [False] * 5 + [True, True, False]


def test_what_all_events_have() -> None:
    pid = os.getpid()
    with corelock.EventTrace(
        "t:syscalls:sys_enter_getppid", pid=pid, fields=["comm", "pid", "tid", "cpu"]
    ) as trace:
        os.getppid()
        trace.stop()
        (event,) = trace.take()
    assert event.values == {
        "comm": event.comm, "pid": pid, "tid": threading.get_native_id(), "cpu": event.cpu,
    }  # fmt: skip
    assert (event.pid, event.host_pid, event.tid) == (pid, pid, threading.get_native_id())


def test_probes_of_different_fields() -> None:
    """Each shows what it has of those that are asked for."""
    with corelock.EventTrace(
        "t:syscalls:sys_enter_lseek",
        "t:syscalls:sys_exit_lseek",
        pid=os.getpid(),
        fields=["whence", "ret", "s64(offset)"],
    ) as trace:
        LIBC.lseek(-1, ctypes.c_long(-5), 1)
        trace.stop()
        enter, leave = trace.take()
    assert enter.values == {"whence": 1, "s64(offset)": -5}
    assert leave.values == {"ret": -9}


# --- which ones -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("arg1 & 1 && arg2 == 2 || arg1 < 3", lambda i: i & 1 or i < 3),
        ("!(arg1 >= 100) || arg1 == 499", lambda i: i < 100 or i == 499),
        ("arg2 == 7", lambda i: False),
        ("u8(arg1) == 3 || s8(arg1) < -126", lambda i: i % 256 in (3, 128, 129)),
        ('comm == "known_calls" && arg1 > 0x1ef', lambda i: i > 495),
    ],
)
def test_a_filter(expression: str, accepted: object) -> None:
    assert callable(accepted)
    with Workload("known_calls", "500", "1") as workload:
        with corelock.EventTrace(PLACE, pid=workload.pid, filter=expression) as trace:
            workload.run()
            trace.stop()
            found = [event.values["arg1"] for event in trace.take()]
            accounting = trace.accounting()
    assert found == [i for i in range(500) if accepted(i)]
    assert (accounting.hits, accounting.filtered) == (500, 500 - len(found))
    assert accounting.unaccounted == 0


@pytest.mark.parametrize("expression", ["arg1 > 1", 'prev_comm == "x"'])
def test_the_probe_that_a_filter_does_not_fit_is_named(expression: str) -> None:
    event, function = "sched:sched_switch", f"{KNOWN}:known_function"
    with pytest.raises(InvalidArgument) as refused:
        corelock.EventTrace(f"t:{event}", function, filter=expression).__enter__()
    other = event if expression.startswith("arg1") else "known_calls:known_function"
    said = f"cannot use the filter for {other}: there is no field {expression.split()[0]}\n"
    assert refused.value.message.startswith(said)


def test_one_of_two_processes() -> None:
    with Workload("known_calls", "50", "2") as one, Workload("known_calls", "30", "2") as other:
        with corelock.EventTrace(PLACE, pid=one.pid) as trace:
            one.run()
            other.run()
            trace.stop()
            assert Counter(event.pid for event in trace.take()) == {one.pid: 100}
        with corelock.EventTrace(PLACE) as both:
            with Workload("known_calls", "10", "1") as third:
                third.run()
            both.stop()
            assert Counter(event.pid for event in both.take()) == {third.pid: 10}


def test_a_process_whose_main_thread_has_ended() -> None:
    """Refused by -p, as the kernel would see no hit; what the remedy says has its hits."""
    place = f"{BUILD / 'leader_exit'}:workload_say"
    with Workload("leader_exit") as ended, Workload("leader_exit") as other:
        eventually(lambda: target.main_thread_has_ended(ended.pid))
        with pytest.raises(UnusableFile, match="its main thread has ended") as raised:
            corelock.EventTrace(place, pid=ended.pid).__enter__()
        remedy = re.search("--filter '(.*)'", raised.value.remedy)
        assert remedy
        with corelock.EventTrace(place, filter=remedy[1]) as trace:
            ended.run()
            other.run()
            trace.stop()
            assert [event.pid for event in trace.take()] == [ended.pid]
            assert trace.accounting().filtered == 1


def test_own_hits_are_left_out_and_counted() -> None:
    with corelock.EventTrace("t:syscalls:sys_enter_getppid") as trace:
        for _ in range(100):
            os.getppid()
        trace.stop()
        assert os.getpid() not in {event.pid for event in trace.take()}
        assert trace.accounting().self_hits == 100


# --- losses ---------------------------------------------------------------------


def test_a_full_ring_is_counted() -> None:
    """By probe; what was lost and what was not are all there was."""
    with Workload("known_calls", "20000", "2") as workload:
        with corelock.EventTrace(TURN, PLACE, pid=workload.pid, ring_bytes=4096) as trace:
            workload.run()
            trace.stop()
            events = list(trace.take())
            accounting = trace.accounting()
    lost = sum(accounting.ring_full.values())
    assert 0 < len(events) < 100
    assert len(events) + lost == accounting.hits == 80_000
    assert set(accounting.ring_full) == {
        "known_calls:known_calls:turn",
        "known_calls:known_calls:place",
    }
    assert (accounting.taken, accounting.unaccounted) == (len(events), 0)
    assert accounting.losses["ring_full"] == lost


def test_events_as_they_come() -> None:
    """Iterated while they do; what one loop leaves the next one has."""
    with Workload("known_calls", "5000", "2") as workload:
        with corelock.EventTrace(PLACE, pid=workload.pid) as trace:
            workload.go()
            first = [event for event, _ in zip(trace, range(7))]
            ended = threading.Thread(target=lambda: (workload.wait_done(), trace.stop()))
            ended.start()
            rest = list(trace)
            ended.join()
            # zip() takes one more than it gives.
            assert len(first) + 1 + len(rest) == 10_000
            assert_complete(trace, 10_000)


# --- stacks ---------------------------------------------------------------------


def test_user_stacks_name_the_caller() -> None:
    """At a function's first instruction, where frame pointers have not its caller yet."""
    symbols = Symbolizer()
    with Workload("known_calls", "3", "1") as workload:
        with corelock.EventTrace(
            f"{KNOWN}:known_function", PLACE, pid=workload.pid, user_stacks=True
        ) as trace:
            workload.run()
            trace.stop()
            events = list(trace.take())
            stacks = [symbols.resolve_user(event) for event in events]
    for event, (frames, note) in zip(events, stacks):
        names = [frame.name for frame in frames]
        if event.probe.endswith("known_function"):
            assert (names[0], frames[0].offset) == ("known_function", 0)
            names = names[1:]
        assert names[:3] == ["take_turns", "workload_thread", "start_thread"]
        assert note is None
        assert event.kernel_stack == ()


TWO_PROGRAMS = r"""
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline, noclone)) void FUNCTION(long number)
{
	asm volatile(SIZE :: "r"(number));
}

int main(int argc, char **argv)
{
	char byte;

	puts("waiting");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		return 1;
	FUNCTION(7);
	puts("called");
	fflush(stdout);
	if (read(0, &byte, 1) == 1 && argc > 1)
		execl(argv[1], argv[1], (char *)NULL);
}
"""


@pytest.mark.parametrize("observed", [False, True])
def test_functions_of_the_next_program_are_not_taken_for_those_of_the_last(
    tmp_path: Path, observed: bool
) -> None:
    """Of the same name, at the same addresses, before any event of it or after one."""
    first, second = (tmp_path / folder / "program" for folder in "ab")
    for path, function, size in (
        (first, "inner", ""),
        (second, "other", r".rept 400\nnop\n.endr"),
    ):
        path.parent.mkdir()
        command = ["gcc", "-xc", "-", "-no-pie", "-O1", "-o", path]
        command += [f"-DFUNCTION={function}", f'-DSIZE="{size}"']
        subprocess.run(command, input=TWO_PROGRAMS, text=True, check=True)
    symbols = Symbolizer()
    with subprocess.Popen(
        [first, second], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def step(answer: bytes) -> None:
            process.stdin.write(b"g")
            assert process.stdout.readline() == answer

        assert process.stdout.readline() == b"waiting\n"
        patterns = (f"{first}:inner", f"{second}:other")
        with corelock.EventTrace(*patterns, pid=process.pid, user_stacks=True) as trace:
            step(b"called\n")
            if observed:
                events = list(trace.take())
                symbols.observe(events[0])
            step(b"waiting\n")
            if observed:
                step(b"called\n")
            trace.stop()
            events = [*(events if observed else ()), *trace.take()]
            stacks = [symbols.resolve_user(event) for event in events]
        process.kill()
    names = [[frame.name for frame in frames][:2] for frames, _ in stacks]
    if observed:
        assert names == [["inner", "main"], ["other", "main"]]
    else:
        assert names == [[None, None]]
        assert stacks[0][1] == f"process {process.pid} has executed another program since"


def test_kernel_stacks_begin_where_the_event_is() -> None:
    symbols = Symbolizer()
    program = "import os\nfor _ in range(3): os.getppid()"
    with corelock.EventTrace(
        "t:sched:sched_process_exec", kernel_stacks=True, user_stacks=True
    ) as trace:
        with subprocess.Popen([sys.executable, "-c", program]) as child:
            child.wait(60)
        trace.stop()
        (event,) = (event for event in trace.take() if event.pid == child.pid)
    names = [frame.name or "" for frame in symbols.resolve_kernel(event.kernel_stack)]
    assert names[0] in ("exec_binprm", "bprm_execve")
    assert not any(name.startswith(("bpf", "perf_trace")) for name in names)
    assert event.operation == "execve"


# --- what cannot be -------------------------------------------------------------


def test_prototypes_of_the_kernels_functions() -> None:
    found = prototypes(["vfs_read", "do_exit", "no_such_function"])
    assert [tuple(argument) for argument in found["vfs_read"]] == [
        ("file", 8, False, True), ("buf", 8, False, True), ("count", 8, False, False),
        ("pos", 8, False, True),
    ]  # fmt: skip
    assert [tuple(argument) for argument in found["do_exit"]] == [("code", 8, True, False)]
    assert "no_such_function" not in found


@pytest.mark.parametrize(
    ("fields", "words", "remedy"),
    [
        (["prev_pix"], "no field prev_pix", "prev_pid"),
        (["str(prev_pid)"], "no address", "str(FIELD)"),
        (["str(prev_comm)"], "a text itself", "str(FIELD)"),
        (["s64(prev_pid)"], "32 bits only", "FIELD"),
        (["hex(prev_comm)"], "a text", "FIELD"),
        (["prev_pid;"], "not a field", "FIELD"),
        (["common_flags"], "perf writes over", "Leave it out"),
        (["pid"] * 65, "has 65 fields, and 64 is the most", "matter: fields, --fields."),
    ],
)
def test_fields_that_cannot_be_had(fields: list[str], words: str, remedy: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        corelock.EventTrace("t:sched:sched_switch", fields=fields).__enter__()
    assert words in refused.value.message
    assert remedy in refused.value.remedy


def test_a_fork_takes_nothing_away() -> None:
    with corelock.EventTrace("t:syscalls:sys_enter_getppid", pid=os.getpid()) as trace:
        os.getppid()
        in_child(lambda: refused(lambda: list(trace.take())))
        trace.stop()
        assert_complete(trace, len(list(trace.take())))
        assert trace.accounting().taken == 1


@pytest.mark.parametrize(
    "argument",
    [
        {"fields": "ret"}, {"fields": [5]}, {"fields": 5}, {"filter": 5}, {"filter": b"ret"},
        {"ring_bytes": -1}, {"ring_bytes": 1}, {"ring_bytes": 1 << 40}, {"ring_bytes": "1"},
        {"cpu": 0.0}, {"cpu": True}, {"max_probes": "5"}, {"max_probes": 2.5}, {"max_probes": 0},
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(argument: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="|".join(["CPU", *argument])):
        corelock.EventTrace("t:sched:sched_switch", **argument).__enter__()


def test_a_function_of_two_names_is_shown_once(tmp_path: Path) -> None:
    source = (
        'int base(int x) { return x; } int other(int) __attribute__((alias("base")));'
        "int main(void) { return base(0) + other(0); }"
    )
    program = tmp_path / "aliases"
    command = ["gcc", "-O0", "-xc", "-", "-o", program]
    subprocess.run(command, input=source, text=True, check=True)
    patterns = [f"{program}:{name}" for name in ("other", "base")]
    with corelock.EventTrace(*patterns, fields=["s32(arg1)"]) as trace:
        subprocess.run([program], check=True)
        trace.stop()
        assert [event.probe for event in trace.take()] == ["aliases:other"] * 2


def test_what_cannot_be_traced() -> None:
    with pytest.raises(InvalidArgument, match="args cannot be shown: it is an array"):
        corelock.EventTrace("t:raw_syscalls:sys_enter", fields=["args"]).__enter__()
    with pytest.raises(NoSuchProbe, match="no tracepoint matches"):
        corelock.EventTrace("t:sched:sched_swich").__enter__()
    with pytest.raises(InvalidArgument, match="there is no field nope"):
        corelock.EventTrace("t:sched:sched_switch", filter="nope == 1").__enter__()
    with pytest.raises(InvalidArgument, match="context manager"):
        list(corelock.EventTrace("t:sched:sched_switch").take())


def test_nothing_is_left_attached() -> None:
    def links() -> int:
        """This process's own: others trace, too."""
        found = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the listing's own
                found += "bpf_link" in os.readlink(descriptor)
        return found

    descriptors = len(os.listdir("/proc/self/fd"))
    with corelock.EventTrace("t:sched:*", PLACE, user_stacks=True) as trace:
        trace.stop()
        assert links() > 20
    assert (links(), len(os.listdir("/proc/self/fd"))) == (0, descriptors)


def test_a_lock_that_is_held_is_not_waited_for() -> None:
    """Of a process whose mappings cannot be read meanwhile, there are addresses."""
    with Workload("lock_chain", "write", "wr") as chain, HolderSampler() as sampler:
        with Corelock(
            "trace", "-U", "t:mmap_lock:mmap_lock_start_locking", "-p", chain.pid, "--json"
        ) as tool:
            tool.wait_attached()
            chain.run()
            let_queue(chain, sampler, 2)
            tool.interrupt()
            result = tool.finish()
            # It has come to its end before the lock did.
            assert queue_length(sampler, chain.pid) >= 2
        chain.finish()
    assert result.code == 0, result.err
    *found, _ = result.json_lines
    waiting = [event for event in found if event["tid"] in chain.extra]
    assert waiting and all(event["user_stack"] for event in waiting)
    assert any("its mmap_lock is held" in (e["user_stack_note"] or "") for e in waiting)


@pytest.mark.parametrize("level", [1, 2])
def test_ids_are_those_of_the_callers_pid_namespace(level: int) -> None:
    """In lines, fields and filters; the host's beside them."""
    with PidNamespaces(2) as namespaces:
        with namespaces.workload(2, "known_calls", 20, 2) as inner, ExitStack() as stack:
            ids = namespaces.host_ids(2, level)
            tool = stack.enter_context(
                Corelock(
                    "trace", "t:syscalls:sys_enter_lseek", "--json", "--fields", "tid,pid",
                    "--filter", 'comm == "known_calls"', prefix=namespaces.inside(level),
                )
            )  # fmt: skip
            outer = stack.enter_context(Workload("known_calls", "10", "1"))
            tool.wait_attached()
            inner.run()
            outer.run()
            interrupt_inside(tool)
            *events, _ = tool.finish().json_lines
    outside = [event for event in events if not event["tid"]]
    inside = [event for event in events if event["tid"]]
    assert (len(outside), len(inside)) == (10, 40)
    assert {event["host_pid"] for event in outside} == {outer.pid}
    assert {event["tid"] for event in inside} <= set(ids)
    for event in events:
        assert event["fields"] == {"tid": event["tid"], "pid": event["pid"]}
    assert {ids[event["tid"]] for event in inside} == {event["host_tid"] for event in inside}
