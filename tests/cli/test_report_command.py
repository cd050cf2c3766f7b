"""``corelock report`` as a user runs it; nothing is traced, so nobody needs to be root."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import recordings
from tests.cli.command import COMMAND, environment, run
from tests.recordings import Cycle, Plan

S = 10**9
OPERATIONS = {1: 11, 2: 9, 3: 0x20000}


def cycles(many: int = 60) -> list[Cycle]:
    """One each 100 ms: of munmap, mmap and page faults in turn, each a microsecond longer."""
    return [
        Cycle(1 + i % 3, (i + 1) * S // 10, 1000 * i, 2000 * i, 0, i % 2, i % 2)
        for i in range(many)
    ]


def plan(some: list[Cycle], comm: str = "postgres") -> Plan:
    """Of three threads, in blocks of 20 cycles."""
    rows = [
        recordings.row(n, 1, n, 4021, 4020 + n, f"{comm}-{n}", OPERATIONS[n], n < 3)
        for n in OPERATIONS
    ]
    stacks = {
        "first": {"strings": 0, "frames": 0, "stacks": 0},
        "strings": ["do_mmap", "[kernel]"], "frames": [[2**64 - 9, 0, 163, 1]],
        "stacks": [[[0], [], None]], "ids": [[1, 0]],
    }  # fmt: skip
    parts = [some[at : at + 20] for at in range(0, len(some), 20)]
    return Plan([recordings.process(1, 4021, comm)], rows, parts, [stacks])


def host(name: str) -> dict[str, Any]:
    return {"id": name, "host": {**recordings.header()["host"], "hostname": name}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return plan(cycles()).write(tmp_path / "a.rec")


def counts(out: str) -> dict[str, int]:
    """COUNT of each operation in a report by operation."""
    found = re.findall(r"^([\w-]+) +(\d+) ", out.partition("\ndowngrades")[0], re.M)
    return {name: int(count) for name, count in found}


def by_operation(path: Path, *options: str) -> dict[str, int]:
    result = run("report", path, "--by", "operation", "-s0", "--no-blame", *options)
    assert result.code == 0, result.err
    return counts(result.out)


def test_a_whole_recording(path: Path) -> None:
    result = run("report", path)
    result.assert_table()
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == "mmap_lock of postgres[4021], 6.00s on Linux 6.18.44"
    assert lines[1].startswith("recorded on db7, 2025-06-15 ")
    assert "    do_mmap+0xa3 [[kernel]]" in lines
    assert any(line.startswith("waited 1.77m in 60 waits: charged ") for line in lines)
    assert lines[-1] == "cycles 60 = recorded 60 + lost 0"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"munmap": 20, "mmap": 20, "page-fault": 20}),
        (("--operation", "munmap"), {"munmap": 20}),
        (("--tid", "4022"), {"mmap": 20}),
        (("--pid", "4021"), {"munmap": 20, "mmap": 20, "page-fault": 20}),
        # Each ends 100 ms after the one before, and takes microseconds.
        (("--from", "5.75"), {"munmap": 1, "mmap": 1, "page-fault": 1}),
        (("--to", "0.25"), {"munmap": 1, "mmap": 1}),
        (("--from", "2.95", "--to", "3.25"), {"munmap": 1, "mmap": 1, "page-fault": 1}),
        # Hold i takes 2 i us.
        (("--min-us", "114"), {"munmap": 1, "mmap": 1, "page-fault": 1}),
        (("--min-us", "114.001"), {"mmap": 1, "page-fault": 1}),
    ],
)
def test_filters(path: Path, options: tuple[str, ...], expected: dict[str, int]) -> None:
    assert by_operation(path, *options) == expected


def test_times_of_day_are_local(path: Path) -> None:
    for zone, hour in (("UTC", 16), ("CET-1CEST,M3.5.0,M10.5.0/3", 18)):
        # START_NS after 2025-06-15 15:06:40 UTC: 5,000 s.
        when = f"{hour}:30:05.75"
        for given in (when, f"2025-06-15T{when}", f"2025-06-15 {when}"):
            result = run(
                "report", path, "--from", given, "--by", "operation", "-s0", "--no-blame",
                env=environment(TZ=zone),
            )  # fmt: skip
            assert counts(result.out) == {"munmap": 1, "mmap": 1, "page-fault": 1}, result.err
            assert f"only from {given.replace('T', ' ')}0000" in result.out


def test_what_was_chosen_is_said(path: Path) -> None:
    lines = run(
        "report", path, "--from", "1", "--to", "2.5", "--pid", "4021", "--min-us", "20"
    ).out.splitlines()
    assert lines[0].startswith("mmap_lock of postgres[4021], 1.50s on ")
    assert lines[2] == "only from +1.000s, to +2.500s, pid 4021, 20.0u or longer"
    # All cycles count in the sum, whatever was chosen.
    assert lines[-1] == "cycles 60 = recorded 60 + lost 0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--operation", "mumap"), ("no operation 'mumap'", "Name one of: mmap, munmap, page-f")),
        (("--pid", "7"), ("no process 7", "without --pid")),
        (("--tid", "7"), ("no thread 7", "without --tid")),
    ],
)
def test_what_is_not_there_is_refused(
    path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    run("report", path, *options).assert_refused(*words, code=2)


@pytest.mark.parametrize(
    "options",
    [
        ("--from", "-1"), ("--from", "nan"), ("--from", "1e30"), ("--from", "soon"),
        ("--from", "25:00"), ("--to", "2026-13-01 00:00"), ("--from", "2", "--to", "1"),
        ("--from", "16:30:04", "--to", "16:30:03"), ("--min-us", "-1"), ("--min-us", "nan"),
        ("--by", "host"), ("--sort", "size"), ("-n", "-1"), ("--format", "xml"), (),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage(path: Path, options: tuple[str, ...]) -> None:
    files = [path] if options else []
    result = run("report", *files, *options, env=environment(TZ="UTC"))
    assert (result.code, result.out) == (2, ""), result
    assert "Error: " in result.err and "Traceback" not in result.err


def test_what_is_no_recording(path: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    newer = recordings.write(tmp_path / "newer", plan(cycles()).blocks(), version=2)
    headless = recordings.write(tmp_path / "headless", plan(cycles()).blocks()[1:])
    for file, word in (
        (empty, "is empty"), (newer, "version 2"), (headless, "header"),
        (tmp_path, "Is a directory"), (tmp_path / "none", "No such file"),
        ("/dev/null", "no regular file"), (__file__, "is no recording"),
    ):  # fmt: skip
        run("report", file).assert_refused(str(file), word)
        run("report", path, file).assert_refused(str(file), word)
    run("report", path, path).assert_refused("is the same recording")


def test_a_cut_recording(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    result = run("report", path)
    assert result.code == 0
    assert "events: not known, as the recording was cut\n" in result.out
    assert re.search(r"^cycles (20|40) read; how many there were is not known$", result.out, re.M)
    assert re.search(r"^DAMAGED: the recording has no end, \d+ bytes that", result.out, re.M)
    last = result.err.splitlines()[-1]
    assert last.startswith("corelock: incomplete: the recording has no end, ")


def test_a_corrupt_block(path: Path) -> None:
    broken = bytearray(path.read_bytes())
    broken[len(recordings.contents(plan(cycles()).blocks()[:3])) + 100] ^= 1
    path.write_bytes(broken)
    result = run("report", path, "-s0")
    assert result.code == 0
    assert "cycles 60 = recorded 40 + lost 0 + in what cannot be read, at most 20\n" in result.out
    assert "DAMAGED: 1 corrupt block\n" in result.out
    assert "UNBALANCED" not in result.out
    assert result.err.endswith("incomplete: 1 corrupt block, 20 cycles in what cannot be read.\n")


def footer(many: int, **more: Any) -> tuple[int, bytes]:
    return 6, recordings.as_json(recordings.fitting_footer(cycles(many), **more))


def test_lost_cycles_and_a_sum_that_does_not_fit(tmp_path: Path) -> None:
    blocks = plan(cycles()).blocks()[:-1]
    written = {"written": 60, "lost": {"ring_full": 7, "not_written": 0}}
    totals = {"waits": 67, "holds": 67, "downgrades": 0, "failures": 0}
    path = recordings.write(
        tmp_path / "a.rec", [*blocks, footer(60, cycles=written, totals=totals)]
    )
    result = run("report", path, "-s0")
    assert "\ncycles 67 = recorded 60 + lost 7\n  cycles lost: ring_full 7\n" in result.out
    assert result.err == "corelock: incomplete: cycles lost (ring_full) 7.\n"
    totals["holds"] += 2
    recordings.write(path, [*blocks, footer(60, cycles=written, totals=totals)])
    result = run("report", path, "-s0")
    assert "\nUNBALANCED by 2 cycles: these numbers cannot be trusted\n" in result.out
    assert result.err.endswith("unbalanced by 2 cycles.\n")


def test_several_hosts(tmp_path: Path) -> None:
    paths = [
        plan(cycles(many), comm).write(tmp_path / f"{comm}.rec", **host(comm))
        for comm, many in (("db7", 30), ("db8", 60), ("web1", 9))
    ]
    broken = plan(cycles(3), "db9").blocks(**host("db9"))[:-1]
    paths.append(recordings.write(tmp_path / "db9.rec", broken))
    result = run("report", *paths, "-s", "1")
    assert result.code == 0
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "mmap_lock in 4 recordings of 300m to 6.00s"
    hosts = [line.split()[:2] for line in lines[3:7]]
    assert hosts == [["db8", "60"], ["db7", "30"], ["web1", "9"], ["db9", "3"]]
    assert "waited" not in result.out
    assert any(
        line.startswith("wait 59.0u  read  page-fault  db8-3[4023]  on db8") for line in lines
    )
    assert "db7: 2025-06-15 " in result.out
    assert result.err == "corelock: incomplete: db9: the recording has no end.\n"
    with_blame = run("report", *paths, "--blame", "-s", "0").out
    assert len(re.findall(r"^on (db\d|web1)\nwaited ", with_blame, re.M)) == 4


def test_into_a_file(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    result = run("report", path, "-o", out)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert out.read_text() == run("report", path).out
    run("report", path, "-o", tmp_path / "none" / "out").assert_refused("cannot write")
    # Nor is the recording written over, by whatever name.
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        before = path.read_bytes()
        result = run("report", path, "-o", name)
        assert result.code == 2 and "is the recording" in result.err
        assert run("report", path, "--html", name).code == 2
        assert path.read_bytes() == before
    # What cannot be read leaves no file behind.
    (tmp_path / "bad").touch()
    run("report", tmp_path / "bad", "-o", tmp_path / "new").assert_refused("is empty")
    assert not (tmp_path / "new").exists()


def test_a_reader_that_has_seen_enough(path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs) as pipe:
        ended = subprocess.run(
            [COMMAND, "report", str(path)], stdout=pipe, stderr=subprocess.PIPE,
            env=environment(), check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_without_numpy_it_says_what_to_install(path: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    (blocked / "numpy").mkdir(parents=True)
    (blocked / "numpy" / "__init__.py").write_text("raise ModuleNotFoundError(name='numpy')")
    result = run("report", path, env=environment(PYTHONPATH=str(blocked)))
    result.assert_refused("numpy", "pip install 'corelock[report]'")
