"""Names of functions in real programs, while they are traced and their lock is held."""

from __future__ import annotations

import base64
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest

from corelock.model import SlowEvent
from corelock.symbolize import Symbolizer
from corelock.tracer import Tracer
from tests.cli.command import Corelock, Result, environment, eventually
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]

SOURCES = Path(__file__).parent.parent / "workloads"


def stacks(result: Result, **wanted: str) -> list[list[Any]]:
    """The user stacks of the slow events that have these values."""
    assert result.code == 0, result.err
    chosen = [s for s in result.json["slow"] if all(s[k] == v for k, v in wanted.items())]
    return [slow["user_stack"] for slow in chosen]


def names(stack: list[Any], module: str = "") -> list[str]:
    """Its functions, of one module or of all."""
    return [f["name"] for f in stack if f["name"] and (f["module"] or "").startswith(module)]


def package(command: str) -> str:
    """The path of a program that ``make test`` installs."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed: run make test as root")
    return path


# --- a JVM: code without a file, by a perf map; C++ in libjvm -----------------------------------


def java(folder: Path, rounds: int, *options: str) -> Workload:
    """A JVM whose own code has frame pointers."""
    subprocess.run([package("javac"), "-d", folder, SOURCES / "Mappings.java"], check=True)
    (folder / "file").write_bytes(bytes(4096))
    options = ("-Xmx64m", "-XX:+PreserveFramePointer", *options)
    command = [package("java"), *options, "-cp", folder, "Mappings", folder / "file", rounds]
    return Workload("java", command=command)


def test_java(corelock_background: Background, tmp_path: Path) -> None:
    with java(tmp_path, 3000) as jvm:
        corelock = corelock_background(
            "hold-times", "-v", "--pid", jvm.pid, "--slow-us", "0", "-s", "300", "--json"
        )
        jvm.run()
        perf_map = Path(f"/tmp/perf-{jvm.pid}.map")
        subprocess.run(
            [package("jcmd"), str(jvm.pid), "Compiler.perfmap"], check=True, capture_output=True
        )
        try:
            corelock.interrupt()
            result = corelock.finish()
        finally:
            perf_map.unlink()
        jvm.finish()
    mapping = stacks(result, operation="mmap")
    assert any(
        stack[0]["name"] == "mmap" and "void Mappings.mapOnce()" in names(stack, "[anon]")
        for stack in mapping
    )
    # The caller of libc's mmap, which frame pointers leave out, and all of its thread.
    assert all(
        names(stack)[:2] == ["mmap", "Java_sun_nio_ch_FileChannelImpl_map0"]
        for stack in mapping
        if "Java_sun_nio_ch_FileChannelImpl_map0" in names(stack)
    )
    assert any("Java_sun_nio_ch_FileChannelImpl_map0" in names(stack) for stack in mapping)
    in_jvm = [names(stack) for stack in stacks(result) if names(stack, "libjvm")]
    # What reads the cgroup's files has arrays on its stack that are larger than its copy.
    in_jvm = [each for each in in_jvm if not any("subsystem_file" in name for name in each)]
    assert in_jvm
    for each in in_jvm:
        assert each[-2:] == ["start_thread", "clone3"], each
    assert any("JavaCalls::call_helper" in name for each in in_jvm for name in each)
    # To the function: nearly all frames of the slowest have names.
    frames = [frame for stack in stacks(result) for frame in stack]
    assert sum(frame["name"] is not None for frame in frames) >= 0.9 * len(frames)
    assert "\nsymbolization\n  frames resolved " in result.err


def test_java_that_writes_its_map_at_exit(corelock_background: Background, tmp_path: Path) -> None:
    options = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+DumpPerfMapAtExit")
    with java(tmp_path, 3000, *options) as jvm:
        perf_map = Path(f"/tmp/perf-{jvm.pid}.map")
        corelock = corelock_background(
            "hold-times", "--pid", jvm.pid, "--slow-us", "0", "-s", "300", "--json"
        )
        jvm.run()
        # The target's exit ends the run.
        jvm.finish()
        try:
            result = corelock.finish()
        finally:
            perf_map.unlink()
    assert any("void Mappings.mapOnce()" in names(stack, "[anon]") for stack in stacks(result))


# --- no frame pointers ---------------------------------------------------------------------------


def traced_chain(*arguments: str) -> tuple[list[SlowEvent], Symbolizer, Symbolizer]:
    """Events of call_chain, and symbols that saw it alive: by its maps, and by queries."""
    by_maps, by_query = Symbolizer(), Symbolizer()
    by_query._user.reader._by_query = True
    with Workload("call_chain", *arguments) as chain:
        with Tracer(pid=chain.pid, slow_ns=0) as tracer:
            chain.run()
            tracer.stop()
            events = list(tracer.slow_events())
        for event in events:
            by_maps.observe(event)
            by_query.observe(event)
        chain.finish()
    return events, by_maps, by_query


CHAIN = ["map_once", "inner", "outer_of", "outer"]


def test_a_chain_of_calls_without_frame_pointers() -> None:
    """Every function is there, from the system call to where its thread began."""
    events, *by = traced_chain()
    calls = [event for event in events if event.operation in ("mmap", "munmap")]
    # A wait and a hold, of munmap also the one after the downgrade, of both threads.
    assert len(calls) == 2 * 5
    for symbolizer in by:
        begun = []
        for event in calls:
            resolved = symbolizer.resolve(event)
            found = [frame.name for frame in resolved.user_stack]
            assert resolved.user_stack_note is None
            assert found[:5] == [event.operation, *CHAIN]
            begun.append(found[5])
            if event.pid == event.tid:
                assert found[5:7] == ["main", "__libc_start_call_main"]
                assert found[-1] == "_start"
            else:
                assert found[5:] == ["workload_thread", "start_thread", "clone3"]
                # Its stack ends before the room for a copy does.
                assert event.user_context is not None
                assert 0 < len(event.user_context.stack) < 16384
        assert sorted(begun) == ["main"] * 5 + ["workload_thread"] * 5
        assert not symbolizer.problems


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="not told apart on other machines")
def test_kernel_stacks_without_names_begin_near_the_traced_function(tmp_path: Path) -> None:
    hidden = tmp_path / "kallsyms"
    hidden.write_text("0000000000000000 T up_write\n")
    events, named, _ = traced_chain()
    nameless = Symbolizer(kallsyms=str(hidden))
    assert events
    for event in events:
        expected = [frame.address for frame in named.resolve_kernel(event.kernel_stack)]
        found = [frame.address for frame in nameless.resolve_kernel(event.kernel_stack)]
        assert expected == found[len(found) - len(expected) :]
        # __traceiter and __mmap_lock_do_trace are left, if they are not inlined.
        assert len(found) - len(expected) <= 3
        assert len(found) < len(event.kernel_stack)


def test_a_stack_that_is_larger_than_its_copy() -> None:
    events, symbolizer, _ = traced_chain("32768")
    calls = [event for event in events if event.operation in ("mmap", "munmap")]
    assert calls
    for event in calls:
        resolved = symbolizer.resolve(event)
        assert [f.name for f in resolved.user_stack] == [event.operation, "map_once", "inner"]
        assert resolved.user_stack_note == "stack truncated (stack copy ends)"
    assert symbolizer.problems == {"stack not unwound to its end: stack copy ends": len(calls)}


def test_the_copied_stack_is_not_shown(corelock_background: Background) -> None:
    secret = b"secret-of-this-stack"
    with Workload("call_chain") as chain:
        corelock = corelock_background(
            "hold-times", "-v", "--pid", chain.pid, "--slow-us", "0", "-s", "100", "--json"
        )
        with Tracer(pid=chain.pid, slow_ns=0) as tracer:
            chain.run()
            tracer.stop()
            copies = [e.user_context.stack for e in tracer.slow_events() if e.user_context]
        corelock.interrupt()
        result = corelock.finish()
    assert any(secret in copy for copy in copies)
    assert any(names(stack)[1:5] == CHAIN for stack in stacks(result))
    # Nor as base64, at whichever offset.
    for at in range(3):
        encoded = base64.b64encode(secret[at : at + 15]).decode()
        assert encoded not in result.out + result.err
    assert secret.decode() not in result.out + result.err
    assert secret.hex() not in result.out + result.err


# --- PostgreSQL: a stripped program, under an unprivileged user ---------------------------------


class Postgres:
    """A server of its own, and one session."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            pytest.skip("postgresql is not installed: run make test as root")
        self._bin = found[-1]
        self._user = pwd.getpwnam("postgres")
        self._folder = folder
        # The tests' own folder is root's alone.
        for part in (folder, *folder.parents[:2]):
            part.chmod(0o755)
        os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def start(self, program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Run one of its programs as its user."""
        return subprocess.Popen(
            [str(self._bin / program), *map(str, arguments)],
            cwd=self._folder, env=environment(), text=True,
            user=self._user.pw_uid, group=self._user.pw_gid, extra_groups=[], **options,
        )  # fmt: skip

    def run(self, program: str, *arguments: object) -> None:
        """Run one of its programs to its end."""
        with open(self._folder / "output", "w") as output:
            process = self.start(program, *arguments, stdout=output, stderr=output)
            assert process.wait(60) == 0, (self._folder / "output").read_text()

    @contextmanager
    def session(self) -> Iterator[Callable[[str], str]]:
        """Asks a fresh server, and gives the first line of its answer."""
        data = self._folder / "data"
        self.run("initdb", "-D", data, "--no-sync", "-A", "trust")
        where = f"-c listen_addresses= -k {self._folder}"
        self.run("pg_ctl", "start", "-w", "-D", data, "-o", where, "-l", self._folder / "log")
        try:
            pipe = subprocess.PIPE
            with self.start(
                "psql", "-AtqX", "-h", self._folder, "postgres", stdin=pipe, stdout=pipe
            ) as psql:

                def ask(query: str) -> str:
                    assert psql.stdin is not None and psql.stdout is not None
                    psql.stdin.write(query + "\n")
                    psql.stdin.flush()
                    return psql.stdout.readline().strip()

                yield ask
                psql.kill()
        finally:
            self.run("pg_ctl", "stop", "-m", "immediate", "-D", data)


# Reads from files into buffers that this session has not touched: the kernel faults them in.
SCAN = "select count(prosrc) > 1000 from pg_proc;"
SORT = "select count(*) from (select g from generate_series(1,100000) g order by random()) x;"


@pytest.mark.parametrize("by", ["--pid", "--comm", "--all"])
def test_postgres(corelock_background: Background, tmp_path: Path, by: str) -> None:
    with Postgres(tmp_path).session() as ask:
        backend = ask("set work_mem = '64MB'; select pg_backend_pid();")
        target = {"--pid": [by, backend], "--comm": [by, "postgres"], "--all": [by]}[by]
        corelock = corelock_background(
            "hold-times", "-v", *target, "--slow-us", "0", "-s", "3000", "--json"
        )
        assert ask(SCAN) == "t"
        for _ in range(3):
            assert ask(SORT) == "100000"
        corelock.interrupt()
        result = corelock.finish()
    assert result.code == 0, result.err
    own = [s["user_stack"] for s in result.json["slow"] if s["comm"] == "postgres"]
    assert own
    # The innermost frame is where the kernel was entered, in libc or in postgres itself.
    named = [stack[0] for stack in own if stack and stack[0]["name"]]
    assert len(named) >= 0.9 * len([stack for stack in own if stack])
    assert {frame["module"] for frame in named} <= {"libc.so.6", "postgres"}
    assert {"mmap", "munmap", "brk", "mremap"} & {frame["name"] for frame in named}
    # What we put between the kernel and the program under trace is in no stack.
    innermost = {s["kernel_stack"][0]["name"] for s in result.json["slow"] if s["kernel_stack"]}
    assert innermost
    assert not [n for n in innermost if n and re.match("_*bpf_|__traceiter_|__mmap_lock_do_", n)]
    # Without a frame pointer, from libc's own functions all the way to where it began.
    whole = [stack for stack in own if stack and stack[-1]["name"] == "_start"]
    assert len(whole) >= 0.8 * len([stack for stack in own if stack])
    assert all({"PostmasterMain", "main"} <= set(names(stack)) for stack in whole)
    working = [stack for stack in whole if "PostgresMain" in names(stack, "postgres")]
    assert len(working) >= 0.8 * len(whole)
    assert any({"malloc", "palloc0"} <= set(names(stack)) for stack in working)


# --- where the program is, and whether it is still what was traced ------------------------------


@pytest.mark.parametrize("how", ["bind", "tmpfs", "overlay", "layers"])
def test_another_mount_namespace(corelock_background: Background, tmp_path: Path, how: str) -> None:
    """The path means another file to us, and only to us."""
    inside, place = tmp_path / "inside", tmp_path / "place"
    for folder in (inside, place, tmp_path / "upper", tmp_path / "work"):
        folder.mkdir()
    shutil.copy(BUILD / "storm", inside / "program")
    shutil.copy("/bin/true", place / "program")
    mount = {
        "bind": f"mount --bind {inside} {place}",
        "tmpfs": f"mount -t tmpfs none {place} && cp {inside}/program {place}",
        "overlay": f"mount -t overlay none {place} -o lowerdir={inside},"
        f"upperdir={tmp_path}/upper,workdir={tmp_path}/work",
        # Of two filesystems: then stat shows devices that maps does not.
        "layers": f"mount -t tmpfs none {tmp_path}/upper && cd {tmp_path}/upper && mkdir a b && "
        f"mount -t overlay none {place} -o lowerdir={inside},upperdir=a,workdir=b",
    }[how]
    script = f"{mount} && exec {place}/program 2 200"
    with Workload("storm", command=["unshare", "-m", "sh", "-c", script]) as storm:
        corelock = corelock_background(
            "hold-times", "-v", "--pid", storm.pid, "--slow-us", "0", "-s", "50", "--json"
        )
        storm.run()
        corelock.interrupt()
        result = corelock.finish()
        storm.finish()
    found = [names(stack, "program") for stack in stacks(result, operation="mprotect")]
    assert found
    assert all("workload_thread" in each for each in found), result.err
    assert "another one now" not in result.err


@pytest.mark.parametrize("how", ["link", "build-id"])
def test_a_stripped_program_with_a_debug_file(
    corelock_background: Background, tmp_path: Path, how: str
) -> None:
    program, debug = tmp_path / "program", tmp_path / ".debug" / "program.debug"
    debug.parent.mkdir()
    shutil.copy(BUILD / "storm", program)
    commands = [["objcopy", "--only-keep-debug", program, debug], ["strip", program]]
    if how == "link":
        commands += [["objcopy", f"--add-gnu-debuglink={debug}", program]]
    for command in commands:
        subprocess.run(command, check=True)
    traced = [program, "2", "200"]
    if how == "build-id":
        output = subprocess.run(["readelf", "-n", program], capture_output=True, text=True)
        build_id = output.stdout.partition("Build ID:")[2].split()[0]
        # In the target's root alone, so that ours stays as it is.
        folder = f"/usr/lib/debug/.build-id/{build_id[:2]}"
        traced = [
            "unshare", "-m", "sh", "-c",
            f"mkdir -p /usr/lib/debug && mount -t tmpfs none /usr/lib/debug && mkdir -p {folder}"
            f" && cp {debug} {folder}/{build_id[2:]}.debug && exec {program} 2 200",
        ]  # fmt: skip
    with Workload("storm", command=traced) as storm:
        corelock = corelock_background(
            "hold-times", "-v", "--pid", storm.pid, "--slow-us", "0", "-s", "50", "--json"
        )
        storm.run()
        corelock.interrupt()
        result = corelock.finish()
        storm.finish()
    found = [names(stack, "program") for stack in stacks(result, operation="mprotect")]
    assert found
    assert all("workload_thread" in each for each in found), result.err


# --- exec: the same addresses are other functions -------------------------------------------------

TWO_PROGRAMS = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline)) int WORK(void)
{
	void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return munmap(at, 4096);
}

static void wait_for_go(void)
{
	char byte;

	puts("waiting");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		_exit(1);
}

int main(int argc, char **argv)
{
	wait_for_go();
	for (int i = 0; i < 5; i++)
		WORK();
	wait_for_go();
	if (argc > 1)
		execl(argv[1], argv[1], (char *)NULL);
	return 0;
}
"""


def traced_exec(folder: Path, observed: bool) -> tuple[list[SlowEvent], Symbolizer, int]:
    """Events of two programs of one process, and how many there were before exec."""
    for name in ("a", "b"):
        command = ["gcc", "-x", "c", "-", "-O1", "-fno-omit-frame-pointer", "-static", "-no-pie"]
        command += [f"-DWORK=work_of_{name}", "-o", str(folder / name)]
        subprocess.run(command, input=TWO_PROGRAMS, text=True, check=True)
    symbolizer = Symbolizer()
    events: list[SlowEvent] = []
    with subprocess.Popen(
        [folder / "a", folder / "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        with Tracer(pid=process.pid, slow_ns=0) as tracer:
            process.stdin.write(b"g")
            assert process.stdout.readline() == b"waiting\n"
            if observed:
                events += tracer.slow_events()
                for event in events:
                    symbolizer.observe(event)
            before = len(events)
            process.stdin.write(b"g")
            assert process.stdout.readline() == b"waiting\n"
            process.stdin.write(b"g")
            assert process.stdout.readline() == b"waiting\n"
            tracer.stop()
            events += tracer.slow_events()
        for event in events[before:]:
            symbolizer.observe(event)
        process.stdin.write(b"g")
    return events, symbolizer, before


@pytest.mark.parametrize("observed", [True, False])
def test_functions_of_the_next_program_are_not_taken_for_those_of_the_last(
    tmp_path: Path, observed: bool
) -> None:
    events, symbolizer, before = traced_exec(tmp_path, observed)
    assert bool(before) == observed
    calls = [event for event in events if event.operation in ("mmap", "munmap")]
    of_a, of_b = sorted({event.process_key for event in calls})
    shown: dict[int, list[list[Optional[str]]]] = {of_a: [], of_b: []}
    for event in events:
        resolved = symbolizer.resolve(event)
        found = [frame.name for frame in resolved.user_stack]
        if event.operation in ("mmap", "munmap"):
            shown[event.process_key].append(found)
        if event.process_key == of_a:
            assert "work_of_b" not in found
            if not observed and found:
                assert set(found) == {None}
                note = f"process {event.pid} has executed another program since"
                assert resolved.user_stack_note == note
        elif event.operation != "execve":
            assert "work_of_a" not in found
    assert sum("work_of_b" in found for found in shown[of_b]) >= 10
    assert sum("work_of_a" in found for found in shown[of_a]) >= (10 if observed else 0)
    reason = "process PID has executed another program since"
    assert (reason in symbolizer.summary.unresolved) or observed


# --- the lock is held ---------------------------------------------------------------------------


def event_of(pid: int, *stack: int) -> SlowEvent:
    now = time.monotonic_ns()
    return SlowEvent(
        kind="hold", start_ns=now, duration_ns=1, mm_pid=pid, mm_host_pid=pid,
        mm_comm="p", pid=pid, tid=pid, host_pid=pid, host_tid=pid,
        comm="p", mode="write", operation="mprotect", kernel_stack=(), user_stack=stack,
        user_stack_full=False, stack_failed=False, user_context=None, process_key=0,
    )  # fmt: skip


def code_of(pid: int) -> int:
    """An address in its program."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if " r-xp " in line and line.endswith("/hold_long"):
            return int(line.partition("-")[0], 16)
    raise AssertionError("no code")


def resolved(symbolizer: Symbolizer, pid: int, address: int) -> tuple[Optional[str], float]:
    """The note on one event, and how long it took to observe and resolve it."""
    began = time.monotonic()
    event = event_of(pid, address)
    symbolizer.observe(event)
    note = symbolizer.resolve(event).user_stack_note
    return note, time.monotonic() - began


@pytest.mark.parametrize("by_query", [False, True])
def test_a_lock_that_is_held_is_not_waited_for(by_query: bool) -> None:
    with Workload("hold_long", "16") as workload:
        pid = workload.pid
        address = code_of(pid)
        held = f"mappings of {pid} not read: its mmap_lock is held"
        told = Symbolizer(lock_is_held=lambda pid: True)
        workload.go()
        # It goes on until it is told: all of this is while it holds its lock.
        notes, seconds, waits = [], [], []
        # Not every time: between two of its holds there is room for a reader.
        # By query it may be that no lock is needed that is held (since Linux 6.18).
        while len(notes) < 10 or (notes.count(held) < 3 and not by_query):
            assert len(notes) < 60
            untold = Symbolizer(maps_timeout_s=0.02)
            untold._user.reader._by_query = by_query
            note, took = resolved(untold, pid, address)
            notes.append(note)
            seconds.append(took)
            assert resolved(told, pid, address)[0] == held
            began = time.monotonic()
            Path(f"/proc/{pid}/maps").read_bytes()
            waits.append(time.monotonic() - began)
        # Who does wait is stopped for some tenths of a second; we are not.
        assert max(waits) > 0.1
        assert sorted(seconds)[len(seconds) // 2] < min(0.1, max(waits))
        assert told._user.reader.reads == 0
        workload.go()
        workload.wait_done()
        # Tried again, now that it is free, and the read that hung comes to its end.
        eventually(lambda: resolved(untold, pid, address)[0] != held)
        assert untold.summary.resolved >= 1
        workload.finish()


# --- code without a file, by a process that does not know its pid as we do ----------------------

JIT = """
import mmap, os, sys
flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if sys.argv[1] == "shared" else mmap.MAP_PRIVATE)
page = mmap.mmap(-1, 4096, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
maps = open("/proc/self/maps").read().splitlines()
start = next(int(line.split("-")[0], 16) for line in maps if " rwx" in line)
with open(f"/tmp/perf-{os.getpid()}.map", "w") as file:
    file.write(f"{start:x} 800 py::made_at_run_time:/app/main.py\\n")
print(os.getpid(), hex(start), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["private", "shared"])
def test_a_perf_map_in_other_namespaces(how: str) -> None:
    """Shared memory without a file has a path all the same: /dev/zero (deleted)."""
    # The venv may be in what is then hidden.
    python = os.path.realpath(sys.executable)
    script = 'mount -t tmpfs none /tmp && exec "$0" -c "$1" "$2"'
    command = ["unshare", "-pfm", "--mount-proc", "sh", "-c", script, python, JIT, how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        own_pid, start = (int(word, 0) for word in process.stdout.readline().split())
        assert own_pid == 1
        (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        symbolizer = Symbolizer()
        resolved = symbolizer.resolve(event_of(int(pid), start + 0x123, start + 0x900))
        assert process.stdin is not None
        process.stdin.close()
    found = [(frame.name, frame.offset) for frame in resolved.user_stack]
    assert found == [("py::made_at_run_time:/app/main.py", 0x123), (None, 0x900)]
    reason = {
        "private": "[anon]: not in the perf map",
        "shared": "zero: the file was deleted",
    }[how]
    assert symbolizer.summary.unresolved == {reason: 1}
