"""Hosts that lack something, made of namespaces, mounts and dropped privileges.

Each must be refused with one clear message, or just work.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from corelock._ffi import _generated, library
from tests.cli.command import COMMAND, Result, environment, run

pytestmark = pytest.mark.kernel

_ROOT = Path(__file__).resolve().parent.parent.parent
_NOBODY = "65534"
_BTF = "/sys/kernel/btf"


def prepared(script: str) -> list[str]:
    """A prefix that runs a command in a mount namespace prepared by a shell script."""
    return ["unshare", "--mount", "sh", "-c", f'set -e; {script}; exec "$@"', "sh"]


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


def test_no_tracepoints(tmp_path: Path) -> None:
    write_btf(tmp_path / "btf")
    prefix = prepared(f"mount --bind {tmp_path}/btf {_BTF}/vmlinux")
    result = run("hold-times", "--pid", os.getpid(), prefix=prefix)
    result.assert_refused("no usable mmap_lock tracepoints", "Linux 5.11")


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


def reach_python() -> str:
    """A script that shows nobody this Python where it is, below a folder closed to them or not."""
    base = Path(sys.base_prefix)
    closed = [folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001]
    if not closed:
        return ":"
    return (
        f"mount --bind {base} /media; mount -t tmpfs -o mode=755 none {closed[0]}; "
        f"mkdir -p {base}; mount --bind /media {base}"
    )


def as_user(capabilities: str, *arguments: object) -> Result:
    """Run the command as nobody with ``+a,+b`` capabilities only.

    The checkout is shown at /mnt, for nobody may enter its folder or not.
    """
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    drop += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    python = sys.executable
    if python.startswith(f"{_ROOT}/"):
        python = f"/mnt{python[len(str(_ROOT)) :]}"
    code = "from corelock.cli import main; main()"
    prepare = f"mount --bind {_ROOT} /mnt; {reach_python()}"
    process = subprocess.run(
        [*prepared(prepare), *drop, python, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH="/mnt", HOME="/nonexistent"),
        timeout=60,
        cwd="/",
    )
    return Result(process.returncode, process.stdout, process.stderr)


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
    result.assert_refused("not permitted")


def test_no_locked_memory() -> None:
    result = run("hold-times", "--", "true", prefix=["prlimit", "--memlock=0:0"])
    result.assert_table()


def test_few_descriptors() -> None:
    """Too few to load: refused; never a traceback or half a table."""
    result = run("hold-times", "--", "true", prefix=["prlimit", "--nofile=12:12"])
    if result.code == 0:
        result.assert_table()
    else:
        result.assert_refused()


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
