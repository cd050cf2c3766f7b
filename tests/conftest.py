"""What all tests share: when kernel tests may be skipped, and the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from hypothesis import settings

from tests.cli.command import Corelock

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Set to 1 where kernel tests must run: a skipped one is a failure then.
VARIABLE = "CORELOCK_KERNEL_TESTS"

_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def bpf_obstacle() -> Optional[str]:
    """Why kernel tests cannot run here, or None if they can."""
    if not sys.platform.startswith("linux"):
        return "this is not Linux"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel has no BTF"
    # Namespaces and foreign processes need root, BPF alone its capabilities.
    if os.geteuid() != 0:
        return "not root"
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    return f"missing {', '.join(missing)}" if missing else None


def _must_run() -> bool:
    return os.environ.get(VARIABLE) == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip kernel tests where they cannot run, unless they must."""
    obstacle = None if _must_run() else bpf_obstacle()
    if obstacle is None:
        return
    for item in items:
        if item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"{obstacle} ({VARIABLE}=1 to insist)"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Make a skip of a kernel test a failure where kernel tests must run."""
    outcome: Any = yield
    report = outcome.get_result()
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and _must_run() and item.get_closest_marker("kernel"):
        # A skip's longrepr is (path, line, reason).
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{VARIABLE}=1, yet this kernel test was skipped: {reason}"


@pytest.fixture()
def corelock_background() -> Iterator[Callable[..., Corelock]]:
    """``corelock_background(*arguments) -> Corelock``: runs it, and waits until it traces."""
    with ExitStack() as running:

        def start(*arguments: object, **options: Any) -> Corelock:
            return running.enter_context(Corelock(*arguments, **options)).wait_attached()

        yield start
