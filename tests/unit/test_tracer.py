"""What the tracer keeps, without a kernel."""

from __future__ import annotations

import pytest

from corelock import tracer
from corelock.model import SlowEvent, UserContext


def event(duration_ns: int) -> SlowEvent:
    return SlowEvent(
        kind="hold", start_ns=0, duration_ns=duration_ns, mm_pid=1, mm_host_pid=1,
        mm_comm="p", pid=1, tid=1, host_pid=1, host_tid=1,
        comm="t", mode="write", operation="mmap", kernel_stack=(), user_stack=(),
        user_stack_full=False, stack_failed=False,
        user_context=UserContext(0x1000, 0x2000, 0, 0, 128, bytes(16384)), process_key=0,
    )  # fmt: skip


def test_copied_stacks_are_kept_of_the_longest_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "_WHOLE_EXAMPLES", 3)
    traced = tracer.Tracer(pid=1, blame=True)
    # Each longer than the one before of its row, as they come.
    for row, duration_ns in (1, 10), (2, 30), (1, 40), (3, 20), (4, 50), (5, 5), (2, 60):
        traced._remember((row, "hold"), event(duration_ns))
    kept = {row: one.duration_ns for (row, _), one in traced._examples.items()}
    assert kept == {1: 40, 2: 60, 3: 20, 4: 50, 5: 5}
    whole = {row for (row, _), one in traced._examples.items() if one.user_context is not None}
    assert whole == {1, 2, 4}
