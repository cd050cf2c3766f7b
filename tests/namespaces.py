"""Pid namespaces within each other, to run programs in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Optional

from tests.cli.command import Corelock
from tests.workloads import BUILD, Workload

_UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit', "sh"]


def child_of(pid: int) -> int:
    """The one child of a process."""
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


class PidNamespaces:
    """As many pid namespaces as ``levels``, each with its /proc, within our own, which is level 0.

    Their end is the end of all that runs in them.
    """

    def __init__(self, levels: int) -> None:
        self._command = [*_UNSHARE * levels, "sh", "-c", "echo ready; read _"]
        self._levels = levels
        self._init = {0: os.getpid()}

    def __enter__(self) -> PidNamespaces:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        unshare = self._process.pid
        for level in range(1, self._levels + 1):
            self._init[level] = child_of(unshare)
            unshare = child_of(self._init[level])
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        # Closes its input, which ends it.
        self._process.communicate()

    def inside(self, level: int) -> list[str]:
        """What runs a command in the namespace of that level."""
        if not level:
            return []
        return ["nsenter", "--target", str(self._init[level]), "--pid", "--mount", "--"]

    def workload(self, level: int, name: str, *arguments: object) -> Workload:
        """A workload there, whose numbers are those of that level."""
        return Workload(name, command=[*self.inside(level), BUILD / name, *arguments])

    def host_ids(self, level: int, seen_from: int) -> dict[int, int]:
        """Our ids of the threads of a level's namespace, by those that ``seen_from`` has."""
        namespace = os.readlink(f"/proc/{self._init[level]}/ns/pid")
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns" / "pid") != namespace:
                    continue
                for task in (process / "task").iterdir():
                    status = (task / "status").read_text()
                    ids = status.partition("NSpid:")[2].partition("\n")[0].split()
                    found[int(ids[seen_from])] = int(ids[0])
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


def interrupt_inside(corelock: Corelock) -> None:
    """Ctrl-C for a corelock that nsenter runs."""
    os.kill(child_of(corelock.pid), 2)
