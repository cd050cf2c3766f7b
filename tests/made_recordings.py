"""Random recordings, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from tests import recordings
from tests.recordings import LONG, START_NS, Cycle, Plan

#: Times that are likely to be got wrong: around the edges of buckets and of 32 bits.
times_ns = st.one_of(
    st.integers(0, 64),
    st.integers(0, 42).flatmap(lambda bit: st.integers((1 << bit) - 1, (1 << bit) + 1)),
    st.sampled_from([LONG - 1, LONG, LONG + 1]),
    st.integers(0, 10_000_000),
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
ROWS = 6


def one_cycle(rows: int = ROWS) -> st.SearchStrategy[Cycle]:
    kind = st.builds(
        lambda ending, without, contended: ending + 8 * without + 16 * contended,
        st.integers(0, 5), st.booleans(), st.booleans(),
    )  # fmt: skip
    # A cycle begins after the clock did; those of a block are within 2^32 ns.
    return st.builds(
        Cycle, st.integers(1, rows), st.integers(0, 4_000_000_000), _up_to_half, _up_to_half, kind,
        st.integers(0, 3), st.integers(0, 3),
    )  # fmt: skip


_up_to_half = times_ns.map(lambda ns: min(ns, START_NS // 2))


@st.composite
def plans(draw: st.DrawFn, *, whole: bool = False) -> Plan:
    """Recordings with rows of several threads and processes, and execs; ``whole``: not cut."""
    starts = st.integers(1, 2)
    processes = [
        recordings.process(mm, draw(st.integers(0, 3)), draw(names), start_ns=draw(starts))
        for mm in draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    ]
    rows = [
        recordings.row(
            number, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 3)),
            draw(st.integers(0, 5)), draw(names), draw(st.sampled_from([9, 11, 0x20000, 0x20001])),
            draw(st.integers(0, 1)), named_ns=draw(st.integers(0, 3)),
        )
        for number in [*range(1, ROWS + 1), *draw(st.lists(st.integers(1, ROWS), max_size=3))]
    ]  # fmt: skip
    cycles = draw(st.lists(st.lists(one_cycle(), min_size=1, max_size=12), max_size=4))
    return Plan(processes, rows, cycles, [_STACKS], whole or draw(st.booleans()))


_STACKS = {
    "first": {"strings": 0, "frames": 0, "stacks": 0},
    "strings": ["do_mmap", "[kernel]", "main", "a.out", "truncated"],
    "frames": [[0xFFFFFFFF81000000, 0, 163, 1], [4096, 2, 1, 3], [8192, -1, -1, -1]],
    "stacks": [[[0], [], None], [[0], [1, 2], 4]],
    "ids": [[1, 0], [2, 1], [3, 0]],
}
