"""``corelock report --format`` as a user runs it."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from corelock.export.recordings import FORMATS, format_named
from tests import recordings
from tests.cli.command import COMMAND, environment, run
from tests.exported import exported
from tests.recordings import Cycle, Plan

PROCESSES = [recordings.process(1, 40, "server")]
ROWS = [recordings.row(1, 1, 1, 40, 41, "worker", 11, 1)]
CYCLES = [Cycle(1, 10_000 * (i + 1), 10 + i, 100 + i) for i in range(50)]
BINARY = [name for name in FORMATS if format_named(name).BINARY]
OURS = ["json", "csv", "folded", "speedscope", "perfetto", "pprof"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Plan(PROCESSES, ROWS, [CYCLES]).write(tmp_path / "r.rec")


@pytest.mark.parametrize("name", OURS)
def test_a_file_and_stdout_are_the_same(path: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    result = run("report", path, "--format", name, "-o", out)
    assert (result.code, result.out, result.err) == (0, "", "")
    piped = subprocess.run(
        [COMMAND, "report", str(path), "--format", name], capture_output=True, env=environment()
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout == out.read_bytes()
    made = exported(name, path)[0]
    assert (made if isinstance(made, bytes) else made.encode()) == piped.stdout


@pytest.mark.parametrize("name", OURS)
def test_a_cut_recording_is_written_and_said_to_be_cut(tmp_path: Path, name: str) -> None:
    path = Plan(PROCESSES, ROWS, [CYCLES], ends=False).write(tmp_path / "r.rec")
    result = run("report", path, "--format", name, "-o", tmp_path / "out")
    assert result.code == 0
    assert result.err == "corelock: incomplete: the recording has no end.\n"
    assert (tmp_path / "out").stat().st_size


@pytest.mark.parametrize("name", OURS)
def test_who_stops_reading_is_no_error(path: Path, name: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        result = subprocess.run(
            [COMMAND, "report", str(path), "--format", name],
            stdout=stream, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("name", OURS)
def test_no_room_is_an_error(path: Path, name: str) -> None:
    result = run("report", path, "--format", name, "-o", "/dev/full")
    result.assert_refused("/dev/full", "No space left on device")


@pytest.mark.parametrize("name", BINARY)
def test_bytes_are_not_written_to_a_terminal(path: Path, name: str) -> None:
    ours, theirs = pty.openpty()
    result = subprocess.run(
        [COMMAND, "report", str(path), "--format", name],
        stdout=theirs, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    os.close(theirs)
    assert result.returncode == 2
    assert b"name -o FILE" in result.stderr
    with pytest.raises(OSError):  # nothing was written, and the other side is closed
        os.read(ours, 1)
    os.close(ours)


def test_wait_times_folded(path: Path) -> None:
    result = run("report", path, "--format", "folded", "--what", "wait")
    assert result.out == "worker;[no stack: shorter than 100us];-;munmap 1725\n"


def test_what_is_for_folded_alone(path: Path) -> None:
    result = run("report", path, "--format", "json", "--what", "wait")
    assert result.code == 2
    assert "--what goes with --format folded" in result.err
