"""Whether the JSON objects of a recording have what ``docs/format.md`` says they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CLOCK = {"monotonic_ns": int, "realtime_ns": int, "boottime_ns": int}
_HEADER = {
    "id": str,
    "start_ns": int,
    "clock": _CLOCK,
    "host": {"kernel": str, "arch": str, "hostname": str},
}
_FOOTER = {
    "end_ns": int,
    "clock": _CLOCK,
    "ended_by": str,
    "cycles": {"written": int, "lost": dict},
    "stacks": {"lost": dict},
    "totals": {"waits": int, "holds": int, "downgrades": int, "failures": int},
    "accounting": {
        "events": dict, "paired": int, "held_at_start": int, "held_at_end": int,
        "unmatched": dict, "lost": dict, "slow_recorded": int, "slow_lost": dict,
        "children_not_followed": int, "self": int,
    },
}  # fmt: skip
#: Objects of counts by name.
_COUNTS = (("cycles", "lost"), ("stacks", "lost"), *(
    ("accounting", name) for name in ("events", "unmatched", "lost", "slow_lost")
))  # fmt: skip
_MOST = 2**63


def check_header(value: Any) -> None:
    """Raise ValueError if ``value`` is no header."""
    _check(value, _HEADER)
    target, cgroup = value.get("target"), value.get("cgroup")
    for optional in (target, cgroup):
        _check({} if optional is None else optional, {})
    if target is not None:
        _check({"host_pid": 0, **target}, {"pid": int, "comm": str, "host_pid": int})
    if cgroup is not None:
        container = cgroup.get("container") or ""
        _check({**cgroup, "container": container}, {"path": str, "id": int, "container": str})


def check_footer(value: Any) -> None:
    """Raise ValueError if ``value`` is no footer."""
    _check(value, _FOOTER)
    for member, name in _COUNTS:
        counts = value[member][name]
        _check(counts, dict.fromkeys(counts, int))


def _check(value: Any, members: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"no object: {value!r}")
    for name, kind in members.items():
        member = value.get(name)
        if isinstance(kind, Mapping):
            _check(member, kind)
        elif not isinstance(member, kind) or isinstance(member, bool):
            raise ValueError(f"{name} is {member!r}")
        elif isinstance(member, int) and not -_MOST <= member < _MOST:
            raise ValueError(f"{name} is {member}")
