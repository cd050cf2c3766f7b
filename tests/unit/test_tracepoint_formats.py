"""Fields of tracepoints: crafted formats of old and new kernels, and all of this kernel's."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corelock.errors import MissingPrivilege, NoSuchProbe, Unsupported
from corelock.probes import tracefs as tracefs_module
from corelock.probes.operands import Operand
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Field
from corelock.probes.tracefs import Folder, open_debugfs, open_tracefs
from corelock.probes.tracepoints import Tracepoints, no_field, parse_format

HEAD = """\
name: {name}
ID: 316
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
TAIL = """
print fmt: "field:int trap; offset:%d", REC->x
"""


def fields(*lines: str) -> tuple[Field, ...]:
    body = "".join(f"\tfield:{line}\n" for line in lines)
    return parse_format(HEAD.format(name="made_up") + body + TAIL)


def number(offset: int, size: int, signed: bool = False) -> Operand:
    return Operand("CONTEXT", offset, size, signed)


@pytest.mark.parametrize(
    ("line", "name", "type_", "operand"),
    [
        ("int x;\toffset:8;\tsize:4;\tsigned:1;", "x", "int", number(8, 4, True)),
        ("bool write;\toffset:24;\tsize:1;\tsigned:0;", "write", "bool", number(24, 1)),
        ("u8 x;\toffset:9;\tsize:1;\tsigned:0;", "x", "u8", number(9, 1)),
        ("short x;\toffset:10;\tsize:2;\tsigned:1;", "x", "short", number(10, 2, True)),
        ("loff_t x;\toffset:16;\tsize:8;\tsigned:1;", "x", "loff_t", number(16, 8, True)),
        ("u64 x;\toffset:16;\tsize:8;\tsigned:0;", "x", "u64", number(16, 8)),
        ("enum zone z;\toffset:8;\tsize:4;\tsigned:0;", "z", "enum zone", number(8, 4)),
        # Before 2.6.36 nothing said which were signed.
        ("int x;\toffset:8;\tsize:4;", "x", "int", number(8, 4)),
        # Pointers are addresses, whatever the format says of their sign.
        ("const char * s;\toffset:8;\tsize:8;\tsigned:1;", "s", "const char *", number(8, 8)),
        ("struct page *p;\toffset:8;\tsize:8;\tsigned:0;", "p", "struct page *", number(8, 8)),
        ("void *const p;\toffset:8;\tsize:8;\tsigned:0;", "p", "void *const", number(8, 8)),
    ],
)  # fmt: skip
def test_numbers(line: str, name: str, type_: str, operand: Operand) -> None:
    assert fields(line) == (Field(name, type_, operand),)


@pytest.mark.parametrize(
    ("declared", "operand"),
    [
        ("char comm[16]", Operand("CONTEXT", 8, 1, text="INLINE", length=16)),
        # Linux 5.17: an enumeration's name, its size in the field's only.
        ("char comm[TASK_COMM_LEN]", Operand("CONTEXT", 8, 1, text="INLINE", length=16)),
        ("const char comm[16]", Operand("CONTEXT", 8, 1, text="INLINE", length=16)),
        ("unsigned char x[16]", None),
        ("u8 x[16]", None),
        ("unsigned long args[2]", None),
        ("__u8 x[4][4]", None),
        ("struct timespec64 t", None),
    ],
)
def test_fields_of_sixteen_bytes(declared: str, operand: Operand) -> None:
    (field,) = fields(f"{declared};\toffset:8;\tsize:16;\tsigned:0;")
    assert field.operand == operand
    assert bool(field.why) == (operand is None)


def test_what_a_text_is_read_of() -> None:
    named, relative, long = fields(
        "__data_loc char[] name;\toffset:12;\tsize:4;\tsigned:0;",
        "__rel_loc char[] name;\toffset:16;\tsize:4;\tsigned:0;",
        "char path[256];\toffset:20;\tsize:256;\tsigned:0;",
    )
    assert named == Field(
        "name", "__data_loc char[]", Operand("CONTEXT", 12, 4, text="DATA_LOC", length=64)
    )
    assert relative.operand == Operand("CONTEXT", 16, 4, text="REL_LOC", length=64)
    assert long.operand == Operand("CONTEXT", 20, 1, text="INLINE", length=64)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("__data_loc u8[] x;\toffset:8;\tsize:4;\tsigned:0;", "array of varying length"),
        ("__data_loc cpumask_t mask;\toffset:8;\tsize:4;\tsigned:0;", "array of varying length"),
        ("__rel_loc long[] x;\toffset:8;\tsize:4;\tsigned:0;", "array of varying length"),
        ("struct request r;\toffset:8;\tsize:8;\tsigned:0;", "a structure"),
        ("union u r;\toffset:8;\tsize:8;\tsigned:0;", "a structure"),
        ("u24 x;\toffset:8;\tsize:3;\tsigned:0;", "3 bytes"),
        ("__int128 x;\toffset:8;\tsize:16;\tsigned:0;", "16 bytes"),
        ("char buf[];\toffset:8;\tsize:0;\tsigned:0;", "array"),
        ("int x[0];\toffset:8;\tsize:0;\tsigned:1;", "array"),
        ("u32 flags:3;\toffset:8;\tsize:4;\tsigned:0;", "cannot be told"),
        ("void (*f)(int);\toffset:8;\tsize:8;\tsigned:0;", "cannot be told"),
    ],
)
def test_what_no_program_can_find(line: str, why: str) -> None:
    (field,) = fields(line)
    assert field.operand is None
    assert why in field.why


@pytest.mark.parametrize(
    ("type_", "operand"),
    [
        ("int", number(24, 4, True)),
        ("const clockid_t", number(24, 4, True)),
        ("unsigned int", number(24, 4)),
        ("umode_t", number(24, 2)),
        ("off_t", number(24, 8, True)),
        ("unsigned long", number(24, 8)),
        ("size_t", number(24, 8)),
        ("const char *", number(24, 8)),
    ],
)
def test_arguments_of_system_calls_are_as_long_as_their_types(type_: str, operand: Operand) -> None:
    """All have eight bytes in the record, of which a call with -1 may leave the rest 0."""
    _, argument = fields(
        "int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;",
        f"{type_} x;\toffset:24;\tsize:8;\tsigned:0;",
    )
    assert argument.operand == operand


def test_what_all_events_have_are_no_fields() -> None:
    assert fields() == ()
    assert "tid" in no_field("common_pid")
    assert "perf writes over" in no_field("common_preempt_lazy_count")
    assert no_field("pid") == ""


@pytest.fixture
def tracefs() -> Iterator[Folder]:
    with open_tracefs() as folder:
        yield folder


@pytest.mark.kernel
def test_every_event_of_this_kernel(tracefs: Folder) -> None:
    """Each line of each format is a field, and what may be read lies within the record."""
    tracepoints = Tracepoints(tracefs)
    seen = 0
    for category, event in tracepoints.all:
        text = tracefs.read(f"events/{category}/{event}/format")
        lines = [line for line in text.splitlines() if line.startswith("\tfield:")]
        own = [line for line in lines if " common_" not in line]
        found = tracepoints.fields(category, event)
        assert len(found) == len(own), (category, event)
        assert len({field.name for field in found}) == len(found), (category, event)
        for field, line in zip(found, own):
            words = dict(re.findall(r"(\w+):(\d+);", line))
            if field.operand is None:
                assert field.why, line
                continue
            seen += 1
            operand = field.operand
            assert operand.source == "CONTEXT"
            assert operand.offset == int(words["offset"]) >= 8
            room = operand.length if operand.text == "INLINE" else operand.size
            assert room <= int(words["size"]), line
            if category != "syscalls" and operand.text == "NONE":
                assert operand.size == int(words["size"]), line
                assert operand.signed == (words["signed"] == "1") or "*" in field.type, line
    assert seen > 1000


@pytest.mark.kernel
def test_places_have_the_ids_of_tracefs(tracefs: Folder) -> None:
    (place,) = Tracepoints(tracefs).find(parse_pattern("t:sched:sched_switch"))
    number = int(tracefs.read("events/sched/sched_switch/id"))
    assert place == ("TRACEPOINT", "sched:sched_switch", "sched_switch", number, 0, (), ())
    found = Tracepoints(tracefs).find(parse_pattern("t:syscalls:sys_enter_*"))
    assert len(found) > 100
    assert {place.name for place in found} == {""}
    assert len({place.address for place in found}) == len(found)


@pytest.mark.kernel
def test_the_kernel_has_a_tracepoint_of_each_name(tracefs: Folder) -> None:
    symbols = Path("/proc/kallsyms").read_text()
    found = Tracepoints(tracefs).find(parse_pattern("t:*:*"))
    assert len(found) > 500
    for place in found:
        assert not place.name or f" __traceiter_{place.name}\n" in symbols


def folder_of(path: Path) -> Folder:
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A tracefs with a probe that somebody has called as a tracepoint is called."""
    events = ["sched:sched_switch", "sched:wake", "mine:sched_switch", "syscalls:sys_enter_x"]
    events += ["kprobes:a_probe", "synthetic:late", "module:alone"]
    (tmp_path / "available_events").write_text("".join(f"{event}\n" for event in events))
    dynamic = "p:kprobes/a_probe vfs_read\np:mine/sched_switch vfs_write\ns:synthetic/late u64 x;\n"
    (tmp_path / "dynamic_events").write_text(dynamic)
    for number, event in enumerate(events):
        category, _, name = event.partition(":")
        folder = tmp_path / "events" / category / name
        folder.mkdir(parents=True)
        (folder / "id").write_text(f"{number}\n")
    return tmp_path


def test_events_without_a_tracepoint_of_their_own_go_by_id(made_up: Path) -> None:
    found = Tracepoints(folder_of(made_up)).find(parse_pattern("t:*:*"))
    assert [(place.label, place.name, place.address) for place in found] == [
        ("sched:sched_switch", "", 0),
        ("sched:wake", "wake", 1),
        ("mine:sched_switch", "", 2),
        ("syscalls:sys_enter_x", "", 3),
        ("kprobes:a_probe", "", 4),
        ("synthetic:late", "", 5),
        ("module:alone", "alone", 6),
    ]


def test_unknown_events_have_near_ones(made_up: Path) -> None:
    tracepoints = Tracepoints(folder_of(made_up))
    for pattern in ("t:sched:sched_swich", "t:shced:sched_switch"):
        with pytest.raises(NoSuchProbe, match="no tracepoint matches") as error:
            tracepoints.find(parse_pattern(pattern))
        assert "Did you mean sched:sched_switch" in error.value.remedy
    with pytest.raises(NoSuchProbe, match="there is no tracepoint sched:wakes"):
        tracepoints.fields("sched", "wakes")


def test_an_event_that_goes_away(made_up: Path) -> None:
    tracepoints = Tracepoints(folder_of(made_up))
    assert len(tracepoints.all) == 7
    (made_up / "events" / "module" / "alone" / "id").unlink()
    with pytest.raises(Unsupported, match="events/module/alone/id cannot be read"):
        tracepoints.find(parse_pattern("t:module:alone"))


def test_no_category_or_event_is_a_path(made_up: Path) -> None:
    with pytest.raises(NoSuchProbe):
        Tracepoints(folder_of(made_up)).fields("..", "available_events")


@pytest.mark.kernel
def test_a_mount_of_our_own_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    def mounts() -> str:
        return Path("/proc/self/mountinfo").read_text()

    before = mounts()
    monkeypatch.setattr(tracefs_module, "_mounted", lambda kind: [])
    monkeypatch.setattr(tracefs_module, "_BELOW_DEBUGFS", "/nowhere")
    with open_tracefs() as folder:
        assert "sched:sched_switch" in folder.read("available_events").splitlines()
        debugfs = open_debugfs()
        assert debugfs is not None
        debugfs.close()
        assert mounts() == before
    with pytest.raises(OSError):
        folder.read("available_events")


@pytest.mark.kernel
def test_a_mount_elsewhere_is_found(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    script = (
        'mount -t tracefs none "$1" && umount -q /sys/kernel/tracing; '
        'exec "$2" -c "from corelock.probes import tracefs as t; '
        "t.mount_detached = None; print(t._mounted('tracefs')); "
        "print(len(t.open_tracefs().read('available_events')) > 1000)\""
    )
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", place, sys.executable],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert run.stdout.splitlines() == [f"['{place}']", "True"], run.stderr


def refused_mount(kind: str) -> int:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_none_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs_module, "_mounted", lambda kind: [])
    monkeypatch.setattr(tracefs_module, "_BELOW_DEBUGFS", "/nowhere")
    monkeypatch.setattr(tracefs_module, "mount_detached", refused_mount)
    with pytest.raises(Unsupported, match="not mounted, and cannot be: Operation not") as error:
        open_tracefs()
    assert "mount -t tracefs" in error.value.remedy
    assert open_debugfs() is None


@pytest.mark.kernel
def test_one_that_may_not_be_read(tmp_path: Path) -> None:
    code = (
        "import os\nfrom corelock.probes import tracefs as t\nfrom corelock.errors import *\n"
        "os.setgid(65534)\nos.setuid(65534)\n"
        f"t._mounted = lambda kind: [{str(tmp_path)!r}]\nt._BELOW_DEBUGFS = '/nowhere'\n"
        "try:\n    t.open_tracefs()\nexcept MissingPrivilege as error:\n    print(error.message)"
    )
    tmp_path.chmod(0o700)
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert run.stdout == f"{tmp_path} may not be read\n", run.stderr


def test_a_file_that_may_not_be_read(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Folder, path: str) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Folder, "read", denied)
    with pytest.raises(MissingPrivilege, match="available_events may not be read"):
        Tracepoints(folder_of(made_up)).find(parse_pattern("t:*:*"))
