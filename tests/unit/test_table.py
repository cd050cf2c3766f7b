from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.model import Frame, Mode, Row
from corelock.render.report import TextOptions, render_text, text_lines
from corelock.render.table import SORT_FIELDS, hold_times_table
from corelock.render.text import cells, cut
from tests import reports
from tests.reports import report, row, slow, times

COMMS = st.text(min_size=0, max_size=15) | st.sampled_from(["\x1b[31mred", "线程池", "a\udc80b"])
PIDS = st.integers(0, 4_194_304)
DURATIONS = st.lists(st.integers(0, 2**45), max_size=5).map(times)
COUNTS = st.integers(0, 2**40)
MODES: st.SearchStrategy[Mode] = st.sampled_from(["read", "write"])
OPERATIONS = st.sampled_from(["mmap", "page-fault", "process_madvise", "io_uring_register"])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    return row(
        draw(COMMS), draw(PIDS), draw(OPERATIONS), draw(MODES), pid=draw(PIDS),
        mm=(draw(COMMS), draw(PIDS)), wait=draw(DURATIONS), hold=draw(DURATIONS),
        downgrades=draw(COUNTS), trylock_failures=draw(COUNTS), aborted_waits=draw(COUNTS),
    )  # fmt: skip


def text(options: TextOptions, whole: object = None) -> str:
    stream = io.StringIO()
    render_text(whole or reports.slow_report(), options, stream)  # type: ignore[arg-type]
    return stream.getvalue()


def test_table() -> None:
    assert hold_times_table(report()) == [
        "                                 --------- WAIT -------- --------- HOLD --------",
        "THREAD        OPERATION  M COUNT total   p50   p99   max total   p50   p99   max",
        "bio_la~[4212] munmap     W   250 5.40m 15.9u 62.9u 62.9u  471m 1.38m 5.51m 5.60m",
        "bio_la~[4212] munmap     R   250     -     -     -     - 16.6m 69.6u  127u  129u",
        "*htop[999]    pread64    R     2 8.00s 69.6u 7.78s 8.00s 15.6m 3.28m 12.1m 12.3m",
        "redis-~[4210] page-fault R   400  631u 1.60u 2.94u 2.97u 1.12m 2.69u 4.86u 4.99u",
        "jemall~[4213] madvise    W     3 9.66u  335n 8.70u 9.00u 1.00m 1.22u 1.00m 1.00m",
        "* foreign: another process's thread",
        "downgrades 250  trylock failures 12  aborted waits 1",
    ]


@settings(max_examples=200)
@given(
    st.lists(rows(), min_size=1, max_size=6),
    st.sampled_from([("thread", "operation", "mode"), ("thread",), ("operation",), ()]),
    st.sampled_from(SORT_FIELDS),
    st.integers(80, 200),
)
def test_every_line_fits_and_is_aligned(
    some: list[Row], by: tuple[str, ...], sort: str, width: int
) -> None:
    lines = hold_times_table(report(*some), by=by, sort=sort, width=width)
    assert all(cells(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    table = lines[: next(i for i, line in enumerate(lines) if line[:1] in "*d" and i > 1)]
    assert len({cells(line) for line in table}) == 1


@settings(max_examples=50)
@given(
    st.lists(rows(), min_size=1, max_size=4),
    st.lists(st.tuples(COMMS, PIDS, PIDS, st.integers(0, 2**45)), max_size=3),
    st.lists(st.builds(Frame, st.integers(0, 2**64 - 1), st.none() | st.text(max_size=200),
                       st.none() | st.integers(0, 2**63), st.none() | COMMS), max_size=30),
    st.integers(0, 10**12),
)  # fmt: skip
def test_the_whole_report_fits(
    some: list[Row],
    events: list[tuple[str, int, int, int]],
    stack: list[Frame],
    paired: int,
) -> None:
    late = tuple(
        slow(comm=comm, tid=tid, pid=pid, duration_ns=ns, kernel_stack=tuple(stack),
             user_stack=tuple(stack), note="x" * 100)
        for comm, tid, pid, ns in events
    )  # fmt: skip
    whole = replace(
        report(*some, slow=late),
        accounting=replace(reports.lossy_accounting(), paired=paired, held_at_start=paired),
    )
    for line in text_lines(whole, TextOptions(stacks=5, hist=True, width=80)):
        assert cells(line) <= 80
        assert line.isprintable()


def test_header_stands_over_its_columns() -> None:
    ruled, header, *body = hold_times_table(report())
    for title in ("WAIT", "HOLD"):
        span = re.search(rf"-+ {title} -+", ruled)
        assert span
        assert header[span.start() : span.end()].split() == ["total", "p50", "p99", "max"]
        assert body[0][span.start() - 1] == " "


def test_a_wide_terminal_shows_whole_names() -> None:
    lines = hold_times_table(report(), width=120)
    assert lines[2].startswith("bio_lazy_free[4212]   munmap     W ")
    assert max(map(len, lines)) <= 120


def test_processes_are_named_when_there_are_several() -> None:
    two = report(
        row(mm=("nginx", 10), pid=10, hold=times([5])),
        row(mm=("redis", 20), pid=20, hold=times([4])),
    )
    lines = hold_times_table(two)
    assert lines[1].split()[:3] == ["PROCESS", "THREAD", "OPERATION"]
    assert [line.split()[0] for line in lines[2:4]] == ["nginx[10]", "redis[20]"]
    assert "PROCESS" not in "\n".join(hold_times_table(report()))
    assert "PROCESS" not in "\n".join(hold_times_table(two, by=("operation",)))


def test_no_legend_without_a_foreign_thread() -> None:
    assert "foreign" not in "\n".join(hold_times_table(report(row(hold=times([1])))))


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("hold", "bio_la~[4212] munmap     W"),
        ("hold-max", "*htop[999]"),
        ("hold-p99", "*htop[999]"),
        ("wait", "*htop[999]"),
        ("wait-max", "*htop[999]"),
        ("wait-p99", "*htop[999]"),
        ("count", "redis-~[4210]"),
        ("thread", "bio_la~[4212] munmap     R"),
    ],
)
def test_sort(sort: str, first: str) -> None:
    assert hold_times_table(report(), sort=sort)[2].startswith(first)


def test_unknown_sort_field() -> None:
    with pytest.raises(ValueError, match="cannot sort by 'speed'"):
        hold_times_table(report(), sort="speed")


def test_top() -> None:
    lines = hold_times_table(report(), top=2)
    assert lines[4] == "... and 3 more (use -n)"
    assert lines[-1].startswith("downgrades 250 ")  # of all groups, not of those shown
    assert len(hold_times_table(report(), top=0)) == len(hold_times_table(report()))


def test_nothing_to_show() -> None:
    assert hold_times_table(replace(report(), rows=())) == ["no lock was taken"]


def test_a_hostile_name_cannot_reach_the_terminal() -> None:
    assert "?[31mred[4211]" in hold_times_table(report(row("\x1b[31mred")), width=120)[2]


def test_slow_events_longest_first_with_stacks() -> None:
    lines = text(TextOptions(stacks=1, width=80)).splitlines()
    at = lines.index("hold 12.3m  write  munmap  bio_lazy_free[4212]  at +1.234s")
    assert lines[at - 3 : at] == [
        "wait 8.00s  read  pread64  *htop[999] on redis-server[4210]  at +1.234s",
        "    __mmap_lock_do_trace_released+0x44",
        "",
    ]
    assert lines[at + 1 : at + 10] == [
        "    __mmap_lock_do_trace_released+0x44",
        "    __vm_munmap+0x1a0",
        "    vfio_unmap+0x34 [vfio_iommu_type1]",
        "    0xffffffff82000ade",
        "    __munmap+0xb (libc.so.6)",
        "    arena_purge<std::pair<long, long>, std::pair<long, long>, std:~+0x10 (redis)",
        "    redis-server+0x1234",
        "    0x1000",
        "    [stack truncated (no frame pointer)]",
    ]


def test_stacks_is_a_number_of_each_kind() -> None:
    many = report(slow=tuple(slow(duration_ns=ns) for ns in (1000, 3000, 2000)))
    headers = [line for line in text(TextOptions(stacks=2), many).splitlines() if "  at " in line]
    assert [line.split()[1] for line in headers] == ["3.00u", "2.00u"]
    assert "  at " not in text(TextOptions(stacks=0), many)


def test_histogram_counts_every_time_once() -> None:
    whole = report(row(hold=times([0, 1, 2, 3, 1023, 1024, 2047, 2048])))
    lines = text(TextOptions(by=("operation",), hist=True), whole).splitlines()
    start = lines.index("mprotect: hold (ns)") + 1
    bars = dict(re.findall(r"^(\[.*?\)) +(\d+) \|", "\n".join(lines[start:]), re.MULTILINE))
    assert {bounds: n for bounds, n in bars.items() if n != "0"} == {
        "[0, 1)": "1",
        "[1, 2)": "1",
        "[2, 4)": "2",
        "[512, 1K)": "1",
        "[1K, 2K)": "2",
        "[2K, 4K)": "1",
    }
    assert "mprotect: wait (ns)" not in lines


def test_accounting_names_what_was_lost() -> None:
    whole = report(accounting=reports.lossy_accounting())
    shown = " ".join(text(TextOptions(width=80), whole).split())
    assert "unmatched 28 + lost 28,000 unmatched: start_without_acquire 1," in shown
    assert "slow records lost: ring_full 5, stack_failed 2 children not followed: 4" in shown
    assert shown.endswith("UNBALANCED by 3: these numbers cannot be trusted")


def test_accounting_of_a_good_run_is_the_sum_alone() -> None:
    shown = text(TextOptions(width=120)).splitlines()
    assert shown[-1] == (
        "events 12,345 = paired 12,344 + held at start 1 + held at end 0 + unmatched 0 + lost 0"
    )


def test_colour_changes_no_character() -> None:
    plain = text(TextOptions(stacks=2, hist=True, width=80))
    coloured = text(TextOptions(stacks=2, hist=True, width=80, colour=True))
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_cut_keeps_the_tail_while_it_can() -> None:
    assert cut("abcdef", "[12]", 8) == "abc~[12]"
    assert cut("abcdef", "[1234567]", 6) == "abcde~"
    assert cut("线程池线程池", "[1]", 8) == "线程~[1]"
