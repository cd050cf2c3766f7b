"""Probes attached, and what comes of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from corelock import _ffi
from corelock._native.failures import exception_of
from corelock.errors import CorelockError
from corelock.names import kernel_name
from corelock.probes.places import WAY_NAMES, Candidate


class Attached(NamedTuple):
    """What became of one place: how it was attached, or why it was not (``errno``).

    ``refusals``: ways that were tried before, or in vain, each with its errno.
    """

    way: Optional[str]
    errno: int
    refusals: tuple[tuple[str, int], ...] = ()


def _attached(raw: Any, ways: Mapping[int, str]) -> Attached:
    errnos = enumerate(list(raw.refusals))
    refusals = tuple((ways[number], errno) for number, errno in errnos if errno)
    return Attached(ways.get(raw.way), raw.sys_errno, refusals)


def ways_tried(candidates: Iterable[Candidate], became: Iterable[Attached]) -> str:
    """Of places that are not attached to: what was tried in vain, and why, a line each."""
    labels: dict[str, list[str]] = {}
    for candidate, one in zip(candidates, became):
        if one.way is None and one.refusals:
            words = ", ".join(f"{WAY_NAMES[way]} ({os.strerror(n)})" for way, n in one.refusals)
            labels.setdefault(words, []).append(candidate.place.label)
    return "".join(f"tried {words}: {' '.join(those)}\n" for words, those in labels.items())


class ProbeTotals(NamedTuple):
    """What was left out or lost.

    ``counts_missed``: whether the kernel counts all it misses. ``main_thread_ended``: hits in the
    process's files may be missing, as of ``corelock.h``.
    """

    self_hits: int
    faults: int
    missed: int
    counts_missed: bool
    main_thread_ended: bool


class Probes:
    """One ``corelock_probes``. Not thread-safe.

    Every method raises a :class:`~corelock.errors.CorelockError` on failure.
    """

    def __init__(self) -> None:
        self._ffi, self._lib = _ffi.library()
        self._probes = self._lib.corelock_probes_new()
        if self._probes == self._ffi.NULL:
            raise MemoryError("corelock_probes_new")
        self._free = weakref.finalize(self, self._lib.corelock_probes_free, self._probes)
        self._indices = 0

    def close(self) -> None:
        """Detach and free; afterwards only ``close`` may be called."""
        self._free()
        self._probes = self._ffi.NULL

    def _check(self, result: int) -> int:
        if result < 0:
            raise exception_of(self._ffi, self._lib.corelock_probes_last_error(self._probes))
        return result

    def check(self) -> None:
        """Raise unless the caller may load and attach programs at all."""
        self._check(self._lib.corelock_probes_check(self._probes))

    def load(
        self,
        tool: str,
        indices: int,
        *,
        pid: int = 0,
        self_pid: int = 0,
        cpu: Optional[int] = None,
        more: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """Load the programs of a tool, by its name in ``enum corelock_tool``.

        ``pid`` is the process whose hits count (0: any), ``self_pid`` the one whose hits are left
        out (0: none), ``cpu`` the only CPU, ``more`` the options that the tool has of its own.
        """
        options = {
            "size": self._ffi.sizeof("struct corelock_probe_options"),
            "tool": getattr(self._lib, f"CORELOCK_TOOL_{tool}"),
            "target_pid": pid,
            "self_pid": self_pid,
            "cpu": self._lib.CORELOCK_EVERY_CPU if cpu is None else cpu,
            "indices": indices,
            **(more or {}),
        }
        raw = self._ffi.new("struct corelock_probe_options *", options)
        self._check(self._lib.corelock_probes_load(self._probes, raw))
        self._indices = indices

    def attach(
        self, candidates: Sequence[Candidate], indices: Sequence[int]
    ) -> tuple[int, list[Attached]]:
        """Attach to each place, whose hits are told apart by the index beside it; let them count.

        The moment that begins, in ns, and what became of each. The log of a failure has the ways.
        """
        raw = self._ffi.new("struct corelock_place[]", len(candidates))
        names = {name: self._name(name) for name in {each.place.name for each in candidates}}
        for one, (place, ways, _), index in zip(raw, candidates, indices):
            one.name = names[place.name]
            one.address = place.address
            one.semaphore = place.semaphore
            one.kind = getattr(self._lib, f"CORELOCK_PLACE_{place.kind}")
            one.index = index
            one.ways = sum(1 << getattr(self._lib, f"CORELOCK_WAY_{way}") for way in ways)
        start = self._ffi.new("uint64_t *")
        result = self._lib.corelock_probes_attach(self._probes, raw, len(candidates), start)
        numbers = {getattr(self._lib, f"CORELOCK_WAY_{way}"): way for way in WAY_NAMES}
        became = [_attached(one, numbers) for one in raw]
        try:
            self._check(result)
        except CorelockError as error:
            error.log += ways_tried(candidates, became)
            raise
        return int(start[0]), became

    def _name(self, name: str) -> Any:
        return self._ffi.new("char[]", os.fsencode(name))

    def stop(self) -> int:
        """End the counting, which detaches nothing; the moment, in ns."""
        end = self._ffi.new("uint64_t *")
        self._check(self._lib.corelock_probes_stop(self._probes, end))
        return int(end[0])

    def totals(self) -> ProbeTotals:
        """What was left out or lost so far."""
        raw = self._ffi.new("struct corelock_probe_totals *")
        self._check(self._lib.corelock_probes_read_totals(self._probes, raw))
        return ProbeTotals(
            raw.self, raw.faults, raw.missed, bool(raw.counts_missed), bool(raw.main_thread_ended)
        )

    def counts(self) -> list[int]:
        """COUNT: the hits of each index so far."""
        raw = self._ffi.new("uint64_t[]", self._indices)
        self._check(self._lib.corelock_probes_read_counts(self._probes, raw))
        return list(raw)


class Argument(NamedTuple):
    """An argument of a function of the kernel: a number of ``size`` bytes."""

    name: str
    size: int
    signed: bool
    is_pointer: bool


def prototypes(names: Iterable[str]) -> dict[str, tuple[Argument, ...]]:
    """The first arguments, up to one that is no number, of functions of the kernel.

    Those of which the kernel's BTF does not say it, or of several of one name, are left out.
    """
    ffi, lib = _ffi.library()
    ordered = sorted({os.fsencode(name) for name in names})
    if not ordered:
        return {}
    texts = [ffi.new("char[]", name) for name in ordered]
    raw = ffi.new("struct corelock_prototype[]", len(texts))
    if lib.corelock_prototypes(ffi.new("char *[]", texts), len(texts), raw):
        return {}
    return {
        os.fsdecode(name): tuple(
            Argument(
                kernel_name(bytes(each.name)), each.size, bool(each.is_signed),
                bool(each.is_pointer),
            )
            for each in one.arguments[0 : one.count]
        )
        for name, one in zip(ordered, raw)
        if one.known == 1
    }  # fmt: skip
