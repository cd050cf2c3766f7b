"""Cgroups of version 2 for tests, made below the root and removed again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cli.command import eventually


def _mounted() -> list[Path]:
    """Where the hierarchy can be seen whole."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, what = line.partition(" - ")
        if what.startswith("cgroup2 ") and place.split()[3] == "/":
            found.append(Path(place.split()[4]))
    return found


@contextmanager
def hierarchy() -> Iterator[Path]:
    """The root of the hierarchy, mounted for the time where it is not."""
    with ExitStack() as stack:
        mounted = _mounted()
        if not mounted:
            folder = stack.enter_context(TemporaryDirectory())
            subprocess.run(["mount", "-t", "cgroup2", "none", folder], check=True)
            stack.callback(subprocess.run, ["umount", folder], check=True)
            mounted = [Path(folder)]
        yield mounted[0]


@contextmanager
def cgroup(*, below: str = "") -> Iterator[Path]:
    """A new cgroup, and ``below`` it others; processes in them go back to the root at the end."""
    with hierarchy() as root:
        top = root / f"corelock-test-{os.getpid()}"
        (top / below).mkdir(parents=True)
        try:
            yield top
        finally:
            for folder, _, _ in os.walk(top, topdown=False):
                remove(Path(folder), root)


def remove(folder: Path, refuge: Path) -> None:
    """Remove a cgroup that has none below it; its processes go to ``refuge``."""

    def removed() -> bool:
        for pid in pids(folder):
            try:
                move(pid, refuge)
            except ProcessLookupError:  # it has just exited
                continue
        try:
            folder.rmdir()
        except OSError:  # a process that exits is still in it for a moment
            return False
        return True

    eventually(removed)


def pids(folder: Path) -> list[int]:
    """The processes that are in a cgroup itself."""
    return list(map(int, (folder / "cgroup.procs").read_text().split()))


def move(pid: int, folder: Path) -> None:
    """Move a process into a cgroup."""
    (folder / "cgroup.procs").write_text(f"{pid}\n")
