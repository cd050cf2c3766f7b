from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from corelock.export.csvout import COLUMNS, write_csv
from corelock.export.jsonout import hold_times_object, write_json
from corelock.model import Cgroup, Report, UserContext
from corelock.render.report import TextOptions, render_text
from tests import reports
from tests.reports import report, row, slow, times

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "json.md").read_text()


def written(whole: Report) -> str:
    stream = io.StringIO()
    write_json(stream, whole)
    return stream.getvalue()


def write_text(stream: TextIO, whole: Report) -> None:
    render_text(whole, TextOptions(stacks=5), stream)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from keys(one)


@pytest.mark.parametrize("whole", [report(), reports.slow_report(), replace(report(), rows=())])
def test_written_is_the_object_on_one_line(whole: Report) -> None:
    line = written(whole)
    assert line.count("\n") == 1
    assert line.endswith("}\n")
    assert json.loads(line) == hold_times_object(whole)


def test_head() -> None:
    whole = json.loads(written(report()))
    assert list(whole) == [
        "schema", "host", "target", "cgroup", "start_ns", "duration_ns", "rows", "slow",
        "accounting",
    ]  # fmt: skip
    assert whole["schema"] == "corelock.hold-times/1"
    assert whole["host"] == {"kernel": "6.1.0-18-amd64", "arch": "x86_64", "hostname": "db7"}
    assert whole["target"] == {"pid": 4210, "comm": "redis-server"}
    assert (whole["start_ns"], whole["duration_ns"]) == (reports.START_NS, 10_000_123_456)
    assert json.loads(written(replace(report(), target=None)))["target"] is None
    assert whole["cgroup"] is None
    cgroup = Cgroup("/a\udcff", "/sys/fs/cgroup/a", 4711, "web")
    of_cgroup = json.loads(written(replace(report(), target=None, cgroup=cgroup)))
    assert of_cgroup["cgroup"] == {"path": "/a\\xff", "id": 4711, "container": "web"}


def test_row() -> None:
    [got] = hold_times_object(
        report(row("htop", 999, "pread64", "read", pid=998, hold=times([5, 7]), aborted_waits=3))
    )["rows"]
    assert got == {
        "mm_pid": 4210, "mm_comm": "redis-server", "pid": 998, "tid": 999, "comm": "htop",
        "foreign": True, "mode": "read", "operation": "pread64", "acquisitions": 0, "holds": 2,
        "downgrades": 0, "trylock_failures": 0, "aborted_waits": 3,
        "wait_ns": {"count": 0, "total": 0, "max": 0,
                    "p50": None, "p90": None, "p99": None, "p999": None},
        "hold_ns": {"count": 2, "total": 12, "max": 7, "p50": 5, "p90": 7, "p99": 7, "p999": 7},
    }  # fmt: skip


def test_slow() -> None:
    whole = hold_times_object(reports.slow_report())
    hold, wait = whole["slow"]
    assert {key: value for key, value in hold.items() if not key.endswith("stack")} == {
        "kind": "hold", "ts_ns": reports.START_NS + 1_234_000_000, "mm_pid": 4210, "pid": 4210,
        "tid": 4212, "comm": "bio_lazy_free", "foreign": False, "mode": "write",
        "operation": "munmap", "duration_ns": 12_345_678,
    }  # fmt: skip
    assert hold["kernel_stack"][0] == {
        "name": "__mmap_lock_do_trace_released", "offset": 0x44, "address": 0xFFFFFFFF8123D1C4,
    }  # fmt: skip
    assert hold["user_stack"][2] == {
        "name": None, "offset": 0x1234, "module": "/opt/redis/redis-server",
        "address": 0x5581_0002_1234,
    }  # fmt: skip
    assert (wait["kind"], wait["foreign"], wait["user_stack"]) == ("wait", True, [])


def test_accounting_adds_up() -> None:
    got = hold_times_object(report(accounting=reports.lossy_accounting()))["accounting"]
    assert list(got) == [
        "events", "paired", "held_at_start", "held_at_end", "open_waits", "unmatched", "lost",
        "slow_recorded", "slow_lost", "children_not_followed", "hooks_missed", "charges_full",
        "self", "unaccounted", "attached_by",
    ]  # fmt: skip
    went = got["paired"] + got["held_at_start"] + got["held_at_end"]
    went += sum(got["unmatched"].values()) + sum(got["lost"].values())
    assert sum(got["events"].values()) == went + got["unaccounted"]
    assert (got["unaccounted"], got["self"]) == (3, 17)


def test_any_name_makes_well_formed_json() -> None:
    odd = 'a"\n\x00\udc80é'
    line = written(report(row(odd), slow=(slow(comm=odd),)))
    assert line.isascii()
    whole = json.loads(line)
    assert whole["rows"][0]["comm"] == whole["slow"][0]["comm"] == 'a"\n\x00\\x80é'
    assert json.dumps(whole, ensure_ascii=False).encode()


def test_rows_are_written_one_by_one() -> None:
    class Longest(io.StringIO):
        longest = 0

        def write(self, text: str, /) -> int:
            self.longest = max(self.longest, len(text))
            return super().write(text)

    stream = Longest()
    write_json(stream, report(*(row(tid=tid) for tid in range(1000))))
    assert stream.longest < 1000
    assert len(stream.getvalue()) > 100_000


def test_doc_names_every_key() -> None:
    whole = replace(reports.slow_report(), accounting=reports.lossy_accounting())
    emitted = set(keys(hold_times_object(whole))) | set(COLUMNS)
    assert emitted - set(re.findall(r"`(\w+)`", DOC)) == set()


def test_doc_explains_every_kind_of_the_abi() -> None:
    abi = (ROOT / "src" / "abi" / "corelock_abi.h").read_text()
    names = re.findall(r"^\tCORELOCK_(?:EVENT|UNMATCHED|LOST)_(\w+),", abi, re.MULTILINE)
    named = {name.lower() for name in names if name not in ("KINDS", "CAUSES")}
    explained = set(re.findall(r"^\| `(\w+)` \|", DOC, re.MULTILINE))
    assert len(named) == 3 + 7 + 4
    assert named - explained == set()


@pytest.mark.parametrize("write", [write_json, write_csv, write_text])
def test_nothing_of_a_copied_stack_is_written(write: Callable[[TextIO, Report], None]) -> None:
    """It may hold secrets. So with one and without, all that is written is the same."""
    context = UserContext(0x1234, 0x7FFF_0000, 1, 2, 128, b"secret" * 1000)
    without = reports.slow_report()
    events = [replace(one.event, user_context=context) for one in without.slow]
    resolved = [replace(one, event=event) for one, event in zip(without.slow, events)]
    streams = [io.StringIO(), io.StringIO()]
    write(streams[0], without)
    write(streams[1], replace(without, slow=tuple(resolved)))
    assert streams[0].getvalue() == streams[1].getvalue() != ""
