"""The portable file: what is in it, what it needs, what it leaves behind, and that it works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import corelock
from tests.cli.command import Corelock, Result, environment, run
from tests.packaging.artifacts import (
    ARCH,
    FLOOR,
    PORTABLE,
    ROOT,
    assert_reproducible,
    needed,
    newest_glibc,
)
from tests.workloads import Workload

GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libutil.so.1"}
LINKER = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}[ARCH]
USERLAND = Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "corelock-build", "userland"
)


@pytest.fixture(autouse=True)
def _the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of these tests is the file."""
    assert PORTABLE.exists(), f"{PORTABLE} is not built: run make distcheck"
    monkeypatch.setattr("tests.cli.command.COMMAND", str(PORTABLE))


def bare(*command: object, **options: object) -> Result:
    """Run a command with an empty environment."""
    process = subprocess.run(
        ["env", "-i", *map(str, command)], capture_output=True, text=True, timeout=60, **options
    )  # type: ignore[call-overload]
    return Result(process.returncode, process.stdout, process.stderr)


# --- the file itself --------------------------------------------------------------------------


def test_size() -> None:
    assert PORTABLE.stat().st_size <= 40 << 20


def test_needs_only_glibc() -> None:
    assert needed(PORTABLE) <= {*GLIBC, LINKER}
    assert newest_glibc(PORTABLE) <= FLOOR


def test_version_is_said_at_once() -> None:
    """Under 0.5 s, once its pages are in memory.

    Of many runs the shortest counts: what else the machine does adds to a run and never
    takes off, and a start that is too slow is so in every one of them.
    """
    times_s = []
    for _ in range(20):
        start_s = time.monotonic()
        assert run("--version").code == 0
        times_s.append(time.monotonic() - start_s)
    assert min(times_s) < 0.5


def test_names_no_path_of_the_build() -> None:
    content = PORTABLE.read_bytes()
    for path in (ROOT, USERLAND, Path.home() / ".cache"):
        assert os.fsencode(path) not in content


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    assert_reproducible("portable", f"corelock-{ARCH}", tmp_path)


def test_licences_are_inside() -> None:
    with zipfile.ZipFile(PORTABLE) as archive:
        for path in (ROOT / "LICENSES").iterdir():
            assert archive.read(f"licenses/{path.name}") == path.read_bytes()
        text = archive.read("licenses/parts") + archive.read("licenses/python-packages")
    for word in (
        b"elfutils",
        b"libbpf",
        b"PYTHON SOFTWARE FOUNDATION",
        b"nanobind",
        b"LESSER GENERAL",
        b"LLVM Exceptions to the Apache 2.0 License",
        b"Runtime Library Exception to the Apache 2.0 License",
    ):
        assert word in text


def test_every_module_of_the_package_is_inside() -> None:
    with zipfile.ZipFile(PORTABLE) as archive:
        inside = set(archive.namelist())
    sources = [path.relative_to(ROOT) for path in (ROOT / "corelock").rglob("*.py")]
    assert len(sources) > 30
    assert {f"{path}c" for path in sources} <= inside
    # Scripts of the packages are not for import, and name the folder they were installed in.
    assert not [name for name in inside if name.startswith("bin/")]


# --- where it runs ----------------------------------------------------------------------------


def test_empty_environment() -> None:
    result = bare(PORTABLE, "--version", cwd="/")
    assert re.fullmatch(r"corelock \d+\.\d+\.\d+\n", result.out), result.err


def test_what_is_said_to_python_is_not_for_it(tmp_path: Path) -> None:
    for name in ("click.py", "corelock.py", "sitecustomize.py", "encodings.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    more = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "PYTHONSTARTUP": "x"}
    assert run("--version", env=environment(**more), cwd=tmp_path).code == 0


#: Runs a command as nobody, without capabilities.
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")


@pytest.fixture()
def reachable() -> Iterator[Path]:
    """A copy of the file that any user gets to."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(shutil.copy(PORTABLE, folder))


def test_any_user(reachable: Path) -> None:
    assert bare(*AS_NOBODY, reachable, "--version", cwd="/").code == 0
    refused = bare(*AS_NOBODY, reachable, "hold-times", "--pid", os.getpid(), cwd="/")
    refused.assert_refused("CAP_BPF")


@pytest.mark.kernel
def test_capabilities_of_the_file(reachable: Path) -> None:
    """What setcap gives it is enough, and glibc's secure mode no obstacle."""
    subprocess.run(["setcap", "cap_bpf,cap_perfmon+ep", reachable], check=True)
    drop = [option for option in AS_NOBODY if "bounding" not in option]
    bare(*drop, reachable, "hold-times", "--all", "-d", "0.1", cwd="/").assert_table()


def test_executable_but_not_readable(reachable: Path) -> None:
    """Enough for the kernel, not for a program that reads itself."""
    reachable.chmod(0o111)
    result = bare(*AS_NOBODY, reachable, "--version", cwd="/")
    result.assert_refused("/proc/self/exe", "readable")


def test_no_proc() -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh"]
    bare(*hidden, PORTABLE, "--version").assert_refused("/proc", "mount -t proc")


def test_a_file_cut_short(tmp_path: Path) -> None:
    program = tmp_path / "corelock"
    program.write_bytes(PORTABLE.read_bytes()[:-100000])
    program.chmod(0o755)
    bare(program, "--version").assert_refused("cannot start", "copy it again")


def test_another_library_is_refused() -> None:
    other = environment(CORELOCK_LIBRARY="/tmp/libother.so")
    run("hold-times", "--", "true", env=other).assert_refused("CORELOCK_LIBRARY", "Unset")


def test_the_other_machine() -> None:
    """As far as an emulator of its instructions goes: it has no BPF (tests/vm has)."""
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[ARCH]
    program = PORTABLE.with_name(f"corelock-{other}")
    if not program.exists():
        pytest.skip(f"{program} is not built (make portable ARCH={other})")
    assert program.stat().st_size <= 40 << 20
    assert newest_glibc(program) <= FLOOR
    emulated = [f"qemu-{other}", "-L", f"/usr/{other}-linux-gnu", program]
    assert bare(*emulated, "--version").out.startswith("corelock ")
    assert "--pid" in bare(*emulated, "hold-times", "--help").out


@pytest.fixture()
def old_root(tmp_path: Path) -> Path:
    """A root directory with the file, busybox and glibc of the floor, and nothing else."""
    root = tmp_path / "root"
    for folder in ("bin", "lib64", "lib", "proc", "sys"):
        (root / folder).mkdir(parents=True)
    where = {"x86_64": "lib64", "aarch64": "lib"}[ARCH]
    libraries = USERLAND / "lib" / f"{ARCH}-linux-gnu"
    for name in {*GLIBC, LINKER}:
        shutil.copy(libraries / name, root / "lib" / name)
    if where != "lib":
        shutil.copy(libraries / LINKER, root / where / LINKER)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    shutil.copy(PORTABLE, root / "bin" / "corelock")
    return root


def in_old_root(root: Path, *command: object) -> Result:
    """Run a command in that root, on a read-only mount."""
    prepare = (
        f"set -e; mount --bind {root} {root}; mount -t proc proc {root}/proc; "
        f"mount --rbind /sys {root}/sys; mount -o remount,bind,ro {root}; "
        f'exec chroot {root} "$@"'
    )
    return bare("unshare", "--mount", "sh", "-c", prepare, "sh", *command)


@pytest.mark.kernel
def test_busybox_and_the_oldest_glibc(old_root: Path) -> None:
    assert in_old_root(old_root, "/bin/corelock", "--version").code == 0
    result = in_old_root(old_root, "/bin/corelock", "hold-times", "--", "/bin/busybox", "true")
    result.assert_table()
    with Workload("storm", "2", "100") as storm:
        arguments = ["holders", "--pid", storm.pid, "--json"]
        assert in_old_root(old_root, "/bin/corelock", *arguments).code == 0


# --- what it does -----------------------------------------------------------------------------

CPLUSPLUS = """
#include <sys/mman.h>
namespace outer { template<class T> struct Box { __attribute__((noinline)) static void fill(T) {
    void *page = mmap(0, 1 << 21, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    munmap(page, 1 << 21);
} }; }
int main() { for (int i = 0; i < 50; i++) outer::Box<int>::fill(i); }
"""


@pytest.mark.kernel
def test_counts_are_exact() -> None:
    threads, rounds = 4, 500
    with Workload("storm", str(threads), str(rounds)) as storm:
        with Corelock("hold-times", "--pid", storm.pid, "--json") as corelock:
            corelock.wait_attached()
            storm.run()
            corelock.interrupt()
            report = corelock.finish().json
    writes = [row for row in report["rows"] if row["mode"] == "write"]
    for operation in ("mmap", "munmap", "mprotect"):
        counts = [row["acquisitions"] for row in writes if row["operation"] == operation]
        assert counts == [rounds] * threads


@pytest.mark.kernel
def test_records_for_a_report_elsewhere(tmp_path: Path) -> None:
    """What makes reports is not in the file, and it says where to make them."""
    path = tmp_path / "a.corelock"
    with (
        Workload("storm", "2", "500") as storm,
        Corelock("record", "-o", path, "--pid", storm.pid) as recorder,
    ):
        recorder.wait_attached()
        storm.run()
        recorder.interrupt()
        assert recorder.finish().code == 0
        storm.finish()
    with corelock.open_recording(path) as recording:
        assert recording.footer is not None
        assert sum(map(len, recording)) == recording.footer["cycles"]["written"] >= 4000
    result = run("report", path)
    result.assert_refused("numpy", "somewhere else: pip install 'corelock[report]'")


def test_functions_of_cplusplus(tmp_path: Path) -> None:
    program = tmp_path / "boxes"
    subprocess.run(
        ["c++", "-O0", "-xc++", "-", "-o", program], input=CPLUSPLUS, text=True, check=True
    )
    result = run("hold-times", "-s", "3", "--slow-us", "1", "--", program)
    result.assert_table()
    assert "outer::Box<int>::fill(int)" in result.out


# --- what it leaves behind --------------------------------------------------------------------


@pytest.mark.kernel
def test_interrupted_while_it_starts() -> None:
    """Ctrl-C at whatever moment: it ends without a word."""
    for at_ms in range(0, 100, 5):
        process = subprocess.Popen(
            [str(PORTABLE), "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(at_ms / 1000)  # there is no sign of its own that it is so far
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert said == "", f"at {at_ms} ms: {said}"
        assert process.returncode in (0, 130, -signal.SIGINT)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, end: signal.Signals) -> None:
    """In none of the folders where programs unpack themselves, each empty at the start."""
    temporary = ["/tmp", "/var/tmp", "/dev/shm", "/run"]
    script = f"mount --bind {tmp_path} /mnt"
    for number, folder in enumerate(temporary):
        (tmp_path / str(number)).mkdir()
        script += f"; mount --bind /mnt/{number} {folder}"
    for name in ("home", "cwd"):
        (tmp_path / name).mkdir()
    shutil.copy(PORTABLE, tmp_path / "corelock")
    script += '; cd /mnt/cwd; exec env HOME=/mnt/home TMPDIR=/tmp /mnt/corelock "$@"'

    with Workload("storm", "2", "100") as storm:
        prefix = ["unshare", "--mount", "sh", "-c", f"set -e; {script}"]
        with Corelock("hold-times", "--pid", storm.pid, prefix=prefix) as corelock:
            # The command's own name is the script's $0.
            corelock.wait_attached()
            storm.run()
            corelock.process.send_signal(end)
            assert corelock.finish().code == (0 if end == signal.SIGINT else -end)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    # What it has read of programs is kept in the user's cache, as always (docs/symbols.md).
    assert {path for path in left if not path.startswith("home/.cache/corelock/")} == {"corelock"}
