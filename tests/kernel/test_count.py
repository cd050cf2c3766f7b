"""Counts of hits, against what is known and against the kernel's own tracing."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

import corelock
from corelock import target
from corelock._native.probes import Probes
from corelock.attaching import attach
from corelock.errors import InvalidArgument, LoadError, MissingPrivilege, NoSuchProbe, UnusableFile
from corelock.probes.finding import Finder, Matched
from corelock.probes.instructions import VECTOR
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Way
from tests import postgres
from tests.cli.command import eventually
from tests.forks import in_child, refused
from tests.perf_counter import counted
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

KNOWN = BUILD / "known_calls"
PATTERNS = (f"{KNOWN}:known_function", f"u:{KNOWN}:*", "t:syscalls:sys_enter_lseek")
LABELS = (
    "known_calls:known_function",
    "known_calls:known_calls:turn",
    "known_calls:known_calls:place",
    "syscalls:sys_enter_lseek",
)


def test_a_million_of_each() -> None:
    with Workload("known_calls", "250000", "4") as workload:
        with corelock.HitCounter(*PATTERNS, pid=workload.pid) as counter:
            workload.run()
            hits = counter.stop()
        workload.finish()
    assert hits.counts == dict.fromkeys(LABELS, 1_000_000)
    assert hits.missed == 0


def candidates(pattern: str, ways: Sequence[Way]) -> Matched:
    """What a pattern matches, to be attached to in these ways alone."""
    with Finder() as finder:
        matched = finder.find(parse_pattern(pattern))
    return matched._replace(
        candidates=tuple(each._replace(ways=tuple(ways)) for each in matched.candidates)
    )


@pytest.mark.parametrize(
    ("pattern", "way", "hits"),
    [
        (PATTERNS[0], "UPROBE_MULTI", 4000),
        (PATTERNS[0], "UPROBE", 4000),
        (f"u:{KNOWN}:turn", "UPROBE_MULTI", 4000),
        (f"u:{KNOWN}:turn", "UPROBE", 4000),
        (f"u:{KNOWN}:place", "UPROBE", 4000),
        ("t:syscalls:sys_enter_lseek", "TP", 4000),
        ("t:sched:sched_process_exit", "RAW_TP", 5),
        ("t:sched:sched_process_exit", "TP", 5),
    ],
)
@pytest.mark.parametrize("of_one", [True, False])
def test_every_way(pattern: str, way: Way, hits: int, of_one: bool) -> None:
    """With and without a pid; each alone, so that no other way can stand in for it."""
    matched = candidates(pattern, [way])
    with Workload("known_calls", "1000", "4") as workload:
        probes = Probes()
        try:
            probes.load("COUNT", 1, pid=workload.pid if of_one else 0, self_pid=os.getpid())
            _, results = probes.attach(matched.candidates, [0] * len(matched.candidates))
            assert {result.way for result in results} == {way}
            workload.run()
            workload.finish()  # five threads exit
            probes.stop()
            (count,) = probes.counts()
        finally:
            probes.close()
    # Others exit and seek, too.
    assert count == hits or (not of_one and pattern.startswith("t:") and count > hits)


@pytest.mark.parametrize(
    ("category", "event"), [("syscalls", "sys_enter_lseek"), ("raw_syscalls", "sys_enter")]
)
def test_perf_sees_the_events_all_the_same(category: str, event: str) -> None:
    """By records, and by arguments."""
    with Workload("known_calls", "1000", "1") as workload:
        (tid,) = set(workload.tids) - {workload.pid}
        with counted(category, event, tid) as perf:
            with corelock.HitCounter(f"t:{category}:{event}", pid=workload.pid) as counter:
                workload.run()
                hits = counter.stop()
                assert perf() >= 1000
    assert sum(hits.counts.values()) >= 1000


def test_one_of_two_processes() -> None:
    with Workload("known_calls", "500", "2") as one, Workload("known_calls", "300", "2") as other:
        with corelock.HitCounter(*PATTERNS, pid=one.pid) as counter:
            one.run()
            other.run()
            assert set(counter.stop().counts.values()) == {1000}
        with corelock.HitCounter(PATTERNS[0]) as both:
            with Workload("known_calls", "10", "1") as third:
                third.run()
            assert both.stop().counts == {LABELS[0]: 10}


ENDING = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_t leader;
static int leave;

__attribute__((noinline)) void called(void) { asm volatile(""); }

static void *other(void *unused)
{
    char byte;

    if (leave)
        pthread_join(leader, NULL);
    read(0, &byte, 1);
    called();
    puts("called");
    fflush(stdout);
    pause();
    return unused;
}

/* Its main thread ends by itself, or with all the others, as the process is told to. */
int main(int argc, char **argv)
{
    pthread_t thread;
    char byte;

    leave = argc > 1 && !strcmp(argv[1], "alone");
    leader = pthread_self();
    pthread_create(&thread, NULL, other, NULL);
    if (leave) {
        read(0, &byte, 1);
        pthread_exit(NULL);
    }
    pthread_join(thread, NULL);
}
"""


@pytest.mark.parametrize("alone", [True, False])
def test_a_main_thread_that_ends_by_itself_is_said(alone: bool, tmp_path: Path) -> None:
    """It is what the kernel finds a process by."""
    program = tmp_path / "ending"
    subprocess.run(
        ["gcc", "-pthread", "-xc", "-", "-o", program], input=ENDING.encode(), check=True
    )
    arguments = ["alone"] if alone else []
    with subprocess.Popen(
        [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        with corelock.HitCounter(f"{program}:called", pid=process.pid) as counter:
            process.stdin.write(b"12"[: 1 + alone])
            assert process.stdout.readline() == b"called\n"
            # Who waits for a thread may go on before the kernel tells that it ends.
            eventually(lambda: counter.read().main_thread_ended == alone)
            process.kill()
            process.wait()
            hits = counter.stop()
    assert hits.main_thread_ended == alone
    assert alone or hits.counts == {"ending:called": 1}


def test_a_main_thread_that_ends_before_anything_is_attached(tmp_path: Path) -> None:
    program = tmp_path / "ending"
    subprocess.run(
        ["gcc", "-pthread", "-xc", "-", "-o", program], input=ENDING.encode(), check=True
    )
    with subprocess.Popen([program, "alone"], stdin=subprocess.PIPE) as process:
        with Finder(process.pid) as finder:
            matched = finder.find(parse_pattern(f"{program}:called"))
        assert process.stdin is not None
        process.stdin.write(b"1")
        process.stdin.flush()
        eventually(lambda: target.main_thread_has_ended(process.pid))
        with closing(Probes()) as probes:
            probes.load("COUNT", 1, pid=process.pid)
            with pytest.raises(UnusableFile, match="main thread has ended"):
                attach(probes, [matched], [0], process.pid)
        process.kill()


@pytest.mark.parametrize("by_other", [False, True])
def test_exec_by_a_thread_other_than_the_main_one_is_said(by_other: bool) -> None:
    with Workload("exec_midway", "100", str(int(by_other))) as workload:
        with corelock.HitCounter(
            "libc:munmap", "t:syscalls:sys_enter_munmap", pid=workload.pid
        ) as counter:
            workload.run()
            hits = counter.stop()
    assert hits.main_thread_ended == by_other
    called, entered = hits.counts["libc:munmap"], hits.counts["syscalls:sys_enter_munmap"]
    # The dynamic linker has some by itself.
    assert 200 <= entered < 220
    assert by_other or 200 <= called <= entered


@pytest.mark.parametrize("pattern", ["known_function", "u:turn"])
def test_a_file_that_is_replaced_meanwhile_is_refused(pattern: str, tmp_path: Path) -> None:
    """What it was found at could be in the midst of an instruction."""
    program = tmp_path / "known_calls"
    kind, _, name = pattern.rpartition(":")

    def replace() -> None:
        shutil.copy(KNOWN, tmp_path / "other")
        (tmp_path / "other").rename(program)

    for change in program.unlink, replace:
        shutil.copy(KNOWN, program)
        with Finder() as finder:
            matched = finder.find(parse_pattern(f"{kind and 'u:'}{program}:{name}"))
        change()
        with closing(Probes()) as probes:
            probes.load("COUNT", 1)
            with pytest.raises(UnusableFile, match="was replaced or changed"):
                attach(probes, [matched], [0] * len(matched.candidates), None)


def test_another_copy_of_the_file_is_refused(tmp_path: Path) -> None:
    """An overlay copies a file that is touched: what runs has the old one, under its number."""
    for folder in ("lower", "upper", "work", "merged"):
        (tmp_path / folder).mkdir()
    shutil.copy(KNOWN, tmp_path / "lower")
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    merged = tmp_path / "merged"
    command = f"mount -t overlay overlay -o {options} {merged} && exec {merged}/known_calls 10 1"
    label = "known_calls:known_function"
    with Workload("known_calls", command=["unshare", "-m", "sh", "-c", command]) as workload:
        for pattern in (f"{merged}/{label}", label, f"u:{merged}/known_calls:turn"):
            with corelock.HitCounter(pattern, pid=workload.pid) as counter:
                assert set(counter.read().counts.values()) == {0}
        os.utime(f"/proc/{workload.pid}/root{merged}/known_calls")
        assert (tmp_path / "upper" / "known_calls").exists()
        for pattern in (f"{merged}/{label}", label, f"u:{merged}/known_calls:turn"):
            with pytest.raises(UnusableFile, match="another copy of") as refused:
                with corelock.HitCounter(pattern, pid=workload.pid):
                    pass
            assert "Restart" in refused.value.remedy
        with corelock.HitCounter(PATTERNS[2], pid=workload.pid) as counter:
            workload.run()
            assert counter.stop().counts == {LABELS[3]: 10}


def test_a_filesystem_over_the_one_with_the_file(tmp_path: Path) -> None:
    """Both give their first file the same number."""
    source, library = tmp_path / "plug.so", tmp_path / "place" / "plug.so"
    subprocess.run(
        ["gcc", "-shared", "-xc", "-", "-o", source], input=b"void plug(void) {}", check=True
    )
    library.parent.mkdir()
    mount = f"mount -t tmpfs none {library.parent} && cp {source} {library}"
    command = f"{mount} && LD_PRELOAD={library} exec {KNOWN} 10 1"
    with Workload("known_calls", command=["unshare", "-m", "sh", "-c", command]) as workload:
        seen = Path(f"/proc/{workload.pid}/root{library}")
        mapped = seen.stat()
        with corelock.HitCounter("plug:plug", pid=workload.pid) as counter:
            assert counter.read().counts == {"plug:plug": 0}
        subprocess.run(["nsenter", "-t", str(workload.pid), "-m", "sh", "-c", mount], check=True)
        assert seen.stat().st_dev != mapped.st_dev
        assert seen.stat().st_ino == mapped.st_ino
        for pattern in ("plug:plug", f"{library}:plug"):
            with pytest.raises(UnusableFile, match="the file of that name is another one now"):
                with corelock.HitCounter(pattern, pid=workload.pid):
                    pass


def test_a_mapping_without_breakpoints_beside_one_with_them(tmp_path: Path) -> None:
    """The kernel puts none into memory that is shared; what runs is the other mapping."""
    library = tmp_path / "libcalled.so"
    source = b"int called(int x) { return x + 1; }"
    subprocess.run(["gcc", "-shared", "-fPIC", "-xc", "-", "-o", library], input=source, check=True)
    with library.open("rb") as file:
        execute = mmap.PROT_READ | mmap.PROT_EXEC
        # On both sides, whichever way addresses are handed out.
        mappings = [mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, execute)]
        called = ctypes.CDLL(str(library)).called
        mappings.append(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, execute))
    with corelock.HitCounter(f"{library}:called", pid=os.getpid()) as counter:
        for _ in range(10):
            called(1)
        assert list(counter.stop().counts.values()) == [10]
    for mapping in mappings:
        mapping.close()


def test_intervals_add_up() -> None:
    with Workload("known_calls", "700", "3") as workload:
        with corelock.HitCounter(*PATTERNS, pid=workload.pid) as counter:
            before = counter.read()
            assert set(before.counts.values()) == {0}
            workload.run()
            middle = counter.read()
            last = counter.stop()
    assert set(middle.since(before).counts.values()) == {2100}
    assert set(last.since(middle).counts.values()) == {0}
    assert last.start_ns == before.start_ns
    assert before.duration_ns < middle.duration_ns <= last.duration_ns
    assert counter.stop() == last


def test_one_cpu() -> None:
    online = sorted(os.sched_getaffinity(0))
    first, other = online[0], online[-1]
    assert first != other, "this needs two CPUs"
    command = ["taskset", "-c", str(first), str(KNOWN), "1000", "2"]
    for cpu, count in ((first, 2000), (other, 0)):
        with Workload("known_calls", command=command) as workload:
            with corelock.HitCounter(PATTERNS[0], pid=workload.pid, cpu=cpu) as counter:
                workload.run()
                assert counter.stop().counts == {LABELS[0]: count}


def test_own_hits_are_left_out_and_counted() -> None:
    """Of a function in this process's own libc; -p makes it a target like any other."""
    with corelock.HitCounter("t:syscalls:sys_enter_getppid") as counter:
        for _ in range(1000):
            os.getppid()
        hits = counter.stop()
    assert hits.self_hits == 1000
    with corelock.HitCounter("t:syscalls:sys_enter_getppid", pid=os.getpid()) as counter:
        for _ in range(1000):
            os.getppid()
        hits = counter.stop()
    assert (hits.counts["syscalls:sys_enter_getppid"], hits.self_hits) == (1000, 0)


def test_the_real_libc() -> None:
    """getppid() of another process's libc, named as a library and found by its mappings."""
    program = "import os, sys\nsys.stdin.read(1)\nfor _ in range(5000): os.getppid()\n"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with corelock.HitCounter("libc:getppid", "c:getpid", pid=process.pid) as counter:
            process.stdin.write(b"x")
            process.stdin.close()
            assert process.wait(60) == 0
            hits = counter.stop()
    assert hits.counts == {"libc:getppid": 5000, "libc:getpid": 0}


def test_postgres_counts_its_statements() -> None:
    """query__start against the server's own log, under pgbench."""
    pattern = f"u:{postgres.program('postgres')}:query__start|transaction__commit"
    with postgres.server("-c log_statement=all") as server:
        server.run("pgbench", "-i", "-q", "postgres")
        before = server.log().count("statement: ")
        with corelock.HitCounter(pattern) as counter:
            server.run("pgbench", "-n", "-t", "50", "-c", "4", "postgres")
            hits = counter.stop()
        logged = server.log().count("statement: ") - before
    assert hits.counts["postgres:postgresql:query__start"] == logged > 50 * 4 * 7
    # Each transaction of pgbench's, and those of its questions before it begins.
    assert 200 <= hits.counts["postgres:postgresql:transaction__commit"] <= 220


def test_semaphores_are_lowered_again() -> None:
    """Without a tracer the guarded probe is not even reached."""
    with Workload("known_calls", "100", "1") as workload:
        with corelock.HitCounter(f"u:{KNOWN}:turn") as counter:
            assert _semaphore(workload.pid) == 1
            counter.stop()
        assert _semaphore(workload.pid) == 0


def _semaphore(pid: int) -> int:
    symbols = subprocess.check_output(["nm", str(KNOWN)], text=True)
    address = int(re.findall(r"^(\w+) \w known_calls_turn_semaphore$", symbols, re.M)[0], 16)
    with open(f"/proc/{pid}/maps") as maps:
        base = int(maps.readline().partition("-")[0], 16)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(base + address)
        return int.from_bytes(memory.read(2), sys.byteorder)


def test_nothing_is_left_attached() -> None:
    def links() -> int:
        """Of this process: others may come and go."""
        descriptors = Path("/proc/self/fdinfo").iterdir()
        return sum("link_type" in each.read_text() for each in descriptors if each.exists())

    descriptors = len(os.listdir("/proc/self/fd"))
    with corelock.HitCounter("t:sched:*", PATTERNS[0]) as counter:
        counter.stop()
        assert links() > 20
    assert (links(), len(os.listdir("/proc/self/fd"))) == (0, descriptors)
    counter.stop()
    with corelock.HitCounter("t:sched:*"):
        pass
    assert (links(), len(os.listdir("/proc/self/fd"))) == (0, descriptors)


def test_a_fork_stops_nothing() -> None:
    with corelock.HitCounter("t:syscalls:sys_enter_getppid", pid=os.getpid()) as counter:
        os.getppid()

        def leaves() -> bool:
            is_refused = refused(counter.stop)
            counter.close()
            return is_refused

        in_child(leaves)
        os.getppid()
        assert list(counter.stop().counts.values()) == [2]


def test_no_thread_is_left() -> None:
    """Files are looked at by one, as they might hang."""
    before = threading.enumerate()
    with corelock.HitCounter(PATTERNS[0]), corelock.EventTrace(PATTERNS[0]):
        assert threading.enumerate() == before


def test_events_of_a_category() -> None:
    """All at once, and how: those that are tracepoints by arguments, the others by records."""
    with corelock.HitCounter("t:sched:*") as counter:
        subprocess.run(["true"], check=True)
        hits = counter.stop()
        coverage = counter.coverage
    assert coverage is not None
    assert not coverage.refused and not coverage.incomplete
    assert hits.counts["sched:sched_process_exec"] >= 1
    assert coverage.ways["RAW_TP"] > 20
    assert sum(coverage.ways.values()) == len(coverage.labels)


def test_what_cannot_be_attached_is_an_error() -> None:
    """This kernel has no kprobes, or a policy forbids fentry, or the name is nobody's."""
    with pytest.raises(NoSuchProbe, match="no tracepoint matches sched:sched_swich") as refused:
        corelock.HitCounter("t:sched:sched_swich").__enter__()
    assert "sched:sched_switch" in refused.value.remedy
    with pytest.raises(NoSuchProbe, match="no tracepoint matches"):
        corelock.HitCounter("t:sched:sched_switch|nothing").__enter__()
    with pytest.raises(InvalidArgument, match=r"\d+ places, more than 5") as refused_many:
        corelock.HitCounter("t:sched:*", max_probes=5).__enter__()
    assert re.search(r"allow more: max_probes, --max-probes \d+\.$", refused_many.value.remedy)
    with pytest.raises(InvalidArgument, match="no CPU 4096"):
        corelock.HitCounter("t:sched:*", cpu=4096)


def test_every_alternative_has_to_be_there() -> None:
    for pattern, missing in (
        ("t:nosuch|irq:softirq_entry", "nosuch"),
        ("t:irq:softirq_*|nosuch", "nosuch"),
        (f"{KNOWN}:known_*|nosuch", "nosuch"),
    ):
        with pytest.raises(NoSuchProbe, match=missing):
            corelock.HitCounter(pattern).__enter__()
    with corelock.HitCounter("t:irq|sched:s*_entry|sched_switch") as counter:
        assert {"irq:softirq_entry", "sched:sched_switch"} <= counter.stop().counts.keys()


ALIASES = """
#include <stdio.h>
__attribute__((noinline)) void base(void) { __asm__ volatile(""); }
void other(void) __attribute__((alias("base")));
int main(void)
{
	getchar();
	for (int i = 0; i < 300; i++)
		base();
	return 0;
}
"""


def test_a_place_with_two_names_counts_for_both(tmp_path: Path) -> None:
    program = tmp_path / "program"
    subprocess.run(["cc", "-O1", "-xc", "-", "-o", program], input=ALIASES.encode(), check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        with corelock.HitCounter(f"{program}:base", f"{program}:other") as counter:
            process.communicate(b"\n", timeout=60)
            assert counter.stop().counts == {"program:base": 300, "program:other": 300}


def test_files_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    """A hard link is the same one, a copy of the same name is another."""
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    one, copy, link = (tmp_path / folder / "known_calls" for folder in ("a", "b", "c"))
    shutil.copy(KNOWN, one)
    shutil.copy(KNOWN, copy)
    os.link(one, link)
    patterns = [f"{path}:known_function" for path in (one, copy, link)]
    with Workload("known_calls", command=[one, "100", "2"]) as first:
        with Workload("known_calls", command=[copy, "10", "1"]) as second:
            with corelock.HitCounter(*patterns) as counter:
                first.run()
                second.run()
                counts = counter.stop().counts
    assert counts == {f"{one}:known_function": 200, f"{copy}:known_function": 10}
    with Workload("known_calls", command=[one, "100", "2"]) as first:
        with corelock.HitCounter(patterns[0], patterns[2]) as counter:
            first.run()
            assert counter.stop().counts == {"known_calls:known_function": 200}


STRINGS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
	char made[64], copy[64];

	getchar();
	for (int i = 0; i < 2000; i++) {
		snprintf(made, sizeof(made), "%s:%d:%c", "abc", i, 'x');
		if (strncmp(made, "abc:", 4) || atoi(made + 4) != i || strchr(made, 'x') == NULL)
			return 1;
		memset(copy, 0, sizeof(copy));
		memcpy(copy, made, strlen(made));
		if (strcmp(copy, made) || strrchr(copy, ':')[1] != 'x')
			return 2;
	}
	return 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="AVX is x86-64's")
def test_a_program_computes_the_same_while_its_strings_are_counted(tmp_path: Path) -> None:
    """Functions that begin with an instruction of AVX, which the kernel may execute wrongly."""
    program = tmp_path / "program"
    subprocess.run(["cc", "-O1", "-fno-builtin", "-xc", "-", "-o", program],
                   input=STRINGS.encode(), check=True)  # fmt: skip
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        patterns = ("libc:*str*", "libc:*mem*", "libc:*printf*")
        with corelock.HitCounter(*patterns, pid=process.pid, max_probes=9999) as counter:
            process.communicate(b"\n", timeout=60)
            hits = counter.stop()
    assert process.returncode == 0
    assert hits.counts["libc:snprintf"] == 2000
    assert counter.coverage is not None
    assert "libc:__strchr_evex" in counter.coverage.refused[VECTOR]
    with pytest.raises(LoadError, match="one of AVX"):
        corelock.HitCounter("libc:__strchr_avx2").__enter__()


def test_the_kernels_functions() -> None:
    """Where they can be had they are counted exactly, else it is said why not."""
    with Workload("known_calls", "1000", "2") as workload:
        counter = corelock.HitCounter("null_lseek", pid=workload.pid)
        try:
            counter.__enter__()
        except (LoadError, MissingPrivilege) as error:
            forbidden = isinstance(error, MissingPrivilege)
            assert forbidden or "cannot be probed" in error.message
            return
        with counter:
            workload.run()
            assert counter.stop().counts == {"null_lseek": 2000}
