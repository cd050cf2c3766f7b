from __future__ import annotations

import csv
import io

from corelock.export.csvout import COLUMNS, write_csv
from corelock.export.jsonout import hold_times_object
from corelock.model import Report
from tests import reports
from tests.reports import report, row, times


def written(whole: Report) -> str:
    stream = io.StringIO()
    write_csv(stream, whole)
    return stream.getvalue()


def test_header_and_a_row() -> None:
    whole = report(row("htop", 999, "pread64", "read", pid=998, hold=times([5, 7])))
    assert written(whole).splitlines() == [
        "mm_pid,mm_comm,pid,tid,comm,foreign,mode,operation,acquisitions,holds,downgrades,"
        "trylock_failures,aborted_waits,"
        "wait_count,wait_total_ns,wait_max_ns,wait_p50_ns,wait_p90_ns,wait_p99_ns,wait_p999_ns,"
        "hold_count,hold_total_ns,hold_max_ns,hold_p50_ns,hold_p90_ns,hold_p99_ns,hold_p999_ns,"
        "mm_host_pid,host_pid,host_tid",
        "4210,redis-server,998,999,htop,true,read,pread64,0,2,0,0,0,0,0,0,,,,,2,12,7,5,7,7,7,,,",
    ]


def test_same_values_as_json() -> None:
    whole = reports.report()
    flat = []
    for fields in hold_times_object(whole)["rows"]:
        for kind in ("wait", "hold"):
            for name, value in fields.pop(f"{kind}_ns").items():
                fields[f"{kind}_{name}" + ("" if name == "count" else "_ns")] = value
        fields = {**dict.fromkeys(("mm_host_pid", "host_pid", "host_tid")), **fields}
        fields["foreign"] = str(fields["foreign"]).lower()
        flat.append({key: "" if value is None else str(value) for key, value in fields.items()})
    assert list(csv.DictReader(io.StringIO(written(whole)))) == flat


def test_odd_names_come_back() -> None:
    got = list(csv.DictReader(io.StringIO(written(report(row('a,"b"\nc'), row("\udc80"))))))
    assert [fields["comm"] for fields in got] == ['a,"b"\nc', "\\x80"]
    assert list(got[0]) == list(COLUMNS)
