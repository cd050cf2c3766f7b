"""Whether this host lets corelock work, and what that would cost: :func:`doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Optional

from corelock import hostfiles
from corelock._native import HostFacts, Options, Session
from corelock.arguments import FileName, file_name
from corelock.diagnosis import Check, Diagnosis, EventLayout, Verdict
from corelock.errors import CorelockError
from corelock.model import Host
from corelock.tracer import ATTACH, Attach
from corelock.trial import Trial, event_cost_ns, try_tracing

_CAP_SYS_PTRACE, _CAP_SYS_ADMIN = 19, 21


def doctor(*, btf: Optional[FileName] = None) -> Diagnosis:
    """Look at everything that tracing needs here, and trace this thread for a moment.

    Takes about a second. ``btf`` is as of :class:`~corelock.Tracer`. Raises nothing over what
    the host lacks: that is what it reports; only InvalidArgument for what is no file's name.

    >>> import corelock
    >>> diagnosis = corelock.doctor()
    >>> diagnosis.works, diagnosis.attach
    (True, 'tp_btf')
    """
    return _Doctor(file_name("btf", btf)).diagnosis()


class _Doctor:
    def __init__(self, btf: Optional[str]) -> None:
        self._btf = btf
        self._session: Optional[Session] = None
        self._facts = HostFacts(0, False, None)
        #: Of each check that failed or was not tried, by name, the one that failed.
        self._failed: dict[str, Check] = {}
        self._layout: Optional[EventLayout] = None
        self._trial: Optional[Trial] = None
        self._cost_ns: Optional[int] = None

    def diagnosis(self) -> Diagnosis:
        host = Host.this()
        checks = [Check("kernel", "pass", f"Linux {host.kernel}, {host.arch}")]
        try:
            checks += self._checks()
        finally:
            if self._session is not None:
                self._session.close()
        attach = self._trial.attached_by if self._trial else None
        return Diagnosis(host, tuple(checks), self._layout, attach, self._cost_ns)

    def _checks(self) -> Iterator[Check]:
        yield self._tried("library", (), "matches this package", self._open)
        self._look_at_host()
        yield self._asked("capabilities", ("library",), self._capabilities())
        yield self._asked("bpf", ("capabilities",), "programs can be loaded")
        btf_needs = ("bpf",) if self._btf else ("library",)
        yield self._asked("btf", btf_needs, self._btf or "/sys/kernel/btf/vmlinux")
        tracepoints = self._asked("tracepoints", ("btf",), "")
        if tracepoints.verdict == "pass":
            self._look_at_host()
            self._layout = "memcg_path" if self._facts.memcg_path else "memcg_id"
            found = f"mmap_lock's three; events carry a {self._layout}"
            tracepoints = replace(tracepoints, found=found)
        yield tracepoints
        types = "tracing; task storage and ring buffer maps"
        yield self._asked("program_types", ("bpf", "tracepoints"), types)
        holders = self._tried(
            "holders", ("btf",), "locks say who holds them", lambda: self._check("LOCK_WORDS")
        )
        # hold-times does without.
        yield replace(holders, verdict="warn") if holders.verdict == "fail" else holders
        yield hostfiles.lockdown()
        yield hostfiles.unprivileged_bpf()
        can_ptrace = self._has(_CAP_SYS_PTRACE)
        yield self._noted(hostfiles.proc(can_ptrace))
        yield hostfiles.tracefs()
        yield hostfiles.kernel_symbols()
        yield hostfiles.user_symbols(can_ptrace)
        yield from self._trials()

    def _open(self) -> None:
        self._session = Session()
        self._session.configure(Options(btf=self._btf))

    def _look_at_host(self) -> None:
        if self._session is not None:
            self._facts = self._session.look_at_host()

    def _has(self, capability: int) -> bool:
        return bool(self._facts.capabilities >> capability & 1)

    def _capabilities(self) -> str:
        if self._has(_CAP_SYS_ADMIN):
            return "CAP_SYS_ADMIN, which stands for CAP_BPF and CAP_PERFMON"
        return "CAP_BPF and CAP_PERFMON"

    def _noted(self, check: Check, cause: Optional[Check] = None) -> Check:
        if check.verdict == "fail":
            self._failed[check.name] = cause or check
        return check

    def _asked(self, name: str, needs: tuple[str, ...], passes: str) -> Check:
        """One of the library's own checks."""
        return self._tried(name, needs, passes, lambda: self._check(name.upper()))

    def _check(self, which: str) -> None:
        assert self._session is not None
        self._session.check(which)

    def _tried(
        self, name: str, needs: tuple[str, ...], passes: str, call: Callable[[], object]
    ) -> Check:
        """Whether ``call`` goes well; it is not tried if one of what it needs did not."""
        causes = [self._failed[need] for need in needs if need in self._failed]
        if causes:
            return self._noted(Check(name, "fail", f"not tried: see {causes[0].title}"), causes[0])
        try:
            call()
        except CorelockError as error:
            return self._noted(Check(name, "fail", error.message, error.remedy))
        except (OSError, MemoryError) as error:
            return self._noted(Check(name, "fail", f"{type(error).__name__}: {error}"))
        return Check(name, "pass", passes)

    def _jit(self) -> Check:
        if self._facts.jit is None:
            return Check("jit", "warn", "not known: no program could be loaded")
        if self._facts.jit:
            return Check("jit", "pass", "programs are compiled")
        verdict: Verdict = "fail" if self._trial is None else "warn"
        remedy = "sysctl net.core.bpf_jit_enable=1"
        return Check("jit", verdict, "off: programs are interpreted, if at all", remedy)

    def _trials(self) -> Iterator[Check]:
        """By the way that hold-times takes by itself, and by the other."""
        chosen = self._try(None)
        for way in ATTACH:
            if self._trial is not None and way == self._trial.attached_by:
                yield chosen
                continue
            other = self._try(way)
            if self._trial is not None and other.verdict == "fail":
                spare = f"Not needed while {self._trial.attached_by} works. {other.remedy}"
                other = replace(other, verdict="warn", remedy=spare)
            yield other
        yield self._jit()
        yield self._cost()

    def _try(self, way: Optional[Attach]) -> Check:
        trial: Optional[Trial] = None

        def call() -> None:
            nonlocal trial
            trial = try_tracing(way, self._btf)

        tried = self._tried(f"attach_{way}", ("program_types", "proc"), "", call)
        if trial is None:
            return tried
        if way is None:
            self._trial = trial
        name = f"attach_{trial.attached_by}"
        if trial.problem:
            remedy = "Please report this with the kernel's version."
            return self._noted(Check(name, "fail", trial.problem, remedy))
        use = "chosen" if way is None else "works, too"
        return Check(name, "pass", f"{use}; counted {trial.locks:,} of {trial.locks:,} locks")

    def _cost(self) -> Check:
        found = self._measured()
        verdict: Verdict = "warn" if self._cost_ns is None else "pass"
        if self._layout != "memcg_path":
            return Check("event_cost", verdict, found)
        return Check(
            "event_cost", "warn",
            f"{found}; this kernel writes a cgroup's path into each event that is traced",
            "Kernels from Linux 6.14 on do not, and events cost less there.",
        )  # fmt: skip

    def _measured(self) -> str:
        if self._trial is None:
            return "not measured: nothing could be traced"
        try:
            self._cost_ns = event_cost_ns(self._trial, self._btf)
        except (CorelockError, OSError, MemoryError) as error:
            return f"not measured: {error}"
        return f"about {self._cost_ns:,} ns by {self._trial.attached_by}, in a tight loop"
