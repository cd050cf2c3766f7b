"""One guest: what is in it, its boot in emulation, and what it sends back.

Its console goes into a file of its own, its results through a second serial port:
lines of JSON, which the kernel's messages cannot tear.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from tests.vm.archive import ArchiveError, Package, Suite

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "vm"

#: The floor of the C library: what the portable file must run with.
_LIBC_SUITE = "bullseye"

#: All checks of a guest together; they take a minute or two where nothing else runs.
TIMEOUT_S = 900.0
_MEMORY_MIB = 1024
#: An instruction is a nanosecond: a busy host makes a guest slow, and no time in it longer.
_CLOCK = ("-icount", "shift=0,sleep=off")
_END_OF_CONSOLE_LINES = 60
_CONSOLE, _RESULTS, _FACTS = "console.log", "results", "boot.json"


class Machine(NamedTuple):
    """How an architecture is emulated, and what it calls things."""

    name: str
    qemu: tuple[str, ...]
    console: str
    results: str
    libraries: str


MACHINES = {
    "amd64": Machine(
        "x86_64",
        # Not "max": with it, QEMU 7.2 was seen to put garbage in the flags of a 6.12 kernel.
        # Without rdrand, the first program that wants random numbers waits for seconds.
        ("qemu-system-x86_64", "-cpu", "Nehalem,+rdrand", "-vga", "none"),
        "ttyS0",
        "ttyS1",
        "x86_64-linux-gnu",
    ),
    "arm64": Machine(
        "aarch64",
        ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"),
        "ttyAMA0",
        "ttyS0",
        "aarch64-linux-gnu",
    ),
}


@dataclass(frozen=True)
class Kernel:
    """One entry of kernels.toml."""

    name: str
    suite: str
    series: Optional[str] = None
    architecture: str = "amd64"
    flavour: str = "cloud"
    cpus: int = 2
    drops: bool = False
    refused: Optional[dict[str, str]] = None

    def found(self) -> tuple[Suite, Package]:
        """The newest of the series that the suites have, and the one that has it.

        Raises:
            ArchiveError: none has any.
        """
        series = r"\d+\.\d+" if self.series is None else re.escape(self.series)
        found = []
        for suite in (Suite(name, self.architecture) for name in self.suite.split()):
            # From 7.0 on linux-image has no kernel in it.
            for kind in "linux-binary", "linux-image":
                package = suite.newest(
                    rf"{kind}-{series}\.[^-]+(-\d+)?-{self.flavour}-{self.architecture}"
                )
                if package is not None:
                    found.append((suite, package))
                    break
        if not found:
            what = f"{self.flavour} kernel {self.series or ''}".strip()
            raise ArchiveError(
                f"{self.name} of kernels.toml has gone from the archive: no {what} for "
                f"{self.architecture} in {self.suite}"
            )
        return max(found, key=lambda pair: pair[1].numbers)


@dataclass(frozen=True, eq=False)
class Check:
    """What one check in the guest came to. ``code`` is of the guest's own doing, not corelock's."""

    code: int
    files: dict[str, bytes]

    def text(self, name: str) -> str:
        """A file that it left; "" when there is none."""
        return self.files.get(name, b"").decode(errors="replace")

    @property
    def exit(self) -> Optional[int]:
        """What corelock exited with; None: it was not run to its end."""
        text = self.text("exit").strip()
        return int(text) if text else None


class Boot(NamedTuple):
    """What became of a guest."""

    package: Package
    suite: str
    release: str
    seconds: float
    checks: dict[str, Check]
    #: None: it ran to its end. Else what went wrong, with the end of the console.
    failure: Optional[str]


def boot(kernel: Kernel, checks: Sequence[str], timeout_s: float = TIMEOUT_S) -> Boot:
    """Boot a kernel and let it run the checks.

    Raises:
        ArchiveError: the kernel, or what else is in the guest, cannot be had.
        FileNotFoundError: the portable file was not made.
    """
    machine = MACHINES[kernel.architecture]
    suite, package = kernel.found()
    files = suite.unpacked(package)
    place = BUILD / kernel.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    initrd = place / "initrd"
    _make_initrd(initrd, kernel.architecture, files, checks)
    console, results = place / _CONSOLE, place / _RESULTS
    command = [
        *machine.qemu, *_CLOCK, "-accel", "tcg", "-smp", str(kernel.cpus), "-m", str(_MEMORY_MIB),
        "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
        "-serial", f"file:{console}",
        *_results_port(kernel.architecture, results),
        "-kernel", str(_vmlinuz(files)), "-initrd", str(initrd),
        "-append", f"console={machine.console} panic=-1 loglevel=5 "
        f"RESULTS=/dev/{machine.results}",
    ]  # fmt: skip
    since_s = time.monotonic()
    failure = _run(command, timeout_s)
    seconds = time.monotonic() - since_s
    initrd.unlink()
    facts = {"package": package, "suite": suite.name, "seconds": seconds, "failure": failure}
    (place / _FACTS).write_text(json.dumps(facts))
    return boot_again(kernel)


def boot_again(kernel: Kernel) -> Boot:
    """What became of the guest when it was booted last, from the files that it left.

    Raises:
        FileNotFoundError: it never was.
    """
    place = BUILD / kernel.name
    facts = json.loads((place / _FACTS).read_text())
    failure = facts["failure"]
    release, done, ended = _parse(place / _RESULTS)
    if failure is None and not ended:
        failure = "it went down before all checks were through"
    if failure is not None:
        console = place / _CONSOLE
        failure = f"{failure}; the end of its console ({console}):\n{_end_of(console)}"
    package = Package(*facts["package"])
    return Boot(package, facts["suite"], release, facts["seconds"], done, failure)


def _results_port(architecture: str, results: Path) -> list[str]:
    if architecture == "amd64":
        return ["-serial", f"file:{results}"]
    # This machine has one port of its own.
    return ["-chardev", f"file,id=results,path={results}", "-device", "pci-serial,chardev=results"]


def _run(command: list[str], timeout_s: float) -> Optional[str]:
    """Why the emulator did not end well, or None."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it was still running after {timeout_s:g} s"
    if done.returncode != 0:
        return f"{command[0]} exited with {done.returncode}: {done.stderr.strip()}"
    return None


def _end_of(console: Path) -> str:
    if not console.exists():
        return "(nothing)"
    lines = console.read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines[-_END_OF_CONSOLE_LINES:] if line.strip())


def _parse(results: Path) -> tuple[str, dict[str, Check], bool]:
    """The kernel's release, the checks that were done, and whether that was all."""
    release, checks, ended = "", {}, False
    text = results.read_text(errors="replace") if results.exists() else ""
    for line in text.splitlines():
        try:
            verdict = json.loads(line)
            packed = base64.b64decode(verdict.get("files", ""))
            files = _unpacked(packed) if packed else {}
        except (ValueError, binascii.Error, tarfile.TarError, EOFError, OSError):
            # The guest went down in the middle of this line.
            continue
        if verdict["check"] == "boot":
            release = verdict["release"]
        elif verdict["check"] == "end":
            ended = True
        else:
            checks[verdict["check"]] = Check(verdict["exit"], files)
    return release, checks, ended


def _unpacked(packed: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                files[member.name.partition("/")[2]] = content.read()
    return files


# --- what is in it ----------------------------------------------------------------------------


def _vmlinuz(files: Path) -> Path:
    found = [*files.glob("boot/vmlinuz-*"), *files.glob("usr/lib/modules/*/vmlinuz")]
    if len(found) != 1:
        raise ArchiveError(f"{files.name} has {len(found)} kernels in it, not one")
    return found[0]


def _make_initrd(
    initrd: Path, architecture: str, kernel_files: Path, checks: Sequence[str]
) -> None:
    """busybox, the C library of the floor, the portable file, and the programs of the checks."""
    machine = MACHINES[architecture]
    tree = initrd.with_name("tree")
    portable = ROOT / "dist" / f"corelock-{machine.name}"
    if not portable.exists():
        raise FileNotFoundError(f"{portable} is not there: make portable ARCH={machine.name}")
    suite = Suite(_LIBC_SUITE, architecture)
    libc, busybox = (suite.unpacked(suite.named(name)) for name in ("libc6", "busybox-static"))
    shutil.copytree(libc / "lib", tree / "lib", symlinks=True)
    if (libc / "lib64").exists():
        shutil.copytree(libc / "lib64", tree / "lib64", symlinks=True)
    shutil.copytree(ROOT / "tests" / "vm" / "guest", tree / "guest")
    # The kernel takes 32 arguments for init, and there are more checks.
    (tree / "guest" / "wanted").write_text("".join(f"{check}\n" for check in checks))
    shutil.copytree(BUILD / machine.name, tree / "programs")
    (tree / "bin").mkdir()
    (tree / "modules").mkdir()
    shutil.copy(busybox / "bin" / "busybox", tree / "bin")
    shutil.copy(portable, tree / "bin" / "corelock")
    shutil.move(str(tree / "guest" / "init"), tree / "init")
    # Where FUSE is not a module it is in the kernel.
    for module in kernel_files.glob("**/kernel/fs/fuse/fuse.ko"):
        shutil.copy(module, tree / "modules")
    with initrd.open("wb") as out:
        subprocess.run(
            "find . | sort | cpio --quiet --create --format=newc --owner=+0:+0",
            shell=True, cwd=tree, stdout=out, check=True,
        )  # fmt: skip
    shutil.rmtree(tree)
