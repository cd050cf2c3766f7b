"""What counters, histograms and traces of probes have in common: :class:`ProbeSession`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Generic, Optional, TypedDict, TypeVar, Union

from corelock._native.probes import Probes
from corelock.arguments import is_whole
from corelock.attaching import Coverage, attach
from corelock.errors import InvalidArgument
from corelock.probes.finding import Matched

AnyProbes = TypeVar("AnyProbes", bound=Probes)
Self = TypeVar("Self", bound="ProbeSession[Probes]")


class Whose(TypedDict):
    """Whose hits count, as :meth:`Probes.load` takes it."""

    pid: int
    self_pid: int
    cpu: Optional[int]


class ProbeSession(ABC, Generic[AnyProbes]):
    """Attaches to what patterns match when it is entered, once, and can be read until it is closed.

    Counts and histograms that were stopped can be read after that, too. For one thread at a time.
    ``pid`` and ``cpu``: only hits of that process, on that CPU.

    Raises:
        InvalidArgument: there is no such CPU.
    """

    def __init__(self, pid: Optional[int], cpu: Optional[int]) -> None:
        check_cpu(cpu)
        self._pid = pid
        self._cpu = cpu
        self._entered = False
        self._probes: Optional[AnyProbes] = None
        #: Whether the kernel counts all hits that it keeps from programs; once entered.
        self.counts_missed = True
        #: What is attached to, and how; None until it is entered.
        self.coverage: Optional[Coverage] = None
        #: When hits began to count, and when that was stopped (0: it was not), on CLOCK_MONOTONIC.
        self.start_ns = 0
        self.end_ns = 0

    @abstractmethod
    def _make(self) -> AnyProbes:
        """The library's part, without anything loaded."""

    @abstractmethod
    def _load(self, probes: AnyProbes) -> tuple[Sequence[Matched], Sequence[int]]:
        """Find the places and load the programs; the places, and their indices in order."""

    def __enter__(self: Self) -> Self:
        if self._entered:
            raise InvalidArgument("this was entered before", "Make another one.")
        self._entered = True
        probes = self._probes = self._make()
        try:
            # What is lacking for everything, before what is lacking for some of it.
            probes.check()
            self.start_ns, self.coverage = attach(probes, *self._load(probes), self._pid)
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
        """Detach and free, as leaving the block does. Repeating it does nothing."""
        probes, self._probes = self._probes, None
        if probes is not None:
            probes.close()

    def _open(self) -> AnyProbes:
        if self._probes is None:
            raise InvalidArgument("this is not attached", "Use it as a context manager.")
        return self._probes

    def _end(self) -> None:
        """End the counting; it is closing that detaches, which may take the kernel long."""
        self.end_ns = self._open().stop()

    @property
    def _whose(self) -> Whose:
        own = os.getpid()
        return {
            "pid": self._pid or 0,
            "self_pid": 0 if self._pid == own else own,
            "cpu": self._cpu,
        }


def check_cpu(cpu: Optional[int]) -> None:
    """Make sure that there is such a CPU, and that it is online.

    Raises:
        InvalidArgument: there is not.
    """
    if cpu is None:
        return
    online = online_cpus()
    if not is_whole(cpu) or cpu not in online:
        raise InvalidArgument(f"there is no CPU {cpu!r} online", f"There are {_ranges(online)}.")


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
