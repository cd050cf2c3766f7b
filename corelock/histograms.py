"""Histograms of events' fields, and of times between events: :class:`Histograms`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional

from corelock._native.histograms import HistCounters, HistProbes
from corelock._native.probes import ProbeTotals
from corelock.arguments import check_range, check_text, check_texts
from corelock.distribution import Distribution, Linear, check_linear
from corelock.errors import InvalidArgument
from corelock.matching import finding
from corelock.measured import HistAccounting, HistogramsSnapshot, Key, Measured
from corelock.probe_session import ProbeSession
from corelock.probes.finding import Matched
from corelock.probes.measures import EventPlan, plan

MAX_KEYS = 1024
#: At most (``MAX_KEYS`` in probes_hist.c).
MOST_KEYS = 65536

_MAX_STARTS = 65536


class Histograms(ProbeSession[HistProbes]):
    """Makes histograms in the kernel. A context manager, for one thread at a time.

    Args:
        fields: ``t:category:event:FIELD[,FIELD...]`` each; events may have wildcards.
        latency: pairs of tracepoints; the time from the first to the second is counted.
        key: fields that say which end belongs to which start, of both events, or ``one=other``
            where they have other names; none: the thread.
        by: what else to tell apart: ``comm``, ``pid``, ``tid``, ``cpu``, fields of the event,
            ``str(FIELD)`` for the text at an address, ``s32(FIELD)`` and the like (s8 to u64) for
            a number of its lowest bits. Of a latency, of its second event.
        filter: which events count, as ``bytes > 4096 && comm == "qemu"``. Likewise.
        linear: ``(low, high, step)``; without, octaves in eighths.
        pid: only events in this process; of a latency with a key, only starts are.
        cpu: only events on this CPU; of a latency, only starts are.
        max_keys: room for so many keys.

    The own process's events are left out, and counted, unless ``pid`` is its own.

    >>> import corelock, os
    >>> with corelock.Histograms("t:syscalls:sys_exit_getppid:ret", pid=os.getpid()) as made:
    ...     for _ in range(3):
    ...         _ = os.getppid()
    ...     distribution = made.stop().measures[0].histograms[()]
    >>> distribution.count, distribution.min == os.getppid()
    (3, True)

    Raises:
        InvalidArgument: an argument makes no sense, or there is no such field.
        NoSuchProbe, NoSuchTarget: there is nothing of that name; on entering, as all that follow.
        Unsupported, MissingPrivilege, LoadError, LibraryError.
    """

    def __init__(
        self,
        *fields: str,
        latency: Iterable[tuple[str, str]] = (),
        key: Sequence[str] = (),
        by: Sequence[str] = (),
        filter: Optional[str] = None,
        linear: Optional[tuple[int, int, int]] = None,
        pid: Optional[int] = None,
        cpu: Optional[int] = None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        super().__init__(pid, cpu)
        check_range("max_keys", max_keys, 1, MOST_KEYS)
        self._linear = None if linear is None else Linear(*linear)
        if self._linear is not None:
            check_linear(self._linear)
        check_text("filter", filter)
        self._fields = check_texts("fields", fields)
        self._latency = _pairs(latency)
        if key and not self._latency:
            raise InvalidArgument("a key is of a latency, and none is asked for", "Use by.")
        self._key, self._by = check_texts("key", key), check_texts("by", by)
        self._filter = filter
        self._max_keys = max_keys
        self._plans: tuple[EventPlan, ...] = ()
        self._whole, self._recent = _Sums(), _Sums()
        self._totals: Optional[ProbeTotals] = None
        self._stopped: Optional[HistogramsSnapshot] = None

    def _make(self) -> HistProbes:
        return HistProbes()

    def _load(self, probes: HistProbes) -> tuple[Sequence[Matched], Sequence[int]]:
        with finding(self._pid) as finder:
            self._plans = plan(
                finder,
                self._fields,
                self._latency,
                key=self._key,
                by=self._by,
                filter_=self._filter,
            )
        probes.load_plans(
            self._plans,
            linear=self._linear,
            max_keys=self._max_keys,
            max_starts=_MAX_STARTS,
            **self._whose,
        )
        # Each by itself, so that none may fail.
        matched = [
            each.matched._replace(candidates=(each.candidate,), whole=True) for each in self._plans
        ]
        return matched, range(len(matched))

    def read(self) -> HistogramsSnapshot:
        """What has been counted so far; once stopped, in all, also when closed."""
        return self._stopped or self._read()

    def read_interval(self) -> HistogramsSnapshot:
        """What has been counted since the last call of this, or since the beginning.

        Once stopped, also when closed.
        """
        if self._stopped is None:
            self._take()
        snapshot = self._snapshot(self._recent)
        self._recent = _Sums(snapshot.start_ns + snapshot.duration_ns)
        return snapshot

    def stop(self) -> HistogramsSnapshot:
        """Stop counting; what was counted in all. May be repeated, also when closed.

        Leaving the block detaches.
        """
        if self._stopped is None:
            self._end()
            self._stopped = self._read()
        return self._stopped

    def _read(self) -> HistogramsSnapshot:
        self._take()
        return self._snapshot(self._whole)

    def _take(self) -> None:
        for event, number, key, distribution in self._open().take():
            for sums in (self._whole, self._recent):
                sums.add((event, number), key, distribution)
        for event in range(len(self._plans)):
            counters = self._open().counters(event)
            for sums in (self._whole, self._recent):
                sums.count(event, counters)
        self._totals = self._open().totals()

    def _snapshot(self, sums: _Sums) -> HistogramsSnapshot:
        totals = self._totals
        assert totals is not None
        start_ns, end_ns = sums.start_ns or self.start_ns, self.end_ns or time.monotonic_ns()
        return HistogramsSnapshot(
            start_ns,
            end_ns - start_ns,
            self._by,
            tuple(
                self._measured(sums, event, number)
                for event, plan in enumerate(self._plans)
                for number in range(len(plan.measures))
            ),
            totals.self_hits,
            totals.missed,
            totals.faults,
        )

    def _measured(self, sums: _Sums, event: int, number: int) -> Measured:
        plan = self._plans[event]
        histograms = sums.histograms.get((event, number), {})
        by_count = sorted(histograms.items(), key=lambda item: (-item[1].count, str(item[0])))
        return Measured(
            plan.measures[number],
            dict(by_count),
            self._accounting(sums, event, list(histograms.values())),
            tuple(part.type for part in plan.parts),
        )

    def _accounting(
        self, sums: _Sums, event: int, histograms: Sequence[Distribution]
    ) -> HistAccounting:
        ends = sums.counters[event]
        accounting = HistAccounting(
            ends.seen,
            sum(each.count for each in histograms),
            ends.filtered,
            ends.without_start,
            {
                "keys_full": ends.keys_full,
                "key_failed": ends.key_failed,
                "chunks_full": sum(each.lost for each in histograms),
            },
        )
        plan = self._plans[event]
        if plan.role != "END":
            return accounting
        return self._with_starts(sums, accounting, ends, plan.pair)

    def _with_starts(
        self, sums: _Sums, accounting: HistAccounting, ends: HistCounters, pair: int
    ) -> HistAccounting:
        starts = next(
            sums.counters[event]
            for event, plan in enumerate(self._plans)
            if plan.role == "START" and plan.pair == pair
        )
        is_open = starts.seen - ends.ended - starts.replaced - starts.starts_full
        if sums is self._whole and self.end_ns:
            # Counted one by one, which tells whether the others are right.
            is_open = self._open().open_starts(pair)
        return replace(
            accounting,
            starts_seen=starts.seen,
            starts_ended=ends.ended,
            starts_replaced=starts.replaced,
            starts_lost=starts.starts_full,
            starts_open=is_open,
        )


def _pairs(latency: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for each in latency if isinstance(latency, Iterable) else (latency,):
        names = check_texts("latency", each)
        if len(names) != 2:
            raise InvalidArgument(
                f"a latency is between two tracepoints, not {len(names)}: {each!r}",
                'Give pairs: [("t:block:block_rq_issue", "t:block:block_rq_complete")].',
            )
        pairs.append((names[0], names[1]))
    return tuple(pairs)


class _Sums:
    """What was taken since a moment, added up."""

    def __init__(self, start_ns: int = 0) -> None:
        self.start_ns = start_ns  # 0: everything
        self.histograms: dict[tuple[int, int], dict[Key, Distribution]] = {}
        self.counters: dict[int, HistCounters] = defaultdict(HistCounters)

    def add(self, of: tuple[int, int], key: Key, distribution: Distribution) -> None:
        """One distribution."""
        histograms = self.histograms.setdefault(of, {})
        before = histograms.get(key)
        histograms[key] = distribution if before is None else before.plus(distribution)

    def count(self, event: int, counters: HistCounters) -> None:
        """What came of hits of an event."""
        self.counters[event] = HistCounters(*map(sum, zip(self.counters[event], counters)))
