"""Events of probes, a line each, and their stacks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional, Union

from corelock.events import Event, EventAccounting
from corelock.model import Frame
from corelock.render.slow import stack_lines
from corelock.render.text import flow, pad, printable

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_NS = 1_000_000_000
_TIME_WIDTH = len("12:34:56.123456")
#: Longer labels than this stand out of their column.
_WIDEST_PROBE = 32


class EventLines:
    """Makes lines of events; columns only ever become wider.

    Args:
        labels: of the probes; with one alone, lines do not name it.
        hexadecimal: by label, the names of values that are addresses and the like.
        clock_ns: what CLOCK_MONOTONIC is behind the time of day, in ns.
    """

    def __init__(
        self, labels: Sequence[str], hexadecimal: Mapping[str, frozenset[str]], clock_ns: int
    ) -> None:
        self._several = len(labels) > 1
        self._hexadecimal = hexadecimal
        self._clock_ns = clock_ns
        self._comm = 15
        self._id = 6
        self._probe = min(_WIDEST_PROBE, max(map(len, labels), default=0))

    def heading(self) -> str:
        """Names of the columns."""
        probe = f" {'PROBE':{self._probe}}" if self._several else ""
        return (
            f"{'TIME':{_TIME_WIDTH}} {'COMM':{self._comm}} {'PID':>{self._id}} "
            f"{'TID':>{self._id}}{probe} FIELDS"
        )

    def line(self, event: Event) -> str:
        """One event. Nothing is cut: it may be longer than a terminal is wide."""
        self._id = max(self._id, len(str(event.pid)), len(str(event.tid)))
        head = (
            f"{self._time(event.time_ns)} {pad(printable(event.comm), self._comm)} "
            f"{event.pid:{self._id}} {event.tid:{self._id}}"
        )
        if self._several:
            head += f" {pad(printable(event.probe), self._probe)}"
        hexadecimal = self._hexadecimal.get(event.probe, frozenset())
        values = (
            f"{name}={self._value(event, name, value, name in hexadecimal)}"
            for name, value in event.values.items()
        )
        return " ".join((head, *values)).rstrip()

    def _time(self, monotonic_ns: int) -> str:
        seconds, ns = divmod(monotonic_ns + self._clock_ns, _NS)
        return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{ns // 1000:06}"

    def _value(self, event: Event, name: str, value: Union[int, str, None], is_hex: bool) -> str:
        if value is None:
            return "?" if name in event.unread else "NULL"
        if isinstance(value, str):
            return quoted(value) + ("..." if name in event.cut else "")
        return hex(value) if is_hex else str(value)


def quoted(text: str) -> str:
    """In quotes, and nothing in it that could move the cursor or end the text."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def event_stacks(
    kernel: Sequence[Frame], user: Sequence[Frame], note: Optional[str], width: int
) -> Iterator[str]:
    """The stacks below an event, innermost frame first."""
    yield from stack_lines(kernel, "[{}]", width)
    yield from stack_lines(user, "({})", width)
    if note:
        yield f"    [{printable(note)}]"


def event_accounting_lines(
    accounting: EventAccounting, printed: int, *, width: int = 80
) -> Iterator[str]:
    """Where every hit went."""
    a = accounting
    yield from flow(
        (
            f"hits {a.hits:,}",
            f"= printed {printed:,}",
            f"+ filtered {a.filtered:,}",
            f"+ lost {sum(a.ring_full.values()):,}",
            f"+ after the last {a.taken - printed:,}",
        ),
        width,
        indent="  ",
    )
    if a.unaccounted:
        yield f"UNBALANCED by {a.unaccounted:,}: these numbers cannot be trusted"
    for label, count in sorted(a.ring_full.items(), key=lambda item: -item[1]):
        yield f"  lost of {printable(label)}: {count:,}"
    if a.self_hits:
        yield f"  corelock's own, in no number above: {a.self_hits:,}"
