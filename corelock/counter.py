"""Counting hits of functions, events and static probes: :class:`HitCounter`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Optional, Union

from corelock import target
from corelock._native.probes import Probes
from corelock.attaching import MAX_PROBES, Coverage, attach, match
from corelock.errors import InvalidArgument
from corelock.lock_probe import LockProbe
from corelock.probes.finding import Finder, Matched, labels_of


@dataclass(frozen=True)
class Hits:
    """Hits since counting began, or within an interval, in nanoseconds of CLOCK_MONOTONIC.

    ``counts`` has every label, also of no hit. ``self_hits`` are those of the own process, which
    are in no count; ``missed`` those that the kernel kept from the program, because one was
    running already: of which probe is not known. Both are of the whole time so far.
    """

    start_ns: int
    duration_ns: int
    counts: Mapping[str, int]
    self_hits: int
    missed: int

    def since(self, earlier: Hits) -> Hits:
        """What came after ``earlier``."""
        return Hits(
            earlier.start_ns + earlier.duration_ns,
            self.start_ns + self.duration_ns - earlier.start_ns - earlier.duration_ns,
            {label: count - earlier.counts[label] for label, count in self.counts.items()},
            self.self_hits,
            self.missed,
        )


class HitCounter:
    """Counts how often what patterns match is reached, in the kernel. A context manager.

    Args:
        patterns: as of ``corelock count``: ``vfs_*``, ``libc:malloc``, ``t:sched:*``...
        pid: only hits by this process. Files are named as it sees them.
        cpu: only hits on this CPU.
        regex: the names in patterns are regular expressions.
        max_probes: how many places may be attached to at most.

    The own process's hits are left out, and counted, unless ``pid`` is its own.

    >>> import corelock
    >>> with corelock.HitCounter("t:syscalls:sys_enter_getppid", pid=os.getpid()) as counter:
    ...     for _ in range(3):
    ...         _ = os.getppid()
    ...     counter.stop().counts
    {'syscalls:sys_enter_getppid': 3}

    Raises:
        InvalidArgument: an argument makes no sense, or too many places match.
        NoSuchProbe, NoSuchTarget: there is nothing of that name; on entering.
        Unsupported, MissingPrivilege, LoadError, LibraryError: on entering.
    """

    def __init__(
        self,
        *patterns: str,
        pid: Optional[int] = None,
        cpu: Optional[int] = None,
        regex: bool = False,
        max_probes: int = MAX_PROBES,
    ) -> None:
        check_cpu(cpu)
        self._patterns = patterns
        self._pid = pid
        self._cpu = cpu
        self._regex = regex
        self._max_probes = max_probes
        self._probes: Optional[Probes] = None
        self._indices: dict[str, int] = {}
        self._start_ns = 0
        self._entered = False
        self._stopped: Optional[Hits] = None
        #: Whether the kernel counts all hits that it keeps from programs; once entered.
        self.counts_missed = True
        #: What is attached to, and how; once entered.
        self.coverage: Optional[Coverage] = None

    def match(self) -> list[Matched]:
        """What the patterns match now, without attaching anything."""
        if self._pid is not None:
            target.check_process(self._pid)
        probe = LockProbe()
        try:
            with Finder(self._pid, probe.may_be_waited_for) as finder:
                return match(self._patterns, finder, regex=self._regex, max_probes=self._max_probes)
        finally:
            probe.close()

    def __enter__(self) -> HitCounter:
        if self._entered:
            raise InvalidArgument("this counter was entered before", "Make another one.")
        self._entered = True
        self._probes = probes = Probes()
        try:
            # What is lacking for everything, before what is lacking for some of it.
            probes.check()
            matched = self.match()
            self._indices = {label: index for index, label in enumerate(labels_of(matched))}
            own = os.getpid()
            probes.load(
                "COUNT",
                max(len(self._indices), 1),
                pid=self._pid or 0,
                self_pid=0 if self._pid == own else own,
                cpu=self._cpu,
            )
            candidates = [each for one in matched for each in one.candidates]
            indices = [self._indices[each.place.label] for each in candidates]
            self._start_ns, self.coverage = attach(probes, matched, indices)
            self.counts_missed = probes.totals().counts_missed
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach and free; only what :meth:`stop` found can be asked for afterwards."""
        probes, self._probes = self._probes, None
        if probes is not None:
            probes.close()

    def read(self) -> Hits:
        """What has been counted so far."""
        return self._stopped or self._read(time.monotonic_ns())

    def stop(self) -> Hits:
        """Stop counting and detach; what was counted in all. May be repeated."""
        if self._stopped is None:
            self._stopped = self._read(self._open().detach())
        return self._stopped

    def _read(self, end_ns: int) -> Hits:
        probes, coverage = self._open(), self.coverage
        assert coverage is not None
        counts, totals = probes.counts(), probes.totals()
        return Hits(
            self._start_ns,
            end_ns - self._start_ns,
            {label: counts[self._indices[label]] for label in coverage.labels},
            totals.self_hits,
            totals.missed,
        )

    def _open(self) -> Probes:
        if self._probes is None:
            raise InvalidArgument("this counter is not open", "Use it as a context manager.")
        return self._probes


def check_cpu(cpu: Optional[int]) -> None:
    """Make sure that there is such a CPU, and that it is online.

    Raises:
        InvalidArgument: there is not.
    """
    if cpu is None:
        return
    online = online_cpus()
    if cpu not in online:
        raise InvalidArgument(f"there is no CPU {cpu} online", f"There are {_ranges(online)}.")


def online_cpus() -> Union[range, list[int]]:
    """The CPUs that are online, as /sys says."""
    try:
        with open("/sys/devices/system/cpu/online") as file:
            text = file.read().strip()
    except OSError:
        return range(os.cpu_count() or 1)
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _ranges(cpus: Sequence[int]) -> str:
    return f"{cpus[0]} to {cpus[-1]}" if len(cpus) > 1 else str(cpus[0])
