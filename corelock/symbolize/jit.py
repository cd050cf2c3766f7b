"""Perf maps of processes: where they are, and whose they must be."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Optional, Union

from corelock.symbolize.counts import Counts
from corelock.symbolize.files import why
from corelock.symbolize.modules import keep
from corelock.symbolize.patience import Patience, TimedOut
from corelock.symbolize.perfmap import PerfMap
from corelock.symbolize.process import Process

_MAPS = 64
_TIMEOUT_S = 10.0


class PerfMaps:
    """Functions that processes made at run time; what was wrong counts in ``problems``."""

    def __init__(self, proc: str, host_root: str, problems: Counts) -> None:
        self._proc = proc
        self._host_root = host_root.rstrip("/")
        self._problems = problems
        self._patience = Patience(_TIMEOUT_S)
        self._maps: dict[Hashable, PerfMap] = {}

    def find(
        self, space: tuple[int, Hashable], process: Optional[Process], address: int
    ) -> Union[tuple[str, int], str]:
        """Name and start of the function at ``address``, or in words why there is none.

        ``space`` is a pid, and what tells its address space from others of that pid.
        """
        try:
            return self._patience.call(space, lambda: self._find(space, process, address))
        except TimedOut:
            return "the perf map takes too long to read"
        except FileNotFoundError:
            return "no file, and no perf map"
        except OSError as error:
            return f"perf map: {why(error)}"
        except (MemoryError, RuntimeError) as error:  # no room for a thread, or for a large map
            return f"perf map: {type(error).__name__}"

    def _find(
        self, space: tuple[int, Hashable], process: Optional[Process], address: int
    ) -> Union[tuple[str, int], str]:
        known = self._maps.get(space)
        if known is None:
            if process is None:
                raise FileNotFoundError
            known = self._open(space[0], process)
            keep(self._maps, space, known, _MAPS)
        bad_before = known.bad_lines
        found = known.find(address)
        if known.bad_lines > bad_before:
            self._count_bad(known.bad_lines - bad_before)
        return found or "not in the perf map"

    def _open(self, pid: int, process: Process) -> PerfMap:
        name = f"/tmp/perf-{process.ns_pid}.map"
        # Some are written at exit, when the process's root is gone.
        roots = [f"{self._proc}/{pid}/root"] + [self._host_root] * process.shares_mounts
        missing = FileNotFoundError()
        for root in roots:
            try:
                found = PerfMap(root + name, frozenset((0, process.uid)))
            except FileNotFoundError as error:
                missing = error
                continue
            self._count_bad(found.bad_lines)
            return found
        raise missing

    def _count_bad(self, lines: int) -> None:
        if lines:
            self._problems.add("perf map: bad line", lines)
