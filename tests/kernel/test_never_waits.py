"""A target's lock is held from before the tool's first look until after it has gone."""

from __future__ import annotations

import json

import pytest

from corelock import HolderSampler
from corelock.errors import UnusableFile
from corelock.probes.libraries import find_file
from tests.cli.command import Corelock
from tests.locks import let_queue, queue_length
from tests.witness import Ftrace
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    "arguments", [["hold-times", "--slow-us", "0"], ["blame"], ["hold-times", "--blame"]]
)
def test_tracing(arguments: list[str]) -> None:
    """Starts, has stacks to look up, prints and exits, and never asks for the lock."""
    with Workload("lock_chain", "write", "wrw") as chain, HolderSampler() as sampler:
        with Ftrace() as ftrace, Corelock(*arguments, "-p", chain.pid, "-v", "--json") as tool:
            tool.wait_attached()
            # The holder's own wait is an event with a stack, and from then on its lock is held.
            chain.run()
            let_queue(chain, sampler, 3)
            tool.interrupt()
            result = tool.finish()
            # All this time.
            assert queue_length(sampler, chain.pid) == 3
            events = ftrace.stop()
            assert ftrace.lost == 0
        mms = {event.mm for event in events if event.tid in chain.extra}
        threads = {event.tid for event in events if event.mm in mms}
        chain.finish()
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["accounting"]["self"] == 0
    assert report["accounting"]["held_at_end"] == 4
    assert report["accounting"]["open_waits"] == 3
    # The holder, and those that wait.
    assert len(threads) == 4
    if "--slow-us" in arguments:
        assert report["slow"]
        assert "its mmap_lock is held" in result.err


def test_waits_that_do_not_end_are_not_passed_over() -> None:
    with Workload("lock_chain", "write", "wr") as chain, HolderSampler() as sampler:
        chain.run()
        with Corelock("blame", "-p", chain.pid) as tool:
            tool.wait_attached()
            let_queue(chain, sampler, 2)
            tool.interrupt()
            result = tool.finish()
        chain.finish()
    assert "STILL WAITING: 2, in no number here" in result.out
    assert "no lock was waited for" not in result.out


def test_finding_what_to_probe() -> None:
    """A library of a process that may not be asked for its mappings now."""
    with Workload("lock_chain", "write", "w") as chain, HolderSampler() as sampler:
        with Ftrace() as ftrace:
            chain.run()
            let_queue(chain, sampler, 1)
            with pytest.raises(UnusableFile, match="its mmap_lock is held"):
                find_file("libc", chain.pid)
            # Its own program is had without asking.
            assert find_file("lock_chain", chain.pid).shown_name == "lock_chain"
            assert queue_length(sampler, chain.pid) == 1
            events = ftrace.stop()
            assert ftrace.lost == 0
        chain.finish()
    mms = {event.mm for event in events if event.tid in chain.extra}
    assert len({event.tid for event in events if event.mm in mms}) == 2


def test_holders() -> None:
    with Workload("lock_chain", "write", "w") as chain, HolderSampler() as sampler:
        with Ftrace() as ftrace:
            chain.run()
            let_queue(chain, sampler, 1)
            with Corelock("holders", "-p", chain.pid, "--waiters", "--json") as tool:
                result = tool.finish()
            assert queue_length(sampler, chain.pid) == 1
            events = ftrace.stop()
            assert ftrace.lost == 0
        chain.finish()
    mms = {event.mm for event in events if event.tid in chain.extra}
    # The holder, and the one that waits.
    assert len({event.tid for event in events if event.mm in mms}) == 2
    (lock,) = result.json["locks"]
    assert lock["holder"]["thread"]["comm"] == "chain-holder"
    assert [waiter["thread"]["comm"] for waiter in lock["waiters"]] == ["chain-1"]
