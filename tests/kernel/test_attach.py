"""The two ways of attaching, how one is chosen, and BTF from other places."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from elftools.elf.elffile import ELFFile

import corelock
from corelock.errors import InvalidArgument
from tests import host
from tests.cli.command import Result, run
from tests.cli.hosts import as_user, prepared
from tests.perf_counter import counted
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

_BTF = Path("/sys/kernel/btf/vmlinux")
_HIDE_TRACEFS = "for d in tracing debug; do [ ! -d /sys/kernel/$d ] || "
_HIDE_TRACEFS += "mount -t tmpfs none /sys/kernel/$d; done"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where BTF files are put, which are large."""
    return tmp_path_factory.mktemp("btf")


@pytest.fixture(scope="module")
def without_arguments(folder: Path) -> Path:
    """This kernel's BTF, but for the arguments of the tracepoints, which it calls otherwise."""
    path = folder / "without_arguments"
    whole = _BTF.read_bytes()
    renamed = whole.replace(b"btf_trace_mmap_lock_", b"btf_trace_mmap_lack_")
    assert renamed != whole
    path.write_bytes(renamed)
    return path


def _storm(*options: str, prefix: list[str]) -> Result:
    storm = " ".join(Workload("storm", "2", "500").command)
    script = f"printf 'go\\n\\n' | {storm} >/dev/null"
    command = ["--follow", "--", "sh", "-c", script]
    return run("hold-times", *options, "--json", *command, prefix=prefix)


def _assert_storm(result: Result, attached_by: str) -> None:
    """1,000 of each of storm's system calls, and nothing lost."""
    assert result.code == 0, result.err
    accounting = result.json["accounting"]
    assert accounting["attached_by"] == attached_by
    assert accounting["unaccounted"] == 0
    assert not any(accounting["lost"].values())
    for operation in "mmap", "mprotect", "munmap":
        rows = [r for r in result.json["rows"] if r["operation"] == operation]
        threads = [r for r in rows if r["mode"] == "write" and r["tid"] != r["pid"]]
        assert sum(r["wait_ns"]["count"] for r in threads) == 1000, operation


def test_arguments_come_first() -> None:
    _assert_storm(_storm(prefix=[]), "tp_btf")


def test_records_when_asked_for() -> None:
    result = _storm("--attach", "tp", prefix=[])
    _assert_storm(result, "tp")
    assert "attached by tp" in result.err


def test_records_where_arguments_are_not_known(without_arguments: Path) -> None:
    prefix = prepared(f"mount --bind {without_arguments} {_BTF}")
    result = _storm(prefix=prefix)
    _assert_storm(result, "tp")
    assert "attached by tp" in result.err


def test_arguments_that_are_not_known_cannot_be_asked_for(without_arguments: Path) -> None:
    prefix = prepared(f"mount --bind {without_arguments} {_BTF}")
    result = run("hold-times", "--attach", "tp_btf", "--all", prefix=prefix)
    result.assert_refused("in the form that was asked for", "--attach")


def test_records_need_tracefs() -> None:
    result = run("hold-times", "--attach", "tp", "--all", prefix=prepared(_HIDE_TRACEFS))
    result.assert_refused("cannot attach released_record", "mount -t tracefs")


def test_records_without_arguments_or_tracefs(without_arguments: Path) -> None:
    prefix = prepared(f"mount --bind {without_arguments} {_BTF}; {_HIDE_TRACEFS}")
    run("hold-times", "--all", prefix=prefix).assert_refused("mount -t tracefs")


def test_no_such_way() -> None:
    result = run("hold-times", "--attach", "kprobe", "--all")
    assert (result.code, result.out) == (2, "")
    assert "'tp_btf', 'tp'" in result.err
    with pytest.raises(InvalidArgument, match="kprobe"):
        corelock.Tracer(everything=True, attach="kprobe")  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [["hold-times", "--all"], ["blame", "--all"], ["holders"]])
def test_kernel_without_what_programs_need(folder: Path, command: list[str]) -> None:
    """As before Linux 5.15, whose tracepoints are there, but for the helper."""
    path = folder / "without_helper"
    path.write_bytes(_BTF.read_bytes().replace(b"BPF_FUNC_task_pt_regs", b"BPF_FUNC_task_pt_rags"))
    result = run(*command, prefix=prepared(f"mount --bind {path} {_BTF}"))
    result.assert_refused("this kernel's BPF has no bpf_task_pt_regs", "Linux 5.15")


# --- arguments that the kernel refuses --------------------------------------------------------


def _typedef(btf: bytearray, name: bytes) -> slice:
    """Where the BTF has the typedef of that name: its name's offset, BTF_KIND_TYPEDEF, its type."""
    header_bytes, _, _, strings_at = struct.unpack_from("=4I", btf, 4)
    names_at = header_bytes + strings_at
    begin = struct.pack("=2I", btf.index(b"\0" + name + b"\0", names_at) + 1 - names_at, 8 << 24)
    assert btf.count(begin) == 1
    return slice(btf.index(begin), btf.index(begin) + 12)


@pytest.fixture(scope="module")
def refused_load(folder: Path) -> list[str]:
    """By BTF that has the arguments under the number of a tracepoint with fewer.

    The kernel goes by the number, and does not let a program read what is not there.
    """
    btf = bytearray(_BTF.read_bytes())
    one = _typedef(btf, b"btf_trace_mmap_lock_released")
    other = _typedef(btf, b"btf_trace_sched_wait_task")
    btf[one], btf[other] = btf[other], btf[one]
    path = folder / "with_fewer_arguments"
    path.write_bytes(btf)
    return prepared(f"mount --bind {path} {_BTF}")


@pytest.fixture(scope="module")
def refused_attach(folder: Path) -> list[str]:
    library = folder / "refuse_attach.so"
    source = Path(__file__).with_name("refuse_attach.c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, source, "-o", library, "-ldl"], check=True)
    return ["env", f"LD_PRELOAD={library}"]


def _libbpf_is_apart() -> bool:
    """Whether something can come between: a wheel's library has libbpf inside."""
    if "CORELOCK_TEST_COMMAND" in os.environ:
        return False
    with open(Path(corelock.__file__).with_name("libcorelock.so"), "rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        return any(tag.needed == "libbpf.so.1" for tag in dynamic.iter_tags("DT_NEEDED"))


_REFUSALS = {"refused_load": "the kernel refused the BPF programs: Permission denied"}
if _libbpf_is_apart():
    _REFUSALS["refused_attach"] = "cannot attach released: Invalid argument"


@pytest.mark.parametrize("refusal", _REFUSALS)
def test_records_where_arguments_are_refused(refusal: str, request: pytest.FixtureRequest) -> None:
    prefix = request.getfixturevalue(refusal)
    result = _storm(prefix=prefix)
    _assert_storm(result, "tp")
    assert "attached by tp" in result.err
    result = run("hold-times", "--attach", "tp_btf", "--all", prefix=prefix)
    result.assert_refused(_REFUSALS[refusal], "Please report")


# --- records of other kernels -----------------------------------------------------------------


@pytest.fixture(scope="module")
def record_forms(folder: Path) -> Iterator[Path]:
    yield host.build_with_skeletons(Path(__file__).with_name("record_forms.c"), folder)


_RELOCATED = re.compile(
    r"prog '(\w+)_record': relo #(\d+): matching candidate #0 <byte_off> \[\d+\] "
    r"struct trace_event_raw_mmap_lock(\w*)\.(\w+) .*\n"
    r".*prog '\1_record': relo #\2: patched insn #\d+ \(LDX/ST/STX\) off \d+ -> (\d+)"
)


@pytest.mark.parametrize(
    ("shape", "suffix", "write_at"),
    [("own", "_own", 20), ("class", "", 20), ("class_with_id", "", 24)],
    ids=["5.11 to 5.15", "5.16 to 6.13", "6.14 and newer"],
)
def test_records_of_other_kernels(
    record_forms: Path, folder: Path, shape: str, suffix: str, write_at: int
) -> None:
    """Each member is read where that kernel has it, and the library chooses these programs."""
    btf = folder / shape
    command = [record_forms, shape, btf]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert made.stdout.endswith("loaded\n")
    own = suffix != ""
    expected = set()
    for event in "start_locking", "acquire_returned", "released":
        struct = f"_{event}" if own or event == "acquire_returned" else ""
        program = event + suffix if event != "acquire_returned" else event
        expected |= {(program, struct, "mm", 8), (program, struct, "write", write_at)}
        if event == "acquire_returned":
            expected.add((program, struct, "success", write_at + 1))
    relocated = _RELOCATED.findall(made.stdout)
    assert {(p, s, member, int(at)) for p, _, s, member, at in relocated} == expected
    prefix = prepared(f"mount --bind {btf} {_BTF}; {_HIDE_TRACEFS}")
    result = run("hold-times", "--attach", "tp", "--all", prefix=prefix)
    result.assert_refused(f"cannot attach released{suffix}_record")


# --- BTF from a file --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(folder: Path) -> Path:
    path = folder / "copy"
    path.write_bytes(_BTF.read_bytes())
    return path


_NO_BTF = ["mount -t tmpfs none /sys/kernel/btf", "mount -t tmpfs none /sys"]


@pytest.mark.parametrize("hidden", _NO_BTF, ids=["no BTF", "no sysfs"])
def test_btf_file(copy: Path, hidden: str) -> None:
    _assert_storm(_storm("--btf", str(copy), prefix=prepared(hidden)), "tp_btf")


def test_btf_file_of_holders_and_blame(copy: Path) -> None:
    prefix = prepared(_NO_BTF[0])
    pid = str(os.getpid())
    result = run("holders", "--btf", copy, "--pid", pid, prefix=prefix)
    assert result.code == 0, result.err
    result = run("blame", "--btf", copy, "--", "true", prefix=prefix)
    assert result.code == 0, result.err


def test_btf_file_changes_nothing_for_others(copy: Path) -> None:
    """Not even for the caller: it is shown to one thread, while that loads."""
    before = Path("/proc/self/mountinfo").read_text()
    with corelock.Tracer(pid=os.getpid(), btf=str(copy)):
        assert Path("/proc/self/mountinfo").read_text() == before
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    "content", [None, b"", b"not BTF at all"], ids=["missing", "empty", "not BTF"]
)
def test_btf_file_that_is_none(tmp_path: Path, content: Optional[bytes]) -> None:
    path = tmp_path / "btf"
    if content is not None:
        path.write_bytes(content)
    result = run("hold-times", "--btf", path, "--all")
    result.assert_refused(f"cannot read BTF from {path}", "/sys/kernel/btf/vmlinux", code=2)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_btf_file_that_is_cut(copy: Path, tmp_path: Path, part: float) -> None:
    path = tmp_path / "btf"
    whole = copy.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    result = run("hold-times", "--btf", path, "--all")
    result.assert_refused(f"cannot read BTF from {path}", code=2)


def test_btf_file_of_another_kernel(without_arguments: Path) -> None:
    result = run("hold-times", "--btf", without_arguments, "--all")
    result.assert_refused(f"{without_arguments} is the BTF of another kernel", "exactly this build")


def test_btf_file_needs_the_right_to_mount(copy: Path) -> None:
    os.chmod(copy, 0o644)
    for parent in list(copy.parents)[:-2]:
        os.chmod(parent, 0o755)
    result = as_user("+bpf,+perfmon", "hold-times", "--btf", str(copy), "--all")
    result.assert_refused("CAP_SYS_ADMIN")


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "program"])
def test_btf_file_that_cannot_be_one(tmp_path: Path, kind: str) -> None:
    path = {"device": Path("/dev/null"), "program": Path("/bin/ls")}.get(kind, tmp_path / kind)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    result = run("hold-times", "--btf", path, "--all")
    result.assert_refused(f"cannot read BTF from {path}: it has none", code=2)


def test_btf_file_of_another_mount_namespace(copy: Path) -> None:
    """As in a container that sees the host's processes and not its /sys."""
    path = f"/proc/{os.getpid()}/root{copy}"
    _assert_storm(_storm("--btf", path, prefix=prepared(_NO_BTF[1])), "tp_btf")


def test_btf_elsewhere_is_not_taken_unasked(copy: Path) -> None:
    """libbpf would look in /boot, too, and whose it is would not be known."""
    prefix = prepared(
        f"{_NO_BTF[0]}; mount -t tmpfs none /boot; cp {copy} /boot/vmlinux-$(uname -r)"
    )
    run("hold-times", "--all", prefix=prefix).assert_refused("no kernel BTF in /sys", "--btf")
    result = run("doctor", prefix=prefix)
    assert result.code == 1
    assert "no kernel BTF in" in result.out


@pytest.mark.parametrize("way", ["tp", "tp_btf"])
def test_perf_sees_the_events_all_the_same(way: str) -> None:
    """A program on an event's records can keep the event from perf, and must not."""
    with Workload("storm", "1", "200") as storm:
        (tid,) = set(storm.tids) - {storm.pid}
        with counted("mmap_lock", "mmap_lock_released", tid) as perf:
            with corelock.Tracer(pid=storm.pid, slow_ns=None, attach=way) as tracer:
                assert tracer.attached_by == way
                storm.run()
                tracer.stop()
                assert perf() >= 600  # mmap, mprotect, munmap
        storm.finish()
