"""A tracer in a child that the tracing program forks: it is its parent's."""

from __future__ import annotations

import os
from typing import Callable

import pytest

from corelock import Tracer
from corelock.tracer import ATTACH, Attach
from tests.cli.bpf_objects import held_by
from tests.forks import in_child, refused
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


def is_refused(tracer: Tracer) -> bool:
    return refused(tracer.stop)


def closes_all(tracer: Tracer) -> bool:
    before = held_by(os.getpid())
    tracer.close()
    tracer.close()
    return bool(before) and not held_by(os.getpid())


@pytest.mark.parametrize("attach", ATTACH)
@pytest.mark.parametrize("use", [is_refused, closes_all])
def test_a_child_leaves_its_parents_tracing_alone(
    use: Callable[[Tracer], bool], attach: Attach
) -> None:
    with Workload("storm", "1", "100") as storm:
        with Tracer(pid=storm.pid, attach=attach) as tracer:
            in_child(lambda: use(tracer))
            storm.run()
            tracer.stop()
            rows = tracer.snapshot().rows
            assert sum(row.acquisitions for row in rows if row.mode == "write") == 300
            assert tracer.accounting().complete


def test_what_was_stopped_can_be_stopped_again() -> None:
    with Tracer(pid=os.getpid()) as tracer:
        tracer.stop()
        in_child(lambda: tracer.stop() is None)
