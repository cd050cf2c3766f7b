"""``corelock doctor`` on hosts that work and on hosts that lack something.

What it says of ``hold-times`` is compared with what ``hold-times`` does there.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest

import corelock
from tests.cli.command import Result, environment, run
from tests.cli.hosts import LEAST, as_user, prepared

pytestmark = pytest.mark.kernel

_SECCOMP = [sys.executable, str(Path(__file__).with_name("seccomp.py"))]
_BTF = "/sys/kernel/btf"

NAMES = [
    "kernel", "library", "capabilities", "bpf", "btf", "tracepoints", "program_types", "holders",
    "lockdown", "unprivileged_bpf_disabled", "proc", "tracefs", "kptr_restrict",
    "user_symbols", "attach_tp_btf", "attach_tp", "jit", "event_cost",
]  # fmt: skip


def verdicts(diagnosis: Any) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in diagnosis["checks"]}


def check(result: Result, name: str) -> Any:
    """One of the checks; all are there on every host, in one order."""
    assert "Traceback" not in result.err
    checks = result.json["checks"]
    assert [each["name"] for each in checks] == NAMES
    assert all(each["found"] for each in checks)
    return next(each for each in checks if each["name"] == name)


def runner(prefix: Sequence[str]) -> Callable[..., Result]:
    return lambda *arguments: run(*arguments, prefix=prefix)


def as_nobody(capabilities: str, script: str = ":") -> Callable[..., Result]:
    return lambda *arguments: as_user(capabilities, *arguments, script=script)


def test_this_host_works() -> None:
    result = run("doctor", "--json")
    assert result.code == 0
    assert result.err == ""
    diagnosis = result.json
    assert diagnosis["works"] is True
    assert diagnosis["attach"] == "tp_btf"
    assert diagnosis["event_layout"] in ("memcg_id", "memcg_path")
    assert 0 < diagnosis["event_cost_ns"] < 1_000_000
    assert set(verdicts(diagnosis)) == set(NAMES)
    assert "fail" not in verdicts(diagnosis).values()
    for way in ("attach_tp_btf", "attach_tp"):
        assert "6,000 of 6,000 locks" in check(result, way)["found"]


def test_text() -> None:
    result = run("doctor")
    assert result.code == 0
    lines = result.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert re.fullmatch(
        r"hold-times works here: it attaches by tp_btf, an event costs about [\d,]+ ns\.", lines[-1]
    )


def test_api() -> None:
    diagnosis = corelock.doctor()
    assert isinstance(diagnosis, corelock.Diagnosis)
    assert diagnosis.works
    assert [each.name for each in diagnosis.checks] == NAMES


#: A way to run the command, whether hold-times works so, and a check that says why (not).
_HOSTS = {
    "least capabilities": (as_nobody(LEAST), True, "capabilities"),
    "no capabilities": (as_nobody("-all"), False, "capabilities"),
    "root without CAP_BPF": (
        runner(["setpriv", "--bounding-set=-bpf,-sys_admin"]), False, "capabilities",
    ),
    "root without CAP_PERFMON": (
        runner(["setpriv", "--bounding-set=-perfmon,-sys_admin"]), False, "capabilities",
    ),
    "user namespace": (runner(["unshare", "--user", "--map-root-user"]), False, "capabilities"),
    "seccomp, EPERM": (runner([*_SECCOMP, "EPERM"]), False, "bpf"),
    "seccomp, ENOSYS": (runner([*_SECCOMP, "ENOSYS"]), False, "bpf"),
    "no BTF": (runner(prepared(f"mount -t tmpfs none {_BTF}")), False, "btf"),
    "no /sys": (runner(prepared("mount -t tmpfs none /sys")), False, "btf"),
    "no /proc": (runner(prepared("mount -t tmpfs none /proc")), False, "proc"),
    "no tracefs": (
        runner(prepared("mount -t tmpfs none /sys/kernel/tracing")), True, "tracefs",
    ),
    "no BPF filesystem": (runner(prepared("mount -t tmpfs none /sys/fs/bpf")), True, "bpf"),
    "hidepid": (
        as_nobody(LEAST, "mount -t proc -o hidepid=2 proc /proc"), True, "proc",
    ),
    "no locked memory": (runner(["prlimit", "--memlock=0:0"]), True, "bpf"),
    "cut BTF": (
        runner(
            prepared(
                f"head -c 99999 {_BTF}/vmlinux > /tmp/cut; mount --bind /tmp/cut {_BTF}/vmlinux; "
                "rm /tmp/cut"
            )
        ),
        False,
        "btf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("host", _HOSTS)
def test_it_says_what_hold_times_does(host: str) -> None:
    on_host, works, name = _HOSTS[host]
    done = on_host("hold-times", "--all", "-d", "0.1")
    assert done.code == (0 if works else 1), done.err
    result = on_host("doctor", "--json")
    assert result.code == done.code, result.out
    assert result.json["works"] == works
    telling = check(result, name)
    if works:
        assert result.json["attach"] == "tp_btf"
        assert telling["verdict"] != "fail"
        return
    assert result.json["attach"] is None
    assert result.json["event_cost_ns"] is None
    assert telling["verdict"] == "fail"
    # It fails for the reason that hold-times gives, with the same remedy.
    assert done.err.splitlines()[0] == f"corelock: {telling['found']}"
    assert done.err.splitlines()[1] == f"  {telling['remedy']}"
    title = corelock.Check(name, "fail", "").title
    assert check(result, "attach_tp_btf")["found"] == f"not tried: see {title}"
    text = on_host("doctor")
    assert text.code == 1
    assert text.out.splitlines()[-1].startswith("hold-times does not work here: see ")


def test_library_is_missing() -> None:
    result = run("doctor", "--json", env=environment(CORELOCK_LIBRARY="/nonexistent.so"))
    assert result.code == 1
    library = check(result, "library")
    assert library["found"] == "/nonexistent.so does not exist"
    assert library["remedy"]
    assert check(result, "kernel")["verdict"] == "pass"


def test_what_little_privilege_costs() -> None:
    result = as_user(LEAST, "doctor", "--json")
    assert result.code == 0
    for name in ("tracefs", "kptr_restrict"):
        assert check(result, name)["verdict"] == "warn"
        assert check(result, name)["remedy"]
    tp = check(result, "attach_tp")
    assert tp["verdict"] == "warn"
    assert tp["remedy"].startswith("Not needed while tp_btf works.")
    assert check(as_user(f"{LEAST},+syslog", "doctor", "--json"), "kptr_restrict")["verdict"] == (
        "pass"
    )


def test_hidden_processes() -> None:
    script = "mount -t proc -o hidepid=2 proc /proc"
    proc = check(as_user(LEAST, "doctor", "--json", script=script), "proc")
    assert proc["verdict"] == "warn"
    assert "hidepid=invisible" in proc["found"]
    assert "CAP_SYS_PTRACE" in proc["remedy"]
    seeing = as_user(f"{LEAST},+sys_ptrace", "doctor", "--json", script=script)
    assert check(seeing, "proc")["verdict"] == "pass"
    assert check(seeing, "user_symbols")["verdict"] == "pass"


def test_tracefs_by_capability() -> None:
    """It is root's: the capability to read it all the same is what counts."""
    seeing = as_user(f"{LEAST},+dac_read_search", "doctor", "--json")
    assert check(seeing, "tracefs")["verdict"] == "pass"
    assert check(seeing, "attach_tp")["verdict"] == "pass"
    blind = check(as_user(LEAST, "doctor", "--json"), "tracefs")
    assert blind["found"].endswith(", not readable")


def test_what_is_not_tracefs() -> None:
    hide = "for d in debug tracing; do mount -t tmpfs -o mode=755 none /sys/kernel/$d; done"
    tracefs = check(run("doctor", "--json", prefix=prepared(hide)), "tracefs")
    assert tracefs["verdict"] == "warn"
    assert tracefs["found"] == "/sys/kernel/tracing is tmpfs, not tracefs"


_ALONE = ["unshare", "--pid", "--fork", "--mount-proc"]
_NOBODY = 'exec setpriv --reuid=65534 --clear-groups sh -c "echo ready; exec sleep 60"'
_WITH_NOBODY = [*_ALONE, "bash", "-c", f'read _ < <({_NOBODY}); exec "$@"', "bash"]


def test_nobody_else_runs() -> None:
    """Then it is not known what may be read of others."""
    prefix = [*_ALONE, "setpriv", "--bounding-set=-sys_ptrace"]
    symbols = check(run("doctor", "--json", prefix=prefix), "user_symbols")
    assert symbols["verdict"] == "pass"
    assert "not known" in symbols["found"]
    assert not symbols["remedy"]


@pytest.mark.parametrize(("prefix", "known"), [(_ALONE, False), (_WITH_NOBODY, True)])
def test_user_symbols_without_the_library(prefix: list[str], known: bool) -> None:
    """It is the library that knows the capabilities; root has them all the same."""
    env = environment(CORELOCK_LIBRARY="/nonexistent.so")
    symbols = check(run("doctor", "--json", env=env, prefix=prefix), "user_symbols")
    assert symbols["verdict"] == "pass"
    assert ("not known" in symbols["found"]) != known


def test_proc_of_processes_only() -> None:
    result = run("doctor", "--json", prefix=prepared("mount -t proc -o subset=pid proc /proc"))
    assert result.code == 0
    symbols = check(result, "kptr_restrict")
    assert symbols["verdict"] == "warn"
    assert "there is no /proc/kallsyms" in symbols["found"]
    assert "subset=pid" in symbols["remedy"]


@pytest.mark.parametrize(
    ("mode", "verdict"), [("none", "pass"), ("integrity", "pass"), ("confidentiality", "fail")]
)
def test_lockdown(mode: str, verdict: str) -> None:
    words = "none integrity confidentiality".replace(mode, f"[{mode}]")
    folder = "/sys/kernel/security"
    prefix = prepared(f"mount -t tmpfs none {folder}; echo '{words}' > {folder}/lockdown")
    result = run("doctor", "--json", prefix=prefix)
    assert check(result, "lockdown")["verdict"] == verdict
    assert mode in check(result, "lockdown")["found"]
    assert result.code == (1 if verdict == "fail" else 0)


def test_jit() -> None:
    """It goes by what became of a program: the setting is only root's to read."""
    compiles = Path("/proc/sys/net/core/bpf_jit_enable").read_text().strip() != "0"
    jit = check(as_user(LEAST, "doctor", "--json"), "jit")
    assert jit["verdict"] == ("pass" if compiles else "warn")


def write_btf_of_tracepoint(path: Path, arguments: str) -> None:
    """Valid BTF that has one of the tracepoints, with such arguments, and a helper.

    An argument is p, a pointer; b, a bool; or i, an int.
    """
    names = b"\0int\0btf_trace_mmap_lock_released\0bpf_func_id\0BPF_FUNC_task_pt_regs\0"
    integer, pointer, enum, typedef, prototype = (kind << 24 for kind in (1, 2, 6, 8, 13))
    enum_name, helper_name = names.index(b"bpf_func_id"), names.index(b"BPF_FUNC")
    types = struct.pack("=IIII", 1, integer, 4, 1 << 24 | 32)
    types += struct.pack("=IIII", 1, integer, 1, 4 << 24 | 8)
    types += struct.pack("=III", 0, pointer, 0)
    types += struct.pack("=III", 0, prototype | 1 + len(arguments), 0)
    for letter in "p" + arguments:
        types += struct.pack("=II", 0, "ibp".index(letter) + 1)
    types += struct.pack("=III", 0, pointer, 4)
    types += struct.pack("=III", 5, typedef, 5)
    types += struct.pack("=III", enum_name, enum | 1, 4)
    types += struct.pack("=Ii", helper_name, 175)
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    path.write_bytes(header + types + names)


@pytest.mark.parametrize(("arguments", "layout"), [("pb", "memcg_id"), ("ppb", "memcg_path")])
def test_cost_of_cgroup_paths(tmp_path: Path, arguments: str, layout: str) -> None:
    """By what BTF says of the tracepoints, whatever the kernel's version."""
    write_btf_of_tracepoint(tmp_path / "btf", arguments)
    prefix = prepared(f"mount --bind {tmp_path}/btf {_BTF}/vmlinux")
    result = run("doctor", "--json", prefix=prefix)
    assert result.json["event_layout"] == layout
    assert check(result, "tracepoints")["verdict"] == "pass"
    warned = "cgroup's path" in check(result, "event_cost")["found"]
    assert warned == (layout == "memcg_path")


@pytest.mark.parametrize("arguments", ["pi", "pp", "bp", "pbb", "pib", "p", "ppbppbpp"])
def test_unknown_tracepoints(tmp_path: Path, arguments: str) -> None:
    """As a kernel to come may have them: they would be misread."""
    write_btf_of_tracepoint(tmp_path / "btf", arguments)
    prefix = prepared(f"mount --bind {tmp_path}/btf {_BTF}/vmlinux")
    result = run("doctor", "--json", prefix=prefix)
    assert result.code == 1
    assert result.json["event_layout"] is None
    assert check(result, "tracepoints")["verdict"] == "fail"
    assert "use a newer one" in check(result, "tracepoints")["remedy"]


def test_other_btf() -> None:
    result = run("doctor", "--json", "--btf", f"{_BTF}/vmlinux")
    assert result.code == 0
    assert check(result, "btf")["found"] == f"{_BTF}/vmlinux"
    wrong = run("doctor", "--json", "--btf", "/etc/passwd")
    assert wrong.code == 1
    assert wrong.err == ""
    assert "/etc/passwd" in check(wrong, "btf")["found"]
    assert check(wrong, "capabilities")["verdict"] == "pass"


def test_output_file(tmp_path: Path) -> None:
    path = tmp_path / "doctor.txt"
    assert run("doctor", "-o", path).out == ""
    assert path.read_text().splitlines()[-1].startswith("hold-times works here")


def test_it_ends_quietly_when_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run("doctor", stdout=writer)
    os.close(writer)
    assert (result.code, result.err) == (0, "")
