"""Blame from the kernel's two tables to text and JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock._charges import RawCharge, assemble_charges
from corelock._rows import Reading
from corelock.blame import (
    Blame,
    Certainty,
    Charge,
    Contention,
    ResolvedBlame,
    resolved,
)
from corelock.export.blame import write_blame_json
from corelock.export.jsonout import hold_times_object, write_json
from corelock.model import Mode, Report, ResolvedSlowEvent, Row, SlowKind
from corelock.render.blame import blame_lines
from corelock.render.blame_grouping import (
    BLAME_BY,
    foreign_holders,
    largest_pairs,
    pairs,
    process_names,
)
from corelock.render.report import BlameOptions, TextOptions, render_blame, text_lines
from corelock.render.text import cells
from tests import reports
from tests.reports import KERNEL_STACK, NO_TIMES, USER_STACK, report, row, slow, times

MS = 1_000_000
CERTAINTIES: tuple[Certainty, ...] = ("observed", "convoy", "owner-word")

SERVER_MAIN = row("redis-server", 4210, "mmap", "write", wait=times([5 * MS, 400]),
                  hold=times([MS]))  # fmt: skip
WORKER = row("worker", 4211, "page-fault", "read", wait=times([9 * MS, 3 * MS]), hold=times([800]))
FREER = row("bio_lazy_free", 4212, "munmap", "write", wait=times([100]), hold=times([6 * MS]))
HTOP = row("htop", 999, "pread64", "read", pid=999, wait=times([70]), hold=times([2 * MS, 8 * MS]))


def blame(
    charges: Sequence[Charge],
    rows: Optional[Sequence[Row]] = None,
    unheld_ns: int = 0,
    examples: Iterable[tuple[Row, SlowKind, ResolvedSlowEvent]] = (),
) -> Blame:
    """Blame in which all of the charged rows' long waits are contended, and the sums are right."""
    if rows is None:
        of_charges = [each for c in charges for each in (c.waiter, c.holder)]
        rows = list({each.key: each for each in of_charges}.values())
    contentions = []
    for waiter in {c.waiter.key: c.waiter for c in charges}.values():
        charged_ns = sum(c.charged_ns for c in charges if c.waiter.key == waiter.key)
        rest_ns = waiter.wait.total_ns - charged_ns
        contentions.append(
            Contention(waiter, waiter.wait.count, waiter.wait.total_ns, rest_ns,
                       min(unheld_ns, rest_ns))
        )  # fmt: skip
    return Blame(
        reports.START_NS, 10 * MS, tuple(rows), tuple(contentions), tuple(charges),
        {(each.key, kind): one.event for each, kind, one in examples},
    )  # fmt: skip


def charge(
    waiter: Row, holder: Row, ns: int = MS, waits: int = 1, longest_ns: Optional[int] = None,
    certainty: Certainty = "observed",
) -> Charge:  # fmt: skip
    return Charge(waiter, holder, certainty, ns, waits, ns if longest_ns is None else longest_ns)


def blamed(found: Blame, examples: Any = (), **changes: object) -> Report:
    """A report with this blame."""
    by_key = {(each.key, kind): one for each, kind, one in examples}
    return report(*found.rows, blame=ResolvedBlame(found, by_key), **changes)


REALISTIC = blame(
    [
        charge(WORKER, FREER, 6 * MS, 2, 5 * MS),
        charge(WORKER, HTOP, 4 * MS, 2, 3 * MS, "convoy"),
        charge(SERVER_MAIN, HTOP, 4 * MS, 1),
        charge(SERVER_MAIN, FREER, MS // 2, 1, certainty="owner-word"),
    ],
    unheld_ns=MS // 2,
)


# --- from readings and raw charges --------------------------------------------------------------


def reading(
    index: int, mm: int = 1, thread: int = 1, *, contention: tuple[int, ...] = (0, 0, 0, 0),
    idle: bool = False, operation: str = "mmap", start: int = 5,
) -> Reading:  # fmt: skip
    some = NO_TIMES if idle else times([10 * index])
    one = Row(mm, thread, 7, 7, f"p{mm}", 7, 70 + thread, 7, 70 + thread, f"t{mm}", "write",
              operation, 0, 0, 0, some, some)  # fmt: skip
    return Reading(one, mm, start, index, contention)


def test_charges_name_rows_that_are_among_the_rows() -> None:
    found = assemble_charges(
        [reading(1, contention=(2, 30, 10, 4)), reading(2, thread=2)],
        [RawCharge(1, 2, "observed", 20, 2, 15)],
    )
    [one] = found.charges
    assert (one.waiter, one.holder) == found.rows
    assert one == Charge(found.rows[0], found.rows[1], "observed", 20, 2, 15)
    assert found.contentions == (Contention(found.rows[0], 2, 30, 10, 4),)
    assert found.row_of == {1: found.rows[0], 2: found.rows[1]}


def test_exec_merges_charges_contentions_and_both_sides() -> None:
    """Rows 1 and 2 are of the first mm, 3 and 4 of the one that exec made."""
    found = assemble_charges(
        [
            reading(1, mm=1, contention=(1, 10, 3, 2)), reading(2, mm=1, thread=2),
            reading(3, mm=2, contention=(2, 30, 5, 4)), reading(4, mm=2, thread=2),
        ],
        [RawCharge(1, 2, "observed", 7, 1, 7), RawCharge(3, 4, "observed", 25, 2, 20)],
    )  # fmt: skip
    waiter, holder = found.rows
    assert (waiter.process_key, waiter.mm_comm, waiter.comm) == (1, "p2", "t2")
    assert (waiter.wait.total_ns, holder.hold.total_ns) == (10 + 30, 20 + 40)
    assert found.charges == (Charge(waiter, holder, "observed", 32, 3, 20),)
    assert found.contentions == (Contention(waiter, 3, 40, 8, 6),)
    assert found.row_of[1] is found.row_of[3] is waiter
    whole = Blame(0, 1, found.rows, found.contentions, found.charges, {})
    # Row 2's waits, of 20 and 40 ns, were in nobody's way.
    assert (whole.wait_ns, whole.charged_ns, whole.unknown_ns) == (40 + 60, 32, 8 + 60)
    assert whole.uncontended_ns == 60
    assert whole.unaccounted_ns == 0


def test_what_differs_in_certainty_or_process_is_not_merged() -> None:
    found = assemble_charges(
        [reading(1), reading(2, thread=2), reading(3, mm=2, start=6)],
        [
            RawCharge(1, 2, "observed", 1, 1, 1), RawCharge(1, 2, "owner-word", 2, 1, 2),
            RawCharge(3, 2, "observed", 4, 1, 4),
        ],
    )  # fmt: skip
    assert [each.charged_ns for each in found.charges] == [1, 2, 4]


def test_holder_without_counts_is_charged_but_no_row() -> None:
    found = assemble_charges(
        [reading(1), reading(2, thread=2, idle=True, operation="unknown")],
        [RawCharge(1, 2, "owner-word", 5, 1, 5)],
    )
    assert [each.tid for each in found.rows] == [71]
    [one] = found.charges
    assert (one.holder.tid, one.holder.operation, one.holder.holds) == (72, "unknown", 0)
    assert found.row_of[2] == one.holder


@pytest.mark.parametrize(("waiter", "holder"), [(1, 9), (9, 1), (8, 9), (0, 1)])
def test_charge_of_rows_not_yet_read_is_left_out(waiter: int, holder: int) -> None:
    found = assemble_charges([reading(1)], [RawCharge(waiter, holder, "observed", 5, 1, 5)])
    assert found.charges == ()
    assert len(found.rows) == 1


def test_nothing_at_all() -> None:
    assert assemble_charges([], []) == ((), (), (), {})


# --- sums, the largest, examples ----------------------------------------------------------------


def test_sums() -> None:
    assert REALISTIC.wait_ns == 17 * MS + 400 + 100 + 70
    assert REALISTIC.charged_ns == 14 * MS + MS // 2
    assert REALISTIC.uncontended_ns == 100 + 70
    assert REALISTIC.unknown_ns == REALISTIC.wait_ns - REALISTIC.charged_ns
    assert REALISTIC.unaccounted_ns == 0


def test_unaccounted_is_what_the_parts_lack() -> None:
    [one] = blame([charge(WORKER, FREER, MS)]).contentions
    wrong = replace(one, unknown_ns=one.unknown_ns - 5)
    assert replace(blame([charge(WORKER, FREER, MS)]), contentions=(wrong,)).unaccounted_ns == 5


def test_largest_is_in_order_and_the_same_whatever_the_order_was() -> None:
    same = [charge(w, h, MS, certainty=c) for w in (WORKER, SERVER_MAIN) for h in (FREER, HTOP)
            for c in CERTAINTIES]  # fmt: skip
    bigger = charge(WORKER, SERVER_MAIN, 2 * MS)
    one, other = blame([*same, bigger]), blame([bigger, *reversed(same)])
    assert one.largest(0) == other.largest(0)
    assert one.largest(1) == [bigger]
    assert one.largest(3) == one.largest(0)[:3]
    assert len(one.largest(99)) == 13


def test_examples_are_resolved_once_and_only_for_these_charges() -> None:
    events = [(WORKER, "wait", slow("wait")), (HTOP, "hold", slow(tid=1)),
              (FREER, "hold", slow(tid=2)), (WORKER, "hold", slow(tid=3))]  # fmt: skip
    found = blame([charge(WORKER, HTOP), charge(SERVER_MAIN, HTOP), charge(WORKER, FREER)],
                  examples=events)  # type: ignore[arg-type]  # fmt: skip
    asked = []

    def resolve(event: Any) -> ResolvedSlowEvent:
        asked.append(event)
        return ResolvedSlowEvent(event, (), (), None)

    result = resolved(found, resolve, found.charges[:2])
    assert list(result.examples) == [(WORKER.key, "wait"), (HTOP.key, "hold")]
    assert asked == [found.example(WORKER, "wait"), found.example(HTOP, "hold")]
    assert found.example(SERVER_MAIN, "wait") is None
    assert resolved(found, resolve, ()).examples == {}


# --- grouping -----------------------------------------------------------------------------------


def test_by_thread_is_charge_by_charge() -> None:
    found = pairs(REALISTIC, "thread")
    assert [p.charged_ns for p in found] == [6 * MS, 4 * MS, 4 * MS, MS // 2]
    assert all(p.exact for p in found)
    first = found[0]
    assert first.waiter == (("worker", 4211), False, "page-fault", "read")
    assert first.holder == (("bio_lazy_free", 4212), False, "munmap", "write")
    assert (first.waits, first.longest_ns) == (2, 5 * MS)


def test_by_operation_threads_are_added() -> None:
    other = replace(WORKER, thread_key=8, tid=8, comm="worker-2")
    found = pairs(blame([charge(WORKER, FREER, 3), charge(other, FREER, 5)]), "operation")
    [one] = found
    assert (one.charged_ns, one.waits, one.longest_ns, one.exact) == (8, 2, 5, True)
    assert one.waiter == (None, False, "page-fault", "read")


def test_waits_behind_several_holders_of_a_group_may_be_counted_twice() -> None:
    other = replace(FREER, thread_key=8, tid=8)
    [one] = pairs(blame([charge(WORKER, FREER, 3, 2), charge(WORKER, other, 5, 7)]), "operation")
    assert (one.waits, one.exact) == (9, False)
    assert one.longest_ns == 5


def test_by_process_foreigners_and_modes_stay_apart() -> None:
    other = replace(HTOP, thread_key=998, tid=998, comm="htop-2")
    writer = replace(HTOP, mode="write", operation="munmap")
    found = pairs(
        blame([charge(WORKER, HTOP, 9), charge(WORKER, other, 1), charge(WORKER, writer, 5),
               charge(SERVER_MAIN, FREER, 4)]),
        "process",
    )  # fmt: skip
    shown = [(p.charged_ns, p.waiter.who, p.holder.who, p.holder.mode) for p in found]
    assert shown == [
        (10, ("redis-server", 4210), ("htop", 999), "read"),
        (5, ("redis-server", 4210), ("htop", 999), "write"),
        (4, ("redis-server", 4210), ("redis-server", 4210), "write"),
    ]
    assert all(p.waiter.operation is p.holder.operation is None for p in found)


def test_certainties_stay_apart() -> None:
    certain = [charge(WORKER, FREER, 1), charge(WORKER, FREER, 1, certainty="owner-word")]
    for by in BLAME_BY:
        assert {p.certainty for p in pairs(blame(certain), by)} == {"observed", "owner-word"}


@settings(max_examples=50)
@given(st.randoms(use_true_random=False), st.sampled_from(BLAME_BY))
def test_order_does_not_depend_on_the_tables(chance: Any, by: str) -> None:
    sides = [WORKER, SERVER_MAIN, FREER, HTOP]
    charges = [charge(w, h, MS * (1 + n % 3), certainty=c) for w in sides
               for n, h in enumerate(sides) for c in CERTAINTIES]  # fmt: skip
    shuffled = charges[:]
    chance.shuffle(shuffled)
    ordered = pairs(blame(charges, sides), by)
    assert ordered == pairs(blame(shuffled, sides), by)
    for top in range(1, len(ordered) + 2):
        assert largest_pairs(blame(shuffled, sides), by, top) == (ordered[:top], len(ordered))


def test_unknown_grouping() -> None:
    with pytest.raises(ValueError, match="cannot group by 'mode', only by thread, operation"):
        pairs(REALISTIC, "mode")


def test_foreign_holders() -> None:
    other = replace(HTOP, thread_key=998, tid=998, comm="htop-2", hold=times([9 * MS]))
    found = foreign_holders(
        blame([charge(WORKER, HTOP, 4 * MS, 2), charge(WORKER, other, MS, 3),
               charge(SERVER_MAIN, HTOP, 2 * MS, 1), charge(WORKER, FREER, 3 * MS)])
    )  # fmt: skip
    [one] = found
    assert (one.name, one.mode) == (("htop", 999), "read")
    assert (one.holds, one.longest_ns) == (3, 9 * MS)
    assert one.waits == (3 + 1, 2 + 3 + 1)
    assert one.charged_ns == 7 * MS


def test_foreign_holder_that_was_never_counted() -> None:
    ghost = replace(HTOP, operation="unknown", mode="write", hold=NO_TIMES, wait=NO_TIMES)
    [one] = foreign_holders(blame([charge(WORKER, ghost, 5, certainty="owner-word")], [WORKER]))
    assert (one.name, one.mode, one.holds, one.longest_ns) == (("htop", 999), "write", 0, 0)


def test_process_is_called_as_its_leader() -> None:
    thread = row("htop-reader", 1000, pid=999)
    assert process_names([thread], [])[999] == "htop-reader"
    assert process_names([thread, HTOP], [])[999] == "htop"
    assert process_names([], [charge(WORKER, HTOP)])[999] == "htop"
    # That of the address space is known without any of its own threads.
    assert process_names([HTOP], [])[4210] == "redis-server"


# --- text ---------------------------------------------------------------------------------------


def lines(whole: Report, by: str = "thread", top: int = 20, stacks: int = 0, width: int = 80
          ) -> list[str]:  # fmt: skip
    return list(blame_lines(whole, by=by, top=top, stacks=stacks, width=width))


def table_of(shown: Sequence[str]) -> list[str]:
    """The table: its ruled line, its header, its body."""
    start = next(i for i, line in enumerate(shown) if "- WAITER" in line or "WAITER -" in line)
    table = [*shown[start : start + 2]]
    for line in shown[start + 2 :]:
        if not re.match(r" *[\d.]+[numsh] ", line):
            break
        table.append(line)
    return table


def test_text() -> None:
    assert lines(blamed(REALISTIC)) == [
        "waited 17.0m in 6 waits: charged 14.5m (85.3%), unknown 2.50m",
        "  unknown: 170n uncontended,",
        "    1.00m with no holder seen (waking up, waiting for a CPU),",
        "    1.50m behind more holds than are kept (see docs/blame.md)",
        "*htop[999] read: 2 holds, longest 8.00m, blocked 3 of redis-server's waits",
        "  for 8.00m",
        "",
        "                           --------- WAITER --------  --------- HOLDER ---------",
        "CHARGED    % WAITS LONGEST THREAD       OPERATION  M  THREAD       OPERATION M",
        "  6.00m 35.3     2   5.00m worker[4211] page-fault R  bio_l~[4212] munmap    W",
        "  4.00m 23.5     1   4.00m redis~[4210] mmap       W  *htop[999]   pread64   R",
        "  4.00m 23.5     2   3.00m worker[4211] page-fault R  *htop[999]   pread64   R c",
        "   500u  2.9     1    500u redis~[4210] mmap       W  bio_l~[4212] munmap    W ?",
        "* foreign: another process's thread",
        "c convoy: readers behind readers, because a writer was queued between them",
        "? the lock's owner when the wait began; its hold was not seen whole",
    ]


def test_header_stands_over_its_columns() -> None:
    for by, titles in (
        ("thread", ["THREAD", "OPERATION"]), ("operation", ["OPERATION"]), ("process", ["PROCESS"]),
    ):  # fmt: skip
        ruled, header, *body = table_of(lines(blamed(REALISTIC), by=by))
        left = re.search(r"(?<= )-+ WAITER -+(?= )", ruled)
        right = re.search(r"(?<=  )-+ HOLDER -+$", ruled)
        assert left and right
        assert header[: left.start()].split() == ["CHARGED", "%", "WAITS", "LONGEST"]
        for side in left, right:
            assert header[side.start() : side.end()].split() == [*titles, "M"]
            modes = header.index(" M", side.start()) + 1
            assert {line[modes] for line in body} <= {"R", "W"}
        for line in body:
            assert line[right.start() - 2 : right.start()] == "  "
            assert line[left.start() - 1] == " "
            assert line[left.start()] != " " != line[right.start()]


def two(waiter: str, holder: str, tid: int = 4211, operation: str = "mmap") -> Report:
    """One pair of threads of these names, and a mark."""
    first = row(waiter, tid, operation, wait=times([MS]))
    second = row(holder, tid + 1, operation)
    return blamed(blame([charge(first, second, certainty="owner-word")]))


def test_names_that_just_fit_are_not_cut() -> None:
    fit = table_of(lines(two("w" * 6, "h" * 6)))
    assert "wwwwww[4211]" in fit[2] and "hhhhhh[4212]" in fit[2]
    assert len(fit[2]) == 80
    cut = table_of(lines(two("w" * 7, "h" * 6)))
    assert "wwwww~[4211]" in cut[2] and "hhhhhh[4212]" in cut[2]
    assert len(cut[2]) == 80
    assert "wwwwwww[4211]" in table_of(lines(two("w" * 7, "h" * 6), width=81))[2]


def test_share_gives_way_to_names_that_need_the_room() -> None:
    """Thread ids of seven digits on both sides, and the longest operations."""
    whole = two("x" * 15, "y" * 15, 4_194_302, "process_madvise")
    table = table_of(lines(whole))
    assert table[1].split()[:3] == ["CHARGED", "WAITS", "LONGEST"]
    assert "xxx~[4194302]" in table[2] and "yyy~[4194303]" in table[2]
    assert max(map(len, table)) <= 80
    assert table_of(lines(whole, width=100))[1].split()[:2] == ["CHARGED", "%"]


COMMS = st.text(max_size=15) | st.sampled_from(["\x1b[31mred", "线程池线程", "a\udc80b", "a\nb"])
IDS = st.integers(0, 4_194_304)
MODES: st.SearchStrategy[Mode] = st.sampled_from(["read", "write"])
OPERATIONS = st.sampled_from(["mmap", "page-fault", "process_madvise", "io_uring_register"])


@st.composite
def any_rows(draw: st.DrawFn) -> Row:
    return row(
        draw(COMMS), draw(IDS), draw(OPERATIONS), draw(MODES), pid=draw(IDS),
        mm=(draw(COMMS), draw(IDS)), wait=times([2**44]), hold=draw(st.just(times([7 * MS]))),
    )  # fmt: skip


CHARGES = st.builds(
    charge, any_rows(), any_rows(), st.integers(0, 2**45), st.integers(1, 2**40),
    st.integers(0, 2**45), st.sampled_from(CERTAINTIES),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(CHARGES, max_size=6), st.sampled_from(BLAME_BY), st.integers(80, 200), COMMS)
def test_every_line_fits(some: list[Charge], by: str, width: int, target: str) -> None:
    stacks = [(c.waiter, "wait", slow("wait", comm=target, kernel_stack=KERNEL_STACK,
                                      user_stack=USER_STACK)) for c in some]  # fmt: skip
    # All of them: rows of one key may differ in what a row's key decides, here.
    sides = [each for c in some for each in (c.waiter, c.holder)]
    whole = blamed(blame(some, sides, examples=stacks), stacks)  # type: ignore[arg-type]
    assert whole.target
    whole = replace(whole, target=replace(whole.target, comm=target))
    for line in lines(whole, by=by, top=4, stacks=2, width=width):
        assert cells(line) <= width, line
        assert line.isprintable()
    stream = io.StringIO()
    render_blame(whole, BlameOptions(by, 4, 2, width), stream)
    assert all(cells(line) <= width for line in stream.getvalue().splitlines())


def test_no_mark_and_no_legend_without_need() -> None:
    shown = lines(blamed(blame([charge(WORKER, FREER)])))
    assert not any(line.startswith(("*", "c ", "? ", "~ ")) for line in shown)
    assert table_of(shown)[-1] == shown[-1]


@pytest.mark.parametrize(
    ("certainty", "mark"), [("convoy", "c"), ("owner-word", "?")], ids=["convoy", "owner-word"]
)
def test_each_mark_has_its_legend(certainty: Certainty, mark: str) -> None:
    shown = lines(blamed(blame([charge(WORKER, FREER, certainty=certainty)])))
    *_, line = table_of(shown)
    assert line.endswith(f" {mark}")
    assert [each[0] for each in shown[-1:]] == [mark]


def test_inexact_waits_are_marked() -> None:
    other = replace(FREER, thread_key=8, tid=8)
    shown = lines(blamed(blame([charge(WORKER, FREER, 3), charge(WORKER, other, 5)])), "operation")
    assert table_of(shown)[-1].split()[2] == "~2"
    assert shown[-1] == "~ at most: waits behind several of these are counted for each"


def test_foreign_waits_between_several_numbers() -> None:
    other = replace(HTOP, thread_key=998, tid=998)
    found = blame([charge(WORKER, HTOP, 4 * MS, 2), charge(WORKER, other, MS, 3)])
    assert "blocked 3 to 5 of redis-server's waits" in " ".join(lines(blamed(found)))
    assert "3 to 5 waits of others" in " ".join(lines(blamed(found, target=None)))


def test_only_the_worst_foreigners_have_a_line() -> None:
    many = [charge(WORKER, row(f"f{n}", n, "pread64", "read", pid=n), n * MS) for n in range(1, 9)]
    shown = [line for line in lines(blamed(blame(many))) if " holds, longest " in line]
    assert [line[:3] for line in shown] == ["*f8", "*f7", "*f6", "*f5", "*f4"]


def test_top() -> None:
    shown = lines(blamed(REALISTIC), top=1)
    assert len(table_of(shown)) == 3
    assert shown[-1] == "... and 3 more (use -n)"  # of marks, none is shown
    assert not any(
        "more (use -n)" in line for n in (0, 4) for line in lines(blamed(REALISTIC), top=n)
    )


def test_percentages_are_of_all_waits() -> None:
    found = blame([charge(WORKER, FREER, 3 * MS)], [WORKER, FREER, SERVER_MAIN])
    share = 100 * 3 * MS / (12 * MS + 5 * MS + 500)
    shown = lines(blamed(found))
    assert f"({share:.1f}%)" in shown[0]
    assert table_of(shown)[2].split()[1] == f"{share:.1f}"


def test_unbalanced() -> None:
    [one] = blame([charge(WORKER, FREER, MS)]).contentions
    found = replace(
        blame([charge(WORKER, FREER, MS)]),
        contentions=(replace(one, unknown_ns=one.unknown_ns - 12_345),),
    )
    assert "UNBALANCED by 12,345 ns: these numbers cannot be trusted" in lines(blamed(found))
    assert not any("UNBALANCED" in line for line in lines(blamed(REALISTIC)))


def test_a_run_without_waits() -> None:
    assert lines(blamed(blame([]))) == ["no lock was waited for"]


def test_a_run_with_waits_that_were_nobodys_fault() -> None:
    assert lines(blamed(blame([], [FREER]))) == [
        "waited 100n in 1 waits: charged 0n (0.0%), unknown 100n",
        "  unknown: 100n uncontended",
    ]


def test_stacks_of_both_sides_of_the_largest() -> None:
    examples = [(WORKER, "wait", slow("wait", comm="worker", tid=4211, kernel_stack=KERNEL_STACK)),
                (FREER, "hold", slow("hold", user_stack=USER_STACK)),
                (HTOP, "hold", slow("hold", comm="htop", tid=999, pid=999))]  # fmt: skip
    whole = blamed(REALISTIC, examples)
    headers = [line.split()[0] for line in lines(whole, stacks=1) if "  at +1.234s" in line]
    assert headers == ["wait", "hold"]
    # A side that two charges share is shown once.
    assert sum("  at +1.234s" in line for line in lines(whole, stacks=4)) == 3
    assert not any("  at +" in line for line in lines(whole, stacks=0))
    assert any("__vm_munmap" in line for line in lines(whole, stacks=1))


def test_hold_times_has_blame_only_if_asked() -> None:
    whole = blamed(REALISTIC)
    assert any(" WAITER " in line for line in text_lines(whole, TextOptions(width=80)))
    assert not any(
        " WAITER " in line for line in text_lines(replace(whole, blame=None), TextOptions(width=80))
    )


def test_colour_changes_no_character() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    render_blame(blamed(REALISTIC), BlameOptions(width=80), plain)
    render_blame(blamed(REALISTIC), BlameOptions(width=80, colour=True), coloured)
    assert "\x1b[" in coloured.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured.getvalue()) == plain.getvalue()


# --- JSON ---------------------------------------------------------------------------------------

MEMBERS = ["wait_ns", "charged_ns", "unknown_ns", "uncontended_ns", "unheld_ns", "unaccounted_ns",
           "missing_holds", "waiters", "charges", "examples"]  # fmt: skip
IDENTITY = ["mm_pid", "mm_comm", "pid", "tid", "comm", "foreign", "mode", "operation"]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def written(whole: Report) -> Any:
    stream = io.StringIO()
    write_blame_json(stream, whole)
    text = stream.getvalue()
    assert text.endswith("}\n") and text.count("\n") == 1 and text.isascii()
    return json.loads(text, parse_constant=refuse)


def test_json() -> None:
    examples = [(WORKER, "wait", slow("wait")), (FREER, "hold", slow("hold"))]
    got = written(blamed(REALISTIC, examples))
    assert list(got) == [
        "schema", "host", "target", "cgroup", "start_ns", "duration_ns", *MEMBERS, "accounting",
    ]  # fmt: skip
    assert got["schema"] == "corelock.blame/1"
    assert got["target"] == {"pid": 4210, "comm": "redis-server"}
    assert got["wait_ns"] == got["charged_ns"] + got["unknown_ns"]
    assert got["charged_ns"] == sum(each["charged_ns"] for each in got["charges"])
    assert got["unaccounted_ns"] == 0
    [worker, main] = got["waiters"]
    assert list(worker) == [*IDENTITY, "waits", "wait_ns", "contended_waits", "contended_ns",
                            "unknown_ns", "unheld_ns"]  # fmt: skip
    assert (worker["tid"], worker["waits"], worker["wait_ns"]) == (4211, 2, 12 * MS)
    assert (main["contended_ns"], main["unknown_ns"]) == (5 * MS + 400, MS // 2 + 400)
    assert got["unheld_ns"] == worker["unheld_ns"] + main["unheld_ns"]
    assert [each["charged_ns"] for each in got["charges"]] == [6 * MS, 4 * MS, 4 * MS, MS // 2]
    first = got["charges"][0]
    assert list(first) == ["waiter", "holder", "certainty", "charged_ns", "waits", "longest_ns"]
    assert list(first["waiter"]) == IDENTITY
    assert list(first["holder"]) == [*IDENTITY, "holds", "longest_hold_ns"]
    assert (first["holder"]["holds"], first["holder"]["longest_hold_ns"]) == (1, 6 * MS)
    assert first["certainty"] == "observed"
    assert [each["kind"] for each in got["examples"]] == ["wait", "hold"]


def test_json_of_a_run_without_waits() -> None:
    got = written(blamed(blame([]), target=None))
    assert (got["target"], got["wait_ns"]) == (None, 0)
    assert got["waiters"] == got["charges"] == got["examples"] == []


def test_any_name_makes_well_formed_json() -> None:
    odd = 'a"\n\x00\udc80é'
    one = row(odd, 5, mm=(odd, 5), wait=times([MS]))
    whole = blamed(blame([charge(one, one)]), [(one, "wait", slow("wait", comm=odd))])
    got = written(replace(whole, target=replace(whole.target, comm=odd)))  # type: ignore[type-var]
    expected = 'a"\n\x00\\x80é'
    assert got["target"]["comm"] == got["charges"][0]["holder"]["comm"] == expected
    assert got["waiters"][0]["mm_comm"] == got["examples"][0]["comm"] == expected
    assert json.dumps(got, ensure_ascii=False).encode()


def test_hold_times_object_has_the_same_blame() -> None:
    whole = blamed(REALISTIC, [(WORKER, "wait", slow("wait"))])
    alone = written(whole)
    stream = io.StringIO()
    write_json(stream, whole)
    member = json.loads(stream.getvalue())["blame"]
    assert member == {key: alone[key] for key in MEMBERS} == hold_times_object(whole)["blame"]
    assert "blame" not in hold_times_object(replace(whole, blame=None))


def test_charges_are_written_one_by_one() -> None:
    class Longest(io.StringIO):
        longest = 0

        def write(self, text: str, /) -> int:
            self.longest = max(self.longest, len(text))
            return super().write(text)

    stream = Longest()
    many = [charge(row(tid=tid, wait=times([MS])), FREER) for tid in range(1000)]
    write_blame_json(stream, blamed(blame(many)))
    assert stream.longest < 1000 < 100_000 < len(stream.getvalue())
