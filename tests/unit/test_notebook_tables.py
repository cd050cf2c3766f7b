"""Results as a notebook shows them, read by an HTML parser; no kernel and no Jupyter needed."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, Optional

import pytest

from corelock.blame import Blame
from corelock.diagnosis import Check, Diagnosis
from corelock.locks import Waiter
from corelock.model import Host, Snapshot
from corelock.render.blame import blame_lines
from corelock.render.notebook import html
from corelock.render.table import hold_times_table
from tests.reports import START_NS, accounting, lossy_accounting, realistic_rows, report, row, times
from tests.unit.test_blame_reports import REALISTIC, blamed
from tests.unit.test_lock_reports import lock, snapshot, thread


class Page(HTMLParser):
    """Cells by row, the other text, and that tags are closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.text = ""
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Optional[str]]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.text += data


def shown(result: Any) -> Page:
    """The result as IPython asks for it."""
    return Page(result._repr_html_())


def measured(*rows: Any) -> Snapshot:
    return Snapshot(None, START_NS, 3_800_000_000, rows)


def words(line: str) -> list[str]:
    return line.split()


def test_a_snapshot_says_what_the_text_says() -> None:
    page = shown(measured(*realistic_rows()))
    text = hold_times_table(report(), width=200)
    # Below two lines of titles, in the same order.
    assert page.rows[2:] == [words(line) for line in text[2:7]]
    assert page.rows[1] == words(text[1])
    assert page.rows[0] == ["", "WAIT", "HOLD"]
    assert "mmap_lock for 3.80s" in page.text
    assert "* foreign: another process's thread" in page.text
    assert "downgrades 250  trylock failures 12  aborted waits 1" in page.text


def test_only_the_first_rows_are_shown_and_how_many_are_not() -> None:
    page = shown(measured(*(row(tid=n, hold=times([n])) for n in range(1, 1025))))
    assert len(page.rows) == 2 + 20
    assert page.rows[2][0] == "worker[1024]"
    assert "... and 1,004 more" in page.text


def test_several_processes_are_told_apart() -> None:
    page = shown(measured(row(hold=times([5])), row(mm=("nginx", 7), hold=times([6]))))
    assert page.rows[1][0] == "PROCESS"
    assert [line[0] for line in page.rows[2:]] == ["nginx[7]", "redis-server[4210]"]


def test_nothing_at_all() -> None:
    assert shown(measured()).text == "no lock was taken"
    assert shown(Blame(0, 1, (), (), (), {})).text == "no lock was waited for"
    assert shown(snapshot()).text == "nothing held: 0 of 20 address spaces"


@pytest.mark.parametrize("name", ["<script>alert(1)", "a&b<i>", "\"'><img>", "esc\x1b[31m\n"])
def test_names_are_text_and_nothing_else(name: str) -> None:
    evil_rows = measured(row(name, operation=name, hold=times([5])))
    evil_lock = lock(1, holder=replace(lock(1).holder, thread=thread(101, name)))
    evil_check = Diagnosis(Host("6", "x", "h"), (Check("btf", "fail", name, name),), None, None, 1)
    for result in (evil_rows, snapshot(evil_lock), evil_check):
        page = shown(result)
        assert page.tags <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}
        cells = [cell for line in page.rows for cell in line]
        printable = re.sub(r"[\x1b\n]", "?", name)
        assert any(printable in cell for cell in cells)
        assert all(cell.isprintable() for cell in cells)


def test_blame_says_what_the_text_says() -> None:
    page = shown(REALISTIC)
    text = list(blame_lines(blamed(REALISTIC), by="thread", top=0, stacks=0, width=200))
    header = next(i for i, line in enumerate(text) if line.startswith("CHARGED"))
    lines = [[cell for cell in line if cell] for line in page.rows]
    assert lines[0] == ["WAITER", "HOLDER"]
    assert lines[1:] == [words(line) for line in text[header : header + 5]]
    for line in (text[0], *text[header + 5 :]):
        assert line.strip() in page.text


def test_accounting_that_is_complete_is_a_table_alone() -> None:
    page = shown(accounting())
    assert page.rows[1:] == [
        ["paired", "12,344"], ["held at start", "1"], ["held at end", "0"], ["unmatched", "0"],
        ["lost", "0"], ["all", "12,345"],
    ]  # fmt: skip
    assert page.text.strip() == ""


def test_accounting_says_what_was_lost_and_that_the_sum_is_wrong() -> None:
    text = shown(lossy_accounting()).text
    assert "lost: map_full 1,000" in text
    assert "corelock's own events, in no number above: 17" in text
    assert "UNBALANCED by 3: these numbers cannot be trusted" in text


def test_holders_and_who_waits_behind_them() -> None:
    waiters = (Waiter(thread(102, "cat", pid=7), "read"), Waiter(None, "write"))
    page = shown(snapshot(lock(1, waiters=waiters, waiter_count=70)))
    assert page.rows == [
        ["LOCK OF", "WHO", "MODE", "OPERATION", "HOW SURE"],
        ["redis[100]", "worker[101]", "holds, write", "munmap", "certain: the lock names it"],
        ["", "*cat[102]", "waits, read", "munmap", "certain: queued"],
        ["", "?", "waits, write", "", "has left the queue since"],
        ["", "68 more", "wait", "", ""],
    ]
    assert "1 of 20 address spaces" in page.text
    assert "* foreign" in page.text


def test_readers_are_counted_and_a_free_lock_has_no_holder() -> None:
    reading = lock(1, mode="read", certainty="hint", readers=3)
    assert shown(snapshot(reading)).rows[1][-1] == "3 readers; hint: the last reader that came"
    assert shown(snapshot(lock(1, mode=None))).rows[1][1:3] == ["", "free"]


def test_a_diagnosis_says_what_to_do() -> None:
    checks = (Check("bpf", "fail", "not allowed", "Become root."), Check("jit", "pass", "on"))
    page = shown(Diagnosis(Host("6", "x", "h"), checks, None, None, None))
    assert page.rows == [
        ["", "CHECK", "FOUND", "WHAT TO DO"],
        ["FAIL", "bpf()", "not allowed", "Become root."],
        ["pass", "JIT", "on", ""],
    ]
    assert "hold-times does not work here: see bpf()." in page.text


def test_no_colour_is_named_so_that_any_theme_can_be_read() -> None:
    source = html(measured(*realistic_rows()))
    assert not re.search(r"[;\"](color|background)", source)


def test_what_has_no_table_is_refused() -> None:
    with pytest.raises(TypeError, match="int"):
        html(5)
