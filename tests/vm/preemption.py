"""When a guest's threads were taken off the CPU while they could run, by ftrace's sched_switch."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

#: What a thread waits for (TASK_REPORT); 0: it was preempted.
_WAITING = 0x7F


class Switch(NamedTuple):
    """Who left a CPU, in which state, and who came."""

    ts_ns: int
    left: int
    state: int
    came: int


class SwitchFormat:
    """Where its members are in its record, from its ``format`` file."""

    def __init__(self, text: str) -> None:
        self._members = []
        for name in "prev_pid", "prev_state", "next_pid":
            (found,) = re.findall(rf"{name};\s*offset:(\d+);\s*size:(\d+);", text)
            offset, size = map(int, found)
            self._members.append((offset, {4: "<i", 8: "<q"}[size]))

    def event(self, ts_ns: int, page: bytes, position: int) -> Switch:
        """The switch whose record begins at ``position``."""
        left, state, came = (
            struct.unpack_from(code, page, position + offset)[0] for offset, code in self._members
        )
        return Switch(ts_ns, left, state, came)


def preempted_ns(switches: Iterable[Switch]) -> dict[int, int]:
    """For how long each thread was so, in all; ``switches`` in order of time."""
    since: dict[int, int] = {}
    total: dict[int, int] = defaultdict(int)
    for switch in switches:
        if switch.came in since:
            total[switch.came] += switch.ts_ns - since.pop(switch.came)
        if not switch.state & _WAITING:
            since[switch.left] = switch.ts_ns
    return total
