"""What ``corelock doctor`` finds, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

from corelock.model import Host, Shown

Verdict = Literal["pass", "warn", "fail"]
EventLayout = Literal["memcg_id", "memcg_path"]

#: What text calls checks whose names do not say it best.
TITLES = {
    "attach_tp": "attach by tp",
    "attach_tp_btf": "attach by tp_btf",
    "bpf": "bpf()",
    "btf": "BTF",
    "event_cost": "cost of an event",
    "jit": "JIT",
    "proc": "/proc",
    "program_types": "program types",
    "unprivileged_bpf_disabled": "unprivileged BPF",
    "user_symbols": "user symbols",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    ``name`` is stable, ``found`` is for people: the value seen, or what failed. ``remedy`` is
    "" where there is nothing to do. ``warn`` costs something, ``fail`` keeps ``hold-times``
    from working.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""

    @property
    def title(self) -> str:
        """The name as text shows it."""
        return TITLES.get(self.name, self.name)


@dataclass(frozen=True)
class Diagnosis(Shown):
    """All checks of a host. ``event_cost_ns`` is what tracing adds to an event, about."""

    host: Host
    checks: tuple[Check, ...]
    #: What this kernel's events carry besides the lock; None: not known.
    event_layout: Optional[EventLayout]
    #: By which way ``hold-times`` attaches, ``tp_btf`` or ``tp``; None: by none.
    attach: Optional[str]
    event_cost_ns: Optional[int]

    @property
    def works(self) -> bool:
        """Whether ``hold-times`` would work: nothing failed."""
        return not self.count("fail")

    def count(self, verdict: Verdict) -> int:
        """How many checks came out so."""
        return sum(check.verdict == verdict for check in self.checks)
