"""What is counted of events: fields, and times between two events, by key. As plans of programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Optional

from corelock.errors import InvalidArgument
from corelock.probes.event_fields import EventFields, Part, laid_out
from corelock.probes.filters import Test, compile_filter
from corelock.probes.finding import Finder, Matched
from corelock.probes.nearest import nearest
from corelock.probes.operands import COMMON, Operand
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Candidate

Role = Literal["FIELDS", "START", "END"]
Unit = Literal["ns", "bytes", ""]

#: Of one event, at most (``CORELOCK_HIST_VALUES``).
MOST_FIELDS = 8

#: Of those that have a field which others lack.
_MOST_NAMED = 30

_TRACEPOINTS = ("t", "tracepoint")
_EXAMPLE = "Write t:category:event:FIELD[,FIELD...], as t:kmem:kmalloc:bytes_alloc."
_OTHERS = (
    "Histograms are of tracepoints alone: corelock count and trace take functions and static "
    "probes."
)
_NS = re.compile(r"(^|_)(ns|nsec|nsecs)$")
_BYTES = re.compile(r"(^|_)n?bytes(_|$)")


class Measure(NamedTuple):
    """What a histogram is of: an event's field, or the time from the event ``start`` to it."""

    event: str
    field: str = ""
    start: str = ""

    @property
    def unit(self) -> Unit:
        """Of its numbers; "" where it is not certain."""
        if self.start or _NS.search(self.field):
            return "ns"
        return "bytes" if _BYTES.search(self.field) else ""


class EventPlan(NamedTuple):
    """What a program does at one event. ``pair`` is the number of a start and its end."""

    matched: Matched
    candidate: Candidate
    role: Role
    measures: tuple[Measure, ...] = ()
    values: tuple[Operand, ...] = ()
    parts: tuple[Part, ...] = ()
    marks: tuple[Part, ...] = ()
    tests: tuple[Test, ...] = ()
    pair: int = 0


def plan(
    finder: Finder,
    fields: Sequence[str],
    latencies: Sequence[tuple[str, str]],
    *,
    key: Sequence[str],
    by: Sequence[str],
    filter_: Optional[str],
) -> tuple[EventPlan, ...]:
    """Plans for ``t:category:event:FIELD,...`` and pairs of events.

    Raises:
        InvalidArgument: something cannot be meant, or there is no such field.
        NoSuchProbe: there is no such event.
        Unsupported, MissingPrivilege: tracefs cannot be read.
    """
    planner = _Planner(finder, by, filter_)
    for text in fields:
        planner.add_fields(text)
    for pair, (start, end) in enumerate(latencies):
        planner.add_pair(pair, start, end, key)
    if not planner.plans:
        raise InvalidArgument("nothing is named to be counted", _EXAMPLE)
    return tuple(planner.plans.values())


class _Planner:
    """Plans by event: a program is attached to each once."""

    def __init__(self, finder: Finder, by: Sequence[str], filter_: Optional[str]) -> None:
        self._finder = finder
        self._by = by
        self._filter = filter_
        self.plans: dict[str, EventPlan] = {}

    def add_fields(self, text: str) -> None:
        """Those of one argument, of each event that it matches."""
        kind, *rest = text.split(":")
        if kind not in _TRACEPOINTS or len(rest) not in (2, 3):
            raise InvalidArgument(f"not fields of a tracepoint: {text!r}", f"{_EXAMPLE} {_OTHERS}")
        matched = self._finder.find(parse_pattern(":".join([kind, *rest[:2]])))
        names = rest[2].split(",") if len(rest) == 3 else []
        events = [self._event(candidate) for candidate in matched.candidates]
        if not names or not all(names):
            first = events[0]
            raise InvalidArgument(
                f"no field of {first.label} is named: {text!r}",
                f"Name some: t:{first.label}:FIELD. There are: {', '.join(first.operands)}.",
            )
        if len(events) > 1:
            _check_all_have(names, events, ":".join([kind, *rest[:2]]))
        for candidate, event in zip(matched.candidates, events):
            self._add_fields(matched, candidate, event, names)

    def _add_fields(
        self, matched: Matched, candidate: Candidate, event: EventFields, names: Sequence[str]
    ) -> None:
        before = self.plans.get(event.label)
        if before is None:
            before = self._counting(EventPlan(matched, candidate, "FIELDS"), event)
        measures, values = list(before.measures), list(before.values)
        for name in names:
            measure = Measure(event.label, name)
            if measure not in measures:
                measures.append(measure)
                values.append(event.number(name))
        if len(values) > MOST_FIELDS:
            raise InvalidArgument(
                f"{len(values)} fields of {event.label} are named",
                f"{MOST_FIELDS} is the most: count the others in another run.",
            )
        self.plans[event.label] = before._replace(measures=tuple(measures), values=tuple(values))

    def add_pair(self, pair: int, start: str, end: str, key: Sequence[str]) -> None:
        """The times from one event to another."""
        begins, ends = self._only(start), self._only(end)
        first, last = self._event(begins.candidates[0]), self._event(ends.candidates[0])
        if first.label == last.label:
            raise InvalidArgument(
                f"a latency begins and ends with {first.label}", "Name two different events."
            )
        of_first, of_last = [x.partition("=")[0] for x in key], [x.rpartition("=")[2] for x in key]
        for one, other in zip(of_first, of_last):
            if one == other and one in COMMON and first.has(one) != last.has(one):
                has, lacks = (first, last) if first.has(one) else (last, first)
                raise InvalidArgument(
                    f"{one} is a field of {has.label} alone: of {lacks.label} it would be the "
                    "running task's",
                    f"Name one of each in key, as OF_START=OF_END: of {lacks.label} {lacks.names}.",
                )
        marks = zip(first.parts(of_first, "key"), last.parts(of_last, "key"))
        fitted = [_fitted(*both) for both in marks]
        of_start = laid_out([x for x, _ in fitted])
        self._add(EventPlan(begins, begins.candidates[0], "START", marks=of_start, pair=pair))
        plan = EventPlan(
            ends,
            ends.candidates[0],
            "END",
            (Measure(last.label, start=first.label),),
            marks=laid_out([x for _, x in fitted]),
            pair=pair,
        )
        self._add(self._counting(plan, last))

    def _add(self, plan: EventPlan) -> None:
        label = plan.candidate.place.label
        if label in self.plans:
            raise InvalidArgument(
                f"{label} is named twice, and once it is in a latency",
                "Count one of them in another run, at the same time.",
            )
        self.plans[label] = plan

    def _counting(self, plan: EventPlan, event: EventFields) -> EventPlan:
        tests: tuple[Test, ...] = ()
        if self._filter is not None:
            tests = compile_filter(self._filter, event.operands, event.label)
        return plan._replace(parts=event.parts(self._by, "by"), tests=tests)

    def _only(self, text: str) -> Matched:
        pattern = parse_pattern(text)
        if pattern.kind != "TRACEPOINT":
            raise InvalidArgument(
                f"not a tracepoint: {text!r}", f"Write t:category:event. {_OTHERS}"
            )
        matched = self._finder.find(pattern)
        if len(matched.candidates) != 1:
            raise InvalidArgument(
                f"{text} matches {len(matched.candidates)} events", "Name one event."
            )
        return matched

    def _event(self, candidate: Candidate) -> EventFields:
        label = candidate.place.label
        category, _, event = label.partition(":")
        return EventFields(label, self._finder.tracepoints.fields(category, event))


def _check_all_have(names: Sequence[str], events: Sequence[EventFields], pattern: str) -> None:
    """Raise if one of several events lacks one of the fields; say which have them all."""
    having = [event for event in events if all(map(event.has, names))]
    if len(having) == len(events):
        return
    fields = f"field{'s' * (len(names) > 1)} {' and '.join(names)}"
    if not having:
        known = {name for event in events for name in event.operands}
        near = [each for name in names if name not in known for each in nearest(name, known)]
        raise InvalidArgument(
            f"none of the {len(events)} events that {pattern} matches has the {fields}",
            f"Did you mean {' or '.join(near)}?"
            if near
            else f"corelock list -v {pattern!r} shows the fields of each.",
        )
    by_category: dict[str, list[str]] = {}
    for event in having[:_MOST_NAMED]:
        category, _, name = event.label.partition(":")
        by_category.setdefault(category, []).append(name)
    patterns = [f"'t:{x}:{'|'.join(y)}:{','.join(names)}'" for x, y in by_category.items()]
    more, lacking = len(having) - _MOST_NAMED, len(events) - len(having)
    raise InvalidArgument(
        f"{len(having)} of the {len(events)} events that {pattern} matches have the {fields}, "
        f"{lacking} {'has' if lacking == 1 else 'have'} not",
        f"{f'{more} more and these have' if more > 0 else 'Name those that have'} "
        f"{'it' if len(names) == 1 else 'them'}: corelock hist {' '.join(patterns)}",
    )


def _fitted(start: Part, end: Part) -> tuple[Part, Part]:
    """Parts of a start's key and of its end's, so that equal values are equal bytes."""
    one, other = start.operand, end.operand
    if one.is_text != other.is_text:
        raise InvalidArgument(
            f"{start.name} is a text of one of the two events only",
            "A key is of fields that both have, and that are the same in both.",
        )
    if one.is_text:
        length = min(one.length, other.length)
        one, other = one._replace(length=length), other._replace(length=length)
    elif one.size == other.size:
        other = other._replace(signed=one.signed)
    return start._replace(operand=one), end._replace(operand=other)
