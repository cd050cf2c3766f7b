"""Hosts that lack something, made of namespaces, mounts and dropped privileges.

Each must be refused with one clear message, or just work.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from corelock._ffi import _generated, library
from tests import cgroups
from tests.cli.command import COMMAND, Result, environment, run
from tests.cli.hosts import LEAST, as_user, prepared
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

_SECCOMP = [sys.executable, str(Path(__file__).with_name("seccomp.py"))]
_BTF = "/sys/kernel/btf"


# --- BTF --------------------------------------------------------------------------------------


def write_btf(path: Path) -> None:
    """A BTF file that is valid and knows one type, int."""
    names = b"\0int\0"
    types = struct.pack("=IIII", 1, 1 << 24, 4, 1 << 24 | 32)
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    path.write_bytes(header + types + names)


def test_no_btf() -> None:
    prefix = prepared(f"mount -t tmpfs none {_BTF}")
    result = run("hold-times", "--pid", os.getpid(), prefix=prefix)
    result.assert_refused("no kernel BTF", f"{_BTF}/vmlinux", "CONFIG_DEBUG_INFO_BTF")


def test_broken_btf(tmp_path: Path) -> None:
    broken = tmp_path / "btf"
    broken.write_bytes(b"not BTF at all")
    prefix = prepared(f"mount --bind {broken} {_BTF}/vmlinux")
    run("hold-times", "--all", prefix=prefix).assert_refused("BTF", f"{_BTF}/vmlinux")


@pytest.mark.parametrize("size", [0, 10, 4096, 1 << 20])
def test_cut_btf(tmp_path: Path, size: int) -> None:
    cut = tmp_path / "btf"
    cut.write_bytes(Path(_BTF, "vmlinux").read_bytes()[:size])
    result = run("hold-times", "--all", prefix=prepared(f"mount --bind {cut} {_BTF}/vmlinux"))
    result.assert_refused(f"cannot use the kernel's BTF in {_BTF}/vmlinux", "whole", "--btf")


def test_btf_that_may_not_be_read() -> None:
    script = f"mount -t tmpfs none {_BTF}; install -m 600 /dev/null {_BTF}/vmlinux"
    result = as_user(LEAST, "hold-times", "--all", "-d", "1", script=script)
    result.assert_refused(f"BTF in {_BTF}/vmlinux", "Permission denied", "readable")


@pytest.mark.parametrize("command", [["hold-times", "--all"], ["blame", "--all"], ["holders"]])
def test_no_sys(command: list[str]) -> None:
    result = run(*command, prefix=prepared("mount -t tmpfs none /sys"))
    result.assert_refused("no kernel BTF", "/sys is not mounted", "mount -t sysfs")


def test_no_tracepoints(tmp_path: Path) -> None:
    write_btf(tmp_path / "btf")
    prefix = prepared(f"mount --bind {tmp_path}/btf {_BTF}/vmlinux")
    result = run("hold-times", "--pid", os.getpid(), prefix=prefix)
    result.assert_refused("no usable mmap_lock tracepoints", "Linux 5.15")


def test_refusal_starts_no_command(tmp_path: Path) -> None:
    started = tmp_path / "started"
    prefix = prepared(f"mount -t tmpfs none {_BTF}")
    result = run("hold-times", "--", "touch", started, prefix=prefix)
    # A command left behind, stopped at its first instruction, keeps the pipes open: it is over.
    result.assert_refused("no kernel BTF")
    assert not started.exists()


def test_no_tracefs() -> None:
    hide = "for d in tracing debug; do [ ! -d /sys/kernel/$d ] || "
    hide += "mount -t tmpfs none /sys/kernel/$d; done"
    result = run("hold-times", "--", "true", prefix=prepared(hide))
    result.assert_table()
    assert len(result.err.splitlines()) == 1


def test_no_bpf_filesystem() -> None:
    hide = "[ ! -d /sys/fs/bpf ] || mount -t tmpfs none /sys/fs/bpf"
    run("hold-times", "--", "true", prefix=prepared(hide)).assert_table()


# --- privileges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        ("-bpf,-perfmon,-sys_admin", "CAP_BPF and CAP_PERFMON"),
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-perfmon,-sys_admin", "CAP_PERFMON"),
    ],
)
def test_root_without_capabilities(dropped: str, missing: str) -> None:
    prefix = ["setpriv", f"--bounding-set={dropped}"]
    result = run("hold-times", "--pid", os.getpid(), prefix=prefix)
    result.assert_refused(f"missing capability: {missing}\n", "CAP_BPF", "CAP_PERFMON", "setcap")


@pytest.mark.parametrize("dropped", ["-sys_admin", "-bpf,-perfmon"])
def test_root_with_enough_capabilities(dropped: str) -> None:
    prefix = ["setpriv", f"--bounding-set={dropped}"]
    result = run("hold-times", "--pid", os.getpid(), "-d", "0.2", prefix=prefix)
    result.assert_table()


def test_missing_capabilities_start_no_command(tmp_path: Path) -> None:
    started = tmp_path / "started"
    prefix = ["setpriv", "--bounding-set=-bpf,-sys_admin"]
    result = run("hold-times", "--", "touch", started, prefix=prefix)
    result.assert_refused("missing capability: CAP_BPF\n")
    assert not started.exists()


def test_user_without_capabilities() -> None:
    as_user("-all", "hold-times", "--all", "-d", "1").assert_refused(
        "missing capability: CAP_BPF and CAP_PERFMON", "root"
    )


@pytest.mark.parametrize(
    "target", [["--all"], ["--pid", str(os.getpid())]], ids=["all", "pid of root"]
)
def test_user_with_capabilities(target: list[str]) -> None:
    as_user("+bpf,+perfmon", "hold-times", *target, "-d", "0.2").assert_table()


def test_user_with_capabilities_and_command() -> None:
    result = as_user("+bpf,+perfmon", "hold-times", "--", "true")
    result.assert_table()
    assert "true[" in result.out


def test_user_without_symbols() -> None:
    """Kernel addresses are hidden from it, and root's maps: stacks stay, as addresses."""
    options = ["--slow-us", "0", "-s", "2", "--json"]
    result = as_user("+bpf,+perfmon", "hold-times", *options, "--", "sh", "-c", ":; /bin/true")
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    assert result.json["slow"]
    for slow in result.json["slow"]:
        assert slow["kernel_stack"]
        assert all(frame["address"] for frame in slow["kernel_stack"])


def test_user_namespace() -> None:
    """The capabilities of a namespace's root are none outside of it."""
    prefix = ["unshare", "--user", "--map-root-user"]
    result = run("hold-times", "--all", prefix=prefix)
    result.assert_refused("not permitted in a user namespace", "on the host")


@pytest.mark.parametrize("command", [["hold-times", "--all"], ["blame", "--all"], ["holders"]])
@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ENOSYS"])
def test_seccomp_forbids_bpf(command: list[str], error: str) -> None:
    result = run(*command, prefix=[*_SECCOMP, error])
    result.assert_refused("a seccomp filter forbids bpf()", "cap_add", "SystemCallFilter")


def locked_down(mode: str) -> list[str]:
    words = "none integrity confidentiality".replace(mode, f"[{mode}]")
    folder = "/sys/kernel/security"
    return prepared(f"mount -t tmpfs none {folder}; echo '{words}' > {folder}/lockdown")


def test_locked_down_kernel() -> None:
    """The lockdown cannot be had here: a filter refuses as the verifier does there."""
    prefix = [*locked_down("confidentiality"), *_SECCOMP, "EINVAL"]
    run("hold-times", "--all", prefix=prefix).assert_refused(
        "/sys/kernel/security/lockdown is [confidentiality]", "lockdown=integrity"
    )


def test_other_lockdowns_do_not_matter() -> None:
    run("hold-times", "--", "true", prefix=locked_down("integrity")).assert_table()


def test_no_locked_memory() -> None:
    result = run("hold-times", "--", "true", prefix=["prlimit", "--memlock=0:0"])
    result.assert_table()


@pytest.mark.parametrize("command", ["hold-times", "blame", "holders"])
def test_no_limit_is_set(command: str) -> None:
    """Who sets one is killed; but for that, nothing is different."""
    sets_one = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0))"
    killed = subprocess.run([*_SECCOMP, "setrlimit", sys.executable, "-c", sets_one])
    assert killed.returncode == -signal.SIGSYS
    options = ["-d", "0.2"] if command != "holders" else []
    result = run(command, "--pid", os.getpid(), *options, prefix=[*_SECCOMP, "setrlimit"])
    assert result.code == 0, result.err


@pytest.mark.parametrize("limit", [5, 12, 20])
def test_few_descriptors(limit: int) -> None:
    """Too few to load: refused; never a traceback or half a table."""
    result = run("hold-times", "--", "true", prefix=["prlimit", f"--nofile={limit}:{limit}"])
    result.assert_refused("Too many open files", "ulimit -n")


_ALL = ["hold-times", "--all", "-d", "0.1"]


@pytest.mark.parametrize(
    "command",
    [_ALL, [*_ALL, "--btf", "/sys/kernel/btf/vmlinux"], ["holders"]],
    ids=["hold-times", "hold-times --btf", "holders"],
)
@pytest.mark.parametrize("limit", [5, 6, 7, 9, 11, 13, 14, 15, 17, 19, 20, 23, 26, *range(28, 37)])
def test_descriptors_that_may_do(limit: int, command: list[str]) -> None:
    """However far they reach: it works as with many, or says that they are too few."""
    prefix = ["prlimit", f"--nofile={limit}:{limit}"]
    result = run(*command, "-q", "--json", prefix=prefix)
    if result.code:
        result.assert_refused("Too many open files", "ulimit -n")
        # Another way to attach would not help.
        assert "_record" not in result.err
    elif command != ["holders"]:
        assert result.json["accounting"]["attached_by"] == "tp_btf"
    else:
        assert result.json["schema"]


# --- namespaces -------------------------------------------------------------------------------


def test_other_pid_namespace() -> None:
    """Here it works; how, tests/kernel/test_pid_namespaces.py shows."""
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    run("hold-times", "--pid", "1", "-d", "0.2", prefix=prefix).assert_table()


@pytest.mark.parametrize(
    "arguments",
    [
        ["hold-times", "--pid", "1", "-d", "1"],
        ["hold-times", "--comm", "nobody", "-d", "1"],
        ["hold-times", "--all", "-d", "1"],
        ["holders"],
    ],
    ids=["pid", "comm", "all", "holders"],
)
def test_other_pid_namespace_with_the_hosts_proc(arguments: list[str]) -> None:
    result = run(*arguments, prefix=["unshare", "--pid", "--fork"])
    result.assert_refused("/proc is that of another pid namespace", "--mount-proc", "nsenter")


def test_other_pid_namespace_with_the_hosts_proc_starts_no_command(tmp_path: Path) -> None:
    started = tmp_path / "started"
    prefix = ["unshare", "--pid", "--fork"]
    result = run("hold-times", "--", "touch", started, prefix=prefix)
    result.assert_refused("/proc is that of another pid namespace")
    assert not started.exists()


@pytest.mark.parametrize("namespace", ["net", "uts", "ipc", "cgroup"])
def test_other_namespaces_do_not_matter(namespace: str) -> None:
    result = run("hold-times", "--", "true", prefix=["unshare", f"--{namespace}"])
    result.assert_table()


# --- /proc -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["hold-times", "blame", "holders"])
@pytest.mark.parametrize(
    ("value", "name"), [("1", "noaccess"), ("2", "invisible"), ("4", "ptraceable")]
)
def test_hidden_process(command: str, value: str, name: str) -> None:
    script = f"mount -t proc -o hidepid={value} proc /proc"
    result = as_user(LEAST, command, "--pid", os.getpid(), script=script)
    result.assert_refused(
        f"{os.getpid()} exists, but /proc hides it", f"hidepid={name}", "CAP_SYS_PTRACE"
    )


def test_hidden_thread() -> None:
    script = "mount -t proc -o hidepid=2 proc /proc"
    result = as_user(LEAST, "hold-times", "--tid", os.getpid(), script=script)
    result.assert_refused("/proc hides it", "hidepid=invisible", "CAP_SYS_PTRACE")


@pytest.mark.parametrize("value", ["1", "2", "4"])
def test_hidden_process_can_be_seen_with_the_remedy(value: str) -> None:
    script = f"mount -t proc -o hidepid={value} proc /proc"
    arguments = ["hold-times", "--pid", os.getpid(), "-d", "0.2"]
    as_user(f"{LEAST},+sys_ptrace", *arguments, script=script).assert_table()


def test_nobody_is_not_a_hidden_process() -> None:
    script = "mount -t proc -o hidepid=2 proc /proc"
    gone = subprocess.Popen(["true"])
    gone.wait()
    result = as_user(LEAST, "hold-times", "--pid", gone.pid, script=script)
    result.assert_refused(f"no process or thread has the id {gone.pid}")


def test_everything_can_be_traced_where_processes_are_hidden() -> None:
    script = "mount -t proc -o hidepid=2 proc /proc"
    as_user(LEAST, "hold-times", "--all", "-d", "0.2", script=script).assert_table()


@pytest.mark.parametrize(
    "use",
    [
        ["hold-times", "--all"],
        ["hold-times", "--all", "--max-rows", "1000"],
        ["hold-times", "--cgroup", "{root}"],
        ["blame", "--all"],
    ],
    ids=" ".join,
)
def test_proc_of_processes_only(use: list[str]) -> None:
    """As systemd's ProcSubset=pid has it; what is missing is said once, in words."""
    prefix = prepared("mount -t proc -o subset=pid proc /proc")
    with cgroups.hierarchy() as root, Workload("storm", "2", "10000000") as storm:
        storm.go()
        arguments = [word.format(root=root) for word in use]
        if use[0] == "hold-times":
            arguments += ["--slow-us", "0"]
        result = run(*arguments, "-d", "0.3", "-s", "1", prefix=prefix)
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    assert "Errno" not in result.err
    assert result.err.count("there is no /proc/kallsyms: mount /proc without subset=pid") == 1


# --- the library ------------------------------------------------------------------------------


def _with_library(path: Path) -> Result:
    return run("hold-times", "--all", env=environment(CORELOCK_LIBRARY=str(path)))


def _own_library() -> Path:
    import corelock

    return Path(corelock.__file__).with_name("libcorelock.so")


def test_library_missing(tmp_path: Path) -> None:
    path = tmp_path / "libcorelock.so"
    _with_library(path).assert_refused(f"{path} does not exist", "make")


def test_library_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "libcorelock.so"
    path.write_text("text\n")
    _with_library(path).assert_refused(f"cannot open {path}")


def test_library_that_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "libcorelock.so"
    path.touch()
    _with_library(path).assert_refused(f"cannot open {path}: file too short")


def test_library_that_is_a_folder(tmp_path: Path) -> None:
    _with_library(tmp_path).assert_refused(f"cannot open {tmp_path}: Is a directory")


@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
def test_library_that_is_cut(tmp_path: Path, part: float) -> None:
    path = tmp_path / "libcorelock.so"
    content = _own_library().read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    _with_library(path).assert_refused(f"{path} is cut short", "make")


def test_library_for_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "libcorelock.so"
    other = "x86_64" if platform.machine() == "aarch64" else "aarch64"
    compiler = shutil.which(f"{other}-linux-gnu-gcc")
    if compiler is None:
        pytest.skip(f"no compiler for {other}")
    command = [compiler, "-shared", "-nostdlib", "-xc", "-", "-o", path]
    subprocess.run(command, input=b"int here;", check=True)
    _with_library(path).assert_refused(f"{path} is for {other} machines, and this", "make")


def test_library_is_another() -> None:
    name = ctypes.util.find_library("z") or ctypes.util.find_library("c")
    assert name
    result = run("hold-times", "--all", env=environment(CORELOCK_LIBRARY=name))
    result.assert_refused(name)


def test_library_that_is_another_by_path() -> None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    libc = next(line.split()[-1] for line in lines if "/libc." in line or "/libc-" in line)
    _with_library(Path(libc)).assert_refused(f"{libc} is not libcorelock", "CORELOCK_LIBRARY")


def _library_elsewhere(folder: Path) -> Path:
    """A copy of the library, with what a wheel has beside the package for it."""
    beside = _own_library().parents[1] / "corelock.libs"
    if beside.exists():
        shutil.copytree(beside, folder / "corelock.libs")
    (folder / "corelock").mkdir()
    return Path(shutil.copy(_own_library(), folder / "corelock"))


def test_library_of_another_version(tmp_path: Path) -> None:
    path = _library_elsewhere(tmp_path)
    fingerprint = struct.pack("=Q", _generated.FINGERPRINT)
    content = _own_library().read_bytes()
    assert content.count(fingerprint) == 1
    path.write_bytes(content.replace(fingerprint, struct.pack("=Q", 0xC0FFEE)))
    _with_library(path).assert_refused(
        f"{path} does not match", "0000000000c0ffee", f"{_generated.FINGERPRINT:016x}", "make"
    )


def test_library_copied_elsewhere_works(tmp_path: Path) -> None:
    path = _library_elsewhere(tmp_path)
    run("hold-times", "--", "true", env=environment(CORELOCK_LIBRARY=str(path))).assert_table()


def test_own_library_matches() -> None:
    _, lib = library()
    assert lib.corelock_handshake().fingerprint == _generated.FINGERPRINT


def test_not_linux() -> None:
    code = "import sys; sys.platform = 'darwin'; from corelock.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code, "hold-times", "--pid", str(os.getpid())],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    Result(process.returncode, process.stdout, process.stderr).assert_refused(
        "this is darwin", "Linux"
    )


@pytest.mark.parametrize("target", [["--pid", "1"], ["--all"]], ids=["pid", "all"])
def test_without_proc(target: list[str]) -> None:
    """A chroot without /proc: no target can be looked at."""
    prefix = prepared("mount -t tmpfs none /proc")
    run("hold-times", *target, "-d", "1", prefix=prefix).assert_refused()


def test_nothing_of_this_needs_the_checkout_as_working_folder(tmp_path: Path) -> None:
    assert Path(COMMAND).is_absolute()
    run("hold-times", "--", "true", cwd=tmp_path).assert_table()
