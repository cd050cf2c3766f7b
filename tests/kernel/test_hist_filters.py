"""Any filter against Python's evaluation of the same expression on the same events, by ftrace."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corelock
from tests import event_workload
from tests.event_witness import EventWitness, Record
from tests.kernel.test_hist import CALLS, ENTER, signed
from tests.workloads import Workload

pytestmark = pytest.mark.kernel


class Expression(NamedTuple):
    """What a user writes, and the same for Python."""

    text: str
    python: str


NUMBERS = ("fd", "count", "pos", "tid", "cpu", "pid")
CONSTANTS = st.sampled_from(
    [0, 1, 7, 8, 100, 4000, 4001, 4096, -1, 1 << 20, 1 << 40, -(1 << 40), (1 << 63) - 1]
)
RELATIONS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


@st.composite
def comparisons(draw: st.DrawFn) -> Expression:
    if draw(st.integers(0, 3)) == 0:
        relation = draw(st.sampled_from(["==", "!="]))
        name = draw(st.sampled_from([*event_workload.THREADS, "none", ""]))
        return Expression(f'comm {relation} "{name}"', f"comm {relation} {name!r}")
    left, relation = draw(st.sampled_from(NUMBERS)), draw(RELATIONS)
    right = draw(CONSTANTS.map(str) | st.sampled_from(NUMBERS))
    if draw(st.booleans()):
        return Expression(f"{left} {relation} {right}", f"{left} {relation} {right}")
    mask = draw(st.sampled_from([1, 6, 0xFF, 0xF000, 1 << 31]))
    return Expression(f"{left} & {mask:#x}", f"({left} & {mask}) != 0")


def grown(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(
        parts.map(lambda one: Expression(f"!({one.text})", f"not ({one.python})")),
        several.map(lambda found: joined(found, "&&", "and")),
        several.map(lambda found: joined(found, "||", "or")),
    )


def joined(parts: list[Expression], word: str, python: str) -> Expression:
    return Expression(
        f" {word} ".join(f"({part.text})" for part in parts),
        f" {python} ".join(f"({part.python})" for part in parts),
    )


EXPRESSIONS = st.recursive(comparisons(), grown, max_leaves=12)


def fields_of(record: Record, pid: int, names: dict[int, str]) -> dict[str, object]:
    return {
        **{field: signed(record, field) for field in ("fd", "count", "pos")},
        "tid": record.tid,
        "pid": pid,
        "cpu": record.cpu,
        "comm": names[record.tid],
    }


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EXPRESSIONS, min_size=8, max_size=8))
def test_any_filter(expressions: list[Expression]) -> None:
    """Several at once on one run, each with a program of its own."""
    command = [sys.executable, "-m", "tests.event_workload"]
    with Workload("", command=command) as workload, ExitStack() as stack:
        all_made = [
            stack.enter_context(
                corelock.Histograms(f"t:{ENTER}:pos", pid=workload.pid, filter=one.text)
            )
            for one in expressions
        ]
        ftrace = stack.enter_context(EventWitness(ENTER))
        names = dict(zip(workload.extra, event_workload.THREADS))
        workload.run()
        records = [record for record in ftrace.stop() if record.tid in names]
        snapshots = [made.stop() for made in all_made]
        workload.finish()
    assert len(records) == CALLS
    events = [fields_of(record, workload.pid, names) for record in records]
    for one, snapshot in zip(expressions, snapshots):
        accepted = [event["pos"] for event in events if eval(one.python, {}, event)]
        (measured,) = snapshot.measures
        counted = [(x.count, x.sum) for x in measured.histograms.values()]
        assert sum(count for count, _ in counted) == len(accepted), one.text
        assert sum(total for _, total in counted) == sum(accepted), one.text  # type: ignore[arg-type]
        assert measured.accounting.filtered == CALLS - len(accepted)
