"""Histograms of events, as the library has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

from corelock._native.probes import Probes
from corelock._native.tables import Tables
from corelock.distribution import Bucket, Distribution, Linear, in_order, signed_bounds
from corelock.measured import Key
from corelock.probes.event_fields import Part
from corelock.probes.measures import EventPlan

_WORD = 1 << 64
_THREAD_BYTES = 8


class HistCounters(NamedTuple):
    """``struct corelock_hist_counters``: hits of one event."""

    seen: int = 0
    filtered: int = 0
    keys_full: int = 0
    key_failed: int = 0
    without_start: int = 0
    replaced: int = 0
    starts_full: int = 0
    ended: int = 0


class HistProbes(Probes):
    """Probes of the tool HIST."""

    def load_plans(
        self,
        plans: Sequence[EventPlan],
        *,
        linear: Optional[Linear],
        max_keys: int,
        max_starts: int,
        pid: int,
        self_pid: int,
        cpu: Optional[int],
    ) -> None:
        """Load the programs for these plans, whose places in the sequence are indices."""
        self._plans = plans
        self._linear = linear
        self._most_buckets = self._lib.CORELOCK_HIST_CHUNKS * self._lib.CORELOCK_SUB_BUCKETS
        self._buckets = self._ffi.new("struct corelock_bucket[]", self._most_buckets)
        tables = Tables(self._ffi, self._lib)
        specs = self._ffi.new(
            "struct corelock_hist_spec[]", [self._spec(plan, tables) for plan in plans]
        )
        with_pairs = any(plan.role != "FIELDS" for plan in plans)
        options = {
            "specs": specs,
            "key_bytes": max(_bytes_of(plan.parts) for plan in plans),
            "mark_bytes": with_pairs * max(_THREAD_BYTES, *(_bytes_of(p.marks) for p in plans)),
            "max_keys": max_keys,
            "max_starts": max_starts,
        }
        if linear is not None:
            options.update(linear_step=linear.step, linear_low=linear.low, linear_high=linear.high)
        raw = self._ffi.new("struct corelock_hist_options *", options)
        self.load(
            "HIST",
            len(plans),
            pid=pid,
            self_pid=self_pid,
            cpu=cpu,
            more={**tables.options(), "hist": raw},
        )

    def _spec(self, plan: EventPlan, tables: Tables) -> dict[str, object]:
        return {
            "first_test": tables.filter(plan.tests),
            "role": getattr(self._lib, f"CORELOCK_HIST_{plan.role}"),
            "pair": plan.pair,
            "value_count": len(plan.values),
            "part_count": len(plan.parts),
            "mark_count": len(plan.marks),
            "values": [tables.operand(operand) for operand in plan.values],
            "parts": [tables.operand(part.operand, part.offset) for part in plan.parts],
            "marks": [tables.operand(part.operand, part.offset) for part in plan.marks],
        }

    def take(self) -> Iterator[tuple[int, int, Key, Distribution]]:
        """What has come since the last call: event, which of its measures, key, distribution.

        Distributions of nothing are left out.
        """
        groups = self._check(self._lib.corelock_probes_take_histograms(self._probes))
        group = self._ffi.new("struct corelock_hist_group *")
        if not any(plan.parts for plan in self._plans):
            for event in range(len(self._plans)):
                yield from self._of_group(event, event + 1, ())
            return
        for index in range(1, groups):
            self._check(self._lib.corelock_probes_read_group(self._probes, index, group))
            key = _key(self._plans[group.event].parts, bytes(group.key))
            yield from self._of_group(group.event, index, key)

    def _of_group(
        self, event: int, group: int, key: Key
    ) -> Iterator[tuple[int, int, Key, Distribution]]:
        for number in range(len(self._plans[event].measures)):
            distribution = self._distribution(event, group, number)
            if distribution.buckets or distribution.lost:
                yield event, number, key, distribution

    def _distribution(self, event: int, group: int, number: int) -> Distribution:
        reading = self._ffi.new("struct corelock_hist_reading *")
        count = self._check(
            self._lib.corelock_probes_read_histogram(
                self._probes, group, number, reading, self._buckets, self._most_buckets
            )
        )
        if not count:
            return Distribution(lost=reading.chunks_full)
        values = self._plans[event].values
        signed = bool(values) and values[number].signed
        total = reading.low + reading.high * _WORD
        return Distribution(
            in_order(
                Bucket(*self._bounds(each.index), each.count) for each in self._buckets[0:count]
            ),
            total - _WORD**2 if reading.high >> 63 else total,
            _number(reading.least, signed),
            _number(reading.most, signed),
            reading.chunks_full,
        )

    def _bounds(self, index: int) -> tuple[Optional[int], Optional[int]]:
        if self._linear is not None:
            return self._linear.bounds(index)
        side = self._most_buckets // 2
        return signed_bounds(index % side, index >= side)

    def counters(self, event: int) -> HistCounters:
        """Of one event, what has come up to the last :meth:`take` and since the one before."""
        raw = self._ffi.new("struct corelock_hist_counters *")
        self._check(self._lib.corelock_probes_read_hist_counters(self._probes, event, raw))
        return HistCounters(*(getattr(raw, name) for name in HistCounters._fields))

    def open_starts(self, pair: int) -> int:
        """How many times of a pair were open when it was detached, counted one by one."""
        return self._check(self._lib.corelock_probes_count_open(self._probes, pair))


def _bytes_of(parts: Sequence[Part]) -> int:
    return parts[-1].offset + parts[-1].size if parts else 0


def _number(in_order: int, signed: bool) -> int:
    """A number that was put in order with all others of its kind, by turning its first bit."""
    return in_order - (_WORD >> 1) if signed else in_order


def _key(parts: Sequence[Part], raw: bytes) -> Key:
    return tuple(_value(part, raw[part.offset : part.offset + part.size]) for part in parts)


def _value(part: Part, raw: bytes) -> Union[int, str]:
    if part.operand.is_text:
        return raw.partition(b"\0")[0].decode(errors="surrogateescape")
    return int.from_bytes(raw, "little", signed=part.operand.signed)
