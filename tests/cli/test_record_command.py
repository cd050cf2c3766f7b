"""``corelock record``: how it ends, what it leaves, and what it says."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import corelock
from tests.cli.command import Corelock, Result, eventually, run
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel


@pytest.fixture
def endless() -> Iterator[Workload]:
    """A storm that waits for ``go``, and then goes on until it is killed."""
    with Workload("storm", "4", "100000000") as storm:
        yield storm


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def cycles(path: Path) -> int:
    """How many cycles there are in a recording that is not damaged but for being cut."""
    with corelock.open_recording(path) as recording:
        found = sum(len(block) for block in recording)
        damage = recording.damage
        assert not (damage.corrupt_blocks or damage.missing_blocks)
        footer = recording.footer
        if footer is not None:
            assert footer["cycles"]["written"] == found
            lost = sum(footer["cycles"]["lost"].values())
            assert found + lost >= footer["totals"]["holds"] + footer["totals"]["failures"]
        return found


def ended_by(path: Path) -> str:
    with corelock.open_recording(path) as recording:
        assert recording.footer is not None
        return str(recording.footer["ended_by"])


def summary_of(result: Result, path: Path) -> str:
    """The line that says what it came to."""
    (line,) = (line for line in result.err.splitlines() if line.startswith(f"{path}: "))
    return line


def test_a_command_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    result = run("record", "-o", path, "--", BUILD / "demo")
    assert (result.code, result.out) == (0, "")
    first = result.err.splitlines()[0]
    assert re.fullmatch(rf"Recording mmap_lock of demo\[\d+\] into {path}\. Ctrl-C to end\.", first)
    line = summary_of(result, path)
    pattern = rf"{path}: ([\d,]+) cycles in \S+, \S+B, [\d.]+ bytes each, [\d,]+ stacks"
    match = re.fullmatch(pattern, line)
    assert match, line
    assert int(match[1].replace(",", "")) == cycles(path) > 1000
    assert ended_by(path) == "target_exit"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.corelock"
    with Workload("storm", "1", "500") as storm:
        with Corelock("record", "-o", path, "--pid", storm.pid) as corelock_:
            corelock_.wait_attached()
            storm.run()
            corelock_.process.send_signal(number)
            result = corelock_.finish()
        storm.finish()
    assert result.code == 0, result.err
    assert cycles(path) >= 2000
    assert ended_by(path) == "signal"


def test_duration_and_all(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    result = run("record", "-o", path, "--all", "-d", "0.5")
    assert result.code == 0, result.err
    assert ended_by(path) == "duration"
    with corelock.open_recording(path) as recording:
        assert recording.header["target"] is None


def test_killed_in_the_middle(tmp_path: Path, endless: Workload) -> None:
    """Whatever was written before can be read, and that it was cut is seen."""
    path = tmp_path / "a.corelock"
    with Corelock("record", "-o", path, "--pid", endless.pid) as corelock_:
        corelock_.wait_attached()
        endless.go()
        eventually(lambda: path.stat().st_size > 3 << 20)
        corelock_.process.kill()
    assert cycles(path) > 60_000
    with corelock.open_recording(path) as recording:
        assert recording.footer is None
        assert recording.damage.cut
        rows = set(recording.rows["row"].tolist())
        assert all(set(block.row.tolist()) <= rows for block in recording)


def test_max_size(tmp_path: Path, endless: Workload) -> None:
    path = tmp_path / "a.corelock"
    with Corelock("record", "--max-size", "2M", "-o", path, "--pid", endless.pid) as corelock_:
        endless.go()
        result = corelock_.finish()
    assert result.code == 0, result.err
    assert "the file has reached --max-size" in result.err
    assert ended_by(path) == "max_size"
    assert cycles(path) > 100_000
    assert 1.8 * 2**20 < path.stat().st_size < 2.1 * 2**20


def test_the_disk_is_full(small_disk: Path, endless: Workload) -> None:
    """It stops, keeps what is there with its accounting, and says so."""
    path = small_disk / "a.corelock"
    with Corelock("record", "-o", path, "--pid", endless.pid) as corelock_:
        endless.go()
        result = corelock_.finish()
    assert result.code == 1
    assert "No space left on device" in result.err
    assert "what is there can be read" in result.err
    assert "Traceback" not in result.err
    assert cycles(path) > 100_000
    assert ended_by(path) == "no_space"
    with corelock.open_recording(path) as recording:
        assert recording.footer is not None
        assert recording.footer["cycles"]["lost"]["not_written"] > 0


def test_what_had_room_is_kept(small_disk: Path, endless: Workload) -> None:
    """A disk on which a whole block does not fit is filled by smaller ones."""
    free = 700 << 10
    (small_disk / "ballast").write_bytes(bytes((4 << 20) - free))
    path = small_disk / "a.corelock"
    arguments = ["--slow-us", "20", "-o", path, "--pid", endless.pid]
    with Corelock("record", *arguments) as corelock_:
        endless.go()
        result = corelock_.finish()
    assert result.code == 1
    assert "No space left on device" in result.err
    with corelock.open_recording(path) as recording:
        footer, blocks = recording.footer, list(recording)
        assert not recording.damage
        assert footer is not None
        kept = sum(map(len, blocks))
        size = sum(block.nbytes for block in blocks)
        ended = sum(int((block.kind & 7 < 4).sum()) for block in blocks)
        lost, totals = footer["cycles"]["lost"], footer["totals"]
        # Of what is not kept free for the accounting; names of stacks take some.
        assert size > 0.6 * (free - (256 << 10))
        assert footer["cycles"]["written"] == kept
        assert ended + sum(lost.values()) == totals["holds"] + totals["failures"]
        # In each part, stacks are those of its own cycles.
        assert len(blocks) > 1
        for block in blocks:
            assert (block.first_ns, block.last_ns) == (block.end_ns.min(), block.end_ns.max())
            wait_ns, hold_ns = (ns[block.stacked_index] for ns in (block.wait_ns, block.hold_ns))
            assert (wait_ns[block.wait_stack != 0] >= 20_000).all()
            assert (hold_ns[block.hold_stack != 0] >= 20_000).all()
        assert sum(len(block.stacked_index) > 0 for block in blocks) > 1


def test_the_disk_is_full_from_the_start(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(4 << 20))
    result = run("record", "-o", small_disk / "a.corelock", "--", "true")
    result.assert_refused("cannot begin the recording", "No space left on device")
    assert [entry.name for entry in small_disk.iterdir()] == ["ballast"]


def test_a_limit_of_file_sizes(tmp_path: Path, endless: Workload) -> None:
    path = tmp_path / "a.corelock"
    prefix = ["sh", "-c", 'ulimit -f 8192; exec "$@"', "sh"]
    with Corelock("record", "-o", path, "--pid", endless.pid, prefix=prefix) as corelock_:
        endless.go()
        result = corelock_.finish()
    assert result.code == 1
    assert "File too large" in result.err
    assert cycles(path) > 10_000
    assert ended_by(path) == "no_space"


def test_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    path.write_text("precious")
    result = run("record", "-o", path, "--", "touch", tmp_path / "started")
    result.assert_refused(f"{path} is there already", "--force", code=2)
    assert path.read_text() == "precious"
    assert not (tmp_path / "started").exists()
    assert run("record", "--force", "-o", path, "--", "true").code == 0
    assert cycles(path) > 10


def test_into_a_pipe(tmp_path: Path) -> None:
    with Corelock("record", "-q", "-o", "-", "--", "true") as corelock_:
        assert corelock_.process.stdout is not None
        data = corelock_.process.stdout.read()
        assert corelock_.process.wait() == 0
        assert corelock_.process.stderr is not None
        assert corelock_.process.stderr.read() == b""
    path = tmp_path / "a.corelock"
    path.write_bytes(data)
    assert cycles(path) > 10
    assert ended_by(path) == "target_exit"


def test_a_pipe_that_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run("record", "-o", "-", "--", BUILD / "demo", stdout=writer)
    os.close(writer)
    assert result.code == 1
    assert "Broken pipe" in result.err


def test_not_onto_a_terminal() -> None:
    ours, theirs = pty.openpty()
    result = run("record", "-o", "-", "--", "true", stdout=theirs)
    os.close(theirs)
    os.close(ours)
    result.assert_refused("a recording is nothing for a terminal", "-o FILE")


@pytest.mark.parametrize("size", ["0", "-1", "many", "2X", "1e30", ""])
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    result = run("record", "-o", tmp_path / "a", f"--max-size={size}", "--", "true")
    assert result.code == 2
    assert "is no size" in result.err
    assert not (tmp_path / "a").exists()


def test_without_a_file() -> None:
    result = run("record", "--", "true")
    assert result.code == 2
    assert "-o FILE" in result.err


def test_cycles_that_were_lost_are_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    with Workload("storm", "4", "5000") as storm:
        with Corelock(
            "record", "-q", "--ring-size", "4k", "-o", path, "--pid", storm.pid
        ) as corelock_:
            # With -q it does not say when it records: the file is there then.
            eventually(lambda: path.exists() and path.stat().st_size > 0)
            storm.run()
            corelock_.interrupt()
            result = corelock_.finish()
        storm.finish()
    assert result.code == 0
    (line,) = result.err.splitlines()
    match = re.fullmatch(
        r"corelock: incomplete: .*cycles_lost (\d+)\b.*\. Raise --ring-size\.", line
    )
    assert match, line
    with corelock.open_recording(path) as recording:
        assert recording.footer is not None
        assert recording.footer["cycles"]["lost"]["ring_full"] == int(match[1])


def test_it_ends_in_time_in_a_storm(tmp_path: Path) -> None:
    """Stacks of a process whose lock is hardly ever free keep nobody waiting."""
    path = tmp_path / "a.corelock"
    with Workload("storm", "300", "100000000") as storm:
        with Corelock("record", "-o", path, "-d", "1", "--pid", storm.pid) as corelock_:
            storm.go()
            result = corelock_.finish()
    assert result.code == 0, result.err
    with corelock.open_recording(path) as recording:
        assert recording.footer is not None
        assert recording.footer["end_ns"] - recording.header["start_ns"] < 4_000_000_000


def test_the_terminal_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    with Workload("storm", "1", "500") as storm:
        with Corelock("record", "-o", path, "--pid", storm.pid) as corelock_:
            corelock_.wait_attached()
            storm.run()
            corelock_.process.send_signal(signal.SIGHUP)
            assert corelock_.finish().code == 0
        storm.finish()
    assert ended_by(path) == "signal"


def test_a_named_pipe(tmp_path: Path) -> None:
    """It is refused, and nobody waits for who might read it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    run("record", "-o", path, "--", "true").assert_refused("is there already", code=2)
    result = run("record", "--force", "-o", path, "--", "true")
    result.assert_refused("is no regular file", "-o -", code=2)


def test_who_reads_the_old_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.corelock"
    assert run("record", "-o", path, "--", "true").code == 0
    with corelock.open_recording(path) as old:
        name = old.header["id"]
        assert run("record", "--force", "-o", path, "--", "true").code == 0
        assert sum(map(len, old)) > 10
    with corelock.open_recording(path) as new:
        assert new.header["id"] != name


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_a_name_of_a_descriptor(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.corelock"
    with path.open("w") as stdout:
        result = run("record", "--force", "-o", name, "--", "true", stdout=stdout.fileno())
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    assert cycles(path) > 10


def test_a_file_that_is_mounted_there(tmp_path: Path) -> None:
    """As containers have it; its name cannot be taken away. Also if what is there is longer."""
    path, mounted = tmp_path / "a.corelock", tmp_path / "mounted"
    path.touch()
    mounted.write_bytes(bytes(1 << 20))
    subprocess.run(["mount", "--bind", mounted, path], check=True)
    try:
        result = run("record", "--force", "-o", path, "--", "true")
    finally:
        subprocess.run(["umount", path], check=True)
    assert result.code == 0, result.err
    assert cycles(mounted) > 10
    assert mounted.stat().st_size < 1 << 20
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.corelock", "mounted"}


@pytest.mark.parametrize("limit", [["--max-size", "200k"], []])
def test_the_sum_is_right_when_there_was_no_room(
    small_disk: Path, endless: Workload, limit: list[str]
) -> None:
    """What had not ended then is in no sum."""
    path = small_disk / "a.corelock"
    with Corelock("record", *limit, "-o", path, "--pid", endless.pid) as corelock_:
        endless.go()
        corelock_.finish()
    with corelock.open_recording(path) as recording:
        footer = recording.footer
        ended = sum(int((block.kind & 7 < 4).sum()) for block in recording)
    assert footer is not None
    lost, totals = footer["cycles"]["lost"], footer["totals"]
    assert ended + sum(lost.values()) == totals["holds"] + totals["failures"]
