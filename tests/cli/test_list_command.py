"""``corelock list`` as users run it, against what the system's own tools say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corelock.probes.tracefs import open_tracefs
from tests.cli.command import Corelock, environment, run

pytestmark = pytest.mark.kernel


def test_one_event_is_shown_with_its_fields() -> None:
    result = run("list", "t:sched:sched_switch")
    assert result.code == 0
    head, *rows = result.out.splitlines()
    assert head == "t:sched:sched_switch"
    with open_tracefs() as tracefs:
        text = tracefs.read("events/sched/sched_switch/format")
    declared = re.findall(r"field:([^;]+);", text)
    names = [re.split(r"[\s\[]", each.strip().rpartition(" ")[2])[0] for each in declared]
    assert [row.split()[0] for row in rows] == [n for n in names if not n.startswith("common_")]
    assert re.search(r"^    prev_comm +char\[16\] +text$", result.out, re.M)
    assert result.err == ""


def test_several_are_a_line_each_and_fields_with_v() -> None:
    short = run("list", "t:sched:sched_[sw]*", "t:sched:sched_switch").out.splitlines()
    assert short == sorted(set(short))
    assert "t:sched:sched_switch" in short
    assert all(line.startswith("t:sched:sched_") for line in short)
    full = run("list", "-v", "t:sched:sched_[sw]*").out.splitlines()
    assert [line for line in full if not line.startswith(" ")] == short
    assert "    prev_pid    pid_t" in full


def test_every_event_of_the_kernel() -> None:
    with open_tracefs() as tracefs:
        events = tracefs.read("available_events").splitlines()
    assert run("list", "t:*:*").out.splitlines() == sorted(f"t:{event}" for event in events)
    full = run("list", "-v", "tracepoint:*:*")
    assert full.code == 0
    long = [line for line in full.out.splitlines() if len(line) > 80]
    # A name and a type that are as long as that by themselves.
    assert all(len(line.split("  ")) <= 6 for line in long)
    assert len(long) < len(events) / 100, long


def test_fields_as_json() -> None:
    (probe,) = run("list", "--json", "t:syscalls:sys_enter_openat").json["probes"]
    assert (probe["kind"], probe["doubt"]) == ("tracepoint", None)
    with open_tracefs() as tracefs:
        number = int(tracefs.read("events/syscalls/sys_enter_openat/id"))
    assert probe["places"] == [{"id": number}]
    fields = {field.pop("name"): field for field in probe["fields"]}
    assert fields["dfd"] == {
        "type": "int", "is_text": False, "size": 4, "signed": True, "why_not": None
    }  # fmt: skip
    assert list(fields)[:3] == ["__syscall_nr", "dfd", "filename"]


def test_functions_of_the_kernel() -> None:
    listed = run("list", "vfs_*").out.splitlines()
    symbols = Path("/proc/kallsyms").read_text()
    named = {line.split()[2] for line in symbols.splitlines() if " vfs_" in line}
    assert {"vfs_read", "vfs_write"} <= set(listed) <= named
    address = re.search(r"^(\w+) T vfs_read$", symbols, re.M)
    assert address
    assert run("list", "vfs_read").out == f"vfs_read\n    at 0x{address[1]}\n"
    (probe,) = run("list", "--json", "vfs_read").json["probes"]
    assert probe["places"] == [{"name": "vfs_read", "address": int(address[1], 16)}]


def test_what_nothing_can_be_attached_to_is_counted_and_with_v_named() -> None:
    result = run("list", "vfs_*")
    assert re.search(r"^not listed: \d+, used at boot only, freed since$", result.err, re.M)
    assert "vfs_caches_init" not in result.out + result.err
    assert "vfs_caches_init" in run("list", "-v", "vfs_*").err
    assert run("list", "-q", "vfs_*").err == ""
    assert "vfs_caches_init" in str(run("list", "--json", "vfs_*").json["refused"])
    run("list", "vfs_caches_init").assert_refused("vfs_caches_init", "used at boot only")


def test_that_no_function_of_the_kernel_can_be_attached_to_is_said() -> None:
    """Of a kernel without a way to, or that does not let us; else count counts."""
    counted = run("count", "vfs_read", "-d", "0.05")
    for said in run("list", "vfs_read").err, run("list").err:
        assert ("cannot be attached to here:" in said) == (counted.code != 0)
        assert counted.code == 0 or counted.err.partition(": ")[2].splitlines()[0] in said
    assert "attached" not in run("list", "t:sched:sched_switch").err


def test_functions_of_a_library() -> None:
    listed = run("list", "libc:mall*").out.splitlines()
    assert {"libc:malloc", "libc:mallinfo"} <= set(listed)
    assert run("list", "-r", "libc:mall(oc|opt)").out.splitlines() == [
        "libc:malloc", "libc:mallopt",
    ]  # fmt: skip
    assert re.fullmatch(r"libc:malloc\n    at 0x\w+ of /\S+\n", run("list", "c:malloc").out)


@pytest.fixture
def program_with_probes(tmp_path: Path) -> Iterator[str]:
    """A program with notes as sys/sdt.h makes them: two locations of one probe."""
    source = """
        #define PROBE(arguments) \\
            "990: nop\\n.pushsection .note.stapsdt,\\"\\",\\"note\\"\\n.balign 4\\n" \\
            ".4byte 992f-991f, 994f-993f, 3\\n991: .asciz \\"stapsdt\\"\\n992: .balign 4\\n" \\
            "993: .8byte 990b, 0, here_semaphore\\n.asciz \\"mine\\"\\n.asciz \\"here\\"\\n" \\
            ".asciz \\"" arguments "\\"\\n994: .balign 4\\n.popsection\\n"
        unsigned short here_semaphore __attribute__((section(".probes"), used));
        int main(int count, char **words)
        {
            asm volatile(PROBE("-4@$7 8@$9"));
            if (count > 1)
                asm volatile(PROBE("1@$3"));
            return here_semaphore;
        }
    """
    (tmp_path / "probed.c").write_text(source)
    path = tmp_path / "probed"
    subprocess.run(["cc", "-no-pie", "-o", path, tmp_path / "probed.c"], check=True)
    yield str(path)


def test_static_probes_with_arguments_and_semaphores(program_with_probes: str) -> None:
    result = run("list", f"u:{program_with_probes}:here")
    lines = result.out.splitlines()
    assert lines[0] == "u:probed:mine:here"
    shown = [line.strip() for line in lines[1:]]
    words = " ".join(shown).split()
    assert words.count("semaphore") == 2
    # The two locations have different arguments, each shown below its own.
    assert [w for w in words if w.startswith("arg")] == ["arg1", "arg2", "arg1"]
    assert "int32_t" in words and "uint8_t" in words
    (probe,) = run("list", "--json", f"usdt:{program_with_probes}:mine:*").json["probes"]
    assert [len(place["arguments"]) for place in probe["places"]] == [2, 1]
    assert all(place["semaphore"] > 0 for place in probe["places"])
    assert len({place["offset"] for place in probe["places"]}) == 2
    run("list", f"u:{program_with_probes}:hare").assert_refused("hare", "Did you mean here?")


def test_an_overview_without_a_pattern() -> None:
    result = run("list")
    assert result.code == 0
    assert re.search(r"^tracepoint +\d[\d,]+  t:CATEGORY:EVENT +t:sched:sched_switch$",
                     result.out, re.M)  # fmt: skip
    assert re.search(r"^kernel function +\d[\d,]+  FUNCTION +vfs_read$", result.out, re.M)
    assert len(result.out.splitlines()) == 5
    assert all(len(line) <= 80 for line in result.out.splitlines() + result.err.splitlines())
    kinds = {kind["kind"]: kind for kind in run("list", "--json").json["kinds"]}
    assert kinds["tracepoint"]["count"] == len(run("list", "t:*:*").out.splitlines())


def test_the_files_of_a_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            result = run("list", "-p", process.pid)
            files = run("list", "-p", process.pid, "--json").json["files"]
            functions = run("list", "-p", process.pid, "libc:mallo*")
        finally:
            process.kill()
    assert result.code == functions.code == 0
    assert re.search(r"^sleep +0  /\S+/sleep$", result.out, re.M)
    assert {"sleep", "libc"} <= {file["name"] for file in files}
    assert "libc:malloc" in functions.out.splitlines()


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("t:sched:sched_swich", "Did you mean sched:sched_switch"),
        ("t:nosuch:*", "no tracepoint matches nosuch:*"),
        ("vfs_reed", "Did you mean vfs_read"),
        ("nosuchlib:f", "nosuchlib"),
        ("/nonexistent/x:f", "/nonexistent/x"),
        ("libc:mallocc", "malloc"),
    ],
)
def test_no_match_has_near_names(pattern: str, words: str) -> None:
    run("list", pattern).assert_refused(words)
    # Not even if others match: whoever asked for it would think it is there.
    run("list", "vfs_read", pattern).assert_refused(words)


@pytest.mark.parametrize("pattern", ["", "x:", "q:lib:f", "t:sched", "kretprobe:f", "a b"])
def test_what_cannot_be_meant_is_wrong_usage(pattern: str) -> None:
    run("list", pattern).assert_refused("not a pattern", "t:category:event", code=2)


def test_a_bad_regular_expression_is_wrong_usage() -> None:
    run("list", "-r", "vfs_(read").assert_refused("at character 5", code=2)


def test_a_reader_that_has_seen_enough() -> None:
    with Corelock("list", "*") as command:
        command.line()
        assert command.process.stdout is not None
        command.process.stdout.close()
        command.process.stdout = None
        result = command.finish()
    assert result.code == 0
    assert "Traceback" not in result.err
    assert "Broken" not in result.err


def test_nothing_is_mounted_for_it_where_tracefs_is_not() -> None:
    script = (
        "while umount /sys/kernel/tracing; do :; done 2>/dev/null; before=$(cat /proc/mounts)\n"
        '"$@" || exit; [ "$before" = "$(cat /proc/mounts)" ] && echo as before'
    )
    result = run(
        "list", "t:sched:sched_switch", prefix=["unshare", "--mount", "sh", "-c", script, "sh"]
    )
    assert result.out.splitlines()[0] == "t:sched:sched_switch"
    assert result.out.splitlines()[-1] == "as before"


def test_a_user_without_rights_is_told_what_helps() -> None:
    script = (
        "while umount /sys/kernel/tracing; do :; done 2>/dev/null\n"
        'exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$@"'
    )
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    result = run("list", "t:sched:*", prefix=prefix, env=environment())
    result.assert_refused("tracefs is not mounted", "mount -t tracefs")
