"""Counting hits of functions, events and static probes: :class:`HitCounter`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from corelock._native.probes import Probes
from corelock.matching import MAX_PROBES, finding, match, places_of
from corelock.probe_session import ProbeSession
from corelock.probes.finding import Matched


@dataclass(frozen=True)
class Hits:
    """Hits since counting began, or within an interval, in nanoseconds of CLOCK_MONOTONIC.

    ``counts`` has every label, also of no hit. ``self_hits`` are those of the own process, which
    are in no count; ``missed`` those that the kernel kept from the program, because one was
    running already: of which probe is not known. ``main_thread_ended``: that of the process has,
    while others went on, or another one has called exec: since then the kernel keeps hits in its
    files from the program. All three are of the whole time so far.
    """

    start_ns: int
    duration_ns: int
    counts: Mapping[str, int]
    self_hits: int
    missed: int
    main_thread_ended: bool

    def since(self, earlier: Hits) -> Hits:
        """What came after ``earlier``."""
        return Hits(
            earlier.start_ns + earlier.duration_ns,
            self.start_ns + self.duration_ns - earlier.start_ns - earlier.duration_ns,
            {label: count - earlier.counts[label] for label, count in self.counts.items()},
            self.self_hits,
            self.missed,
            self.main_thread_ended,
        )


class HitCounter(ProbeSession[Probes]):
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
        super().__init__(pid, cpu)
        self._patterns = patterns
        self._regex = regex
        self._max_probes = max_probes
        self._indices: dict[str, set[int]] = {}
        self._stopped: Optional[Hits] = None

    def match(self) -> list[Matched]:
        """What the patterns match now, without attaching anything."""
        with finding(self._pid) as finder:
            return match(
                self._patterns,
                finder,
                regex=self._regex,
                max_probes=self._max_probes,
                aliases=True,
            )

    def _make(self) -> Probes:
        return Probes()

    def _load(self, probes: Probes) -> tuple[Sequence[Matched], Sequence[int]]:
        matched = self.match()
        indices, self._indices = places_of(matched)
        probes.load("COUNT", max(indices, default=0) + 1, **self._whose)
        return matched, indices

    def read(self) -> Hits:
        """What has been counted so far; once stopped, in all, also when closed."""
        return self._stopped or self._read(time.monotonic_ns())

    def stop(self) -> Hits:
        """Stop counting; what was counted in all. May be repeated, also when closed.

        Leaving the block detaches, which may take the kernel a minute for hundreds of
        tracepoints of system calls.
        """
        if self._stopped is None:
            self._end()
            self._stopped = self._read(self.end_ns)
        return self._stopped

    def _read(self, end_ns: int) -> Hits:
        probes, coverage = self._open(), self.coverage
        assert coverage is not None
        counts, totals = probes.counts(), probes.totals()
        return Hits(
            self.start_ns,
            end_ns - self.start_ns,
            {
                label: sum(counts[index] for index in self._indices[label])
                for label in coverage.labels
            },
            totals.self_hits,
            totals.missed,
            totals.main_thread_ended,
        )
