"""What the tracer keeps, without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

import corelock
from corelock import target, tracer
from corelock.model import SlowEvent, UserContext


def event(duration_ns: int) -> SlowEvent:
    return SlowEvent(
        kind="hold", start_ns=0, duration_ns=duration_ns, mm_pid=1, mm_host_pid=1,
        mm_comm="p", pid=1, tid=1, host_pid=1, host_tid=1,
        comm="t", mode="write", operation="mmap", kernel_stack=(), user_stack=(),
        user_stack_full=False, stack_failed=False,
        user_context=UserContext(0x1000, 0x2000, 0, 0, 128, bytes(16384)), process_key=0,
        program=None,
    )  # fmt: skip


def test_room_that_is_given_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(target, "host_thread_count", lambda: asked.append(True) or 40_000)
    assert tracer.Tracer(everything=True)._options().max_rows == 320_000
    assert asked == [True]
    options = tracer.Tracer(everything=True, max_rows=1000)._options()
    assert (options.max_rows, options.max_mms) == (1000, 32768)
    assert tracer.Tracer(everything=True, max_rows=100_000)._options().max_mms == 100_000
    assert asked == [True]


def test_without_a_count_of_threads_there_is_the_least_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "PROC", tmp_path)
    assert tracer.Tracer(everything=True)._options().max_rows == 32768


def test_what_results_are_of_has_names() -> None:
    """Types that one meets in what is returned can be imported."""
    assert {"Cgroup", "Check"} <= set(corelock.__all__)
    assert all(getattr(corelock, name) for name in corelock.__all__)
    assert corelock.Check("bpf", "pass", "").title == "bpf()"


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
