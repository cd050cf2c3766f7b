"""``corelock diff`` as a user runs it, with good and with bad input. No BPF needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import recordings
from tests.cli.command import run
from tests.unit.test_compare import made


def test_two_recordings(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2, waits=3)
    result = run("diff", *paths)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith(f"A  {paths[0]}: 60.0s")
    assert [line for line in lines if line.startswith("munmap W wait")]
    assert run("diff", *paths, "--json").json["changes"][0]["operation"] == "munmap"


def test_to_a_file(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2)
    out = tmp_path / "out"
    assert run("diff", *paths, "-n", 1, "--by", "thread", "-o", out).out == ""
    assert "... and 3 more (use -n)" in out.read_text()


def test_losses_are_the_last_lines_on_stderr(tmp_path: Path) -> None:
    paths = made(tmp_path / "a", 1), made(tmp_path / "b", 2, lost=900)
    result = run("diff", *paths)
    assert result.code == 0
    assert result.err.startswith(f"corelock: incomplete: {paths[1]}: cycles lost (ring_full) 900")


@pytest.mark.parametrize("bad", ["missing", "empty", "text", "newer", "same"])
def test_bad_files(tmp_path: Path, bad: str) -> None:
    good, other = made(tmp_path / "a", 1), tmp_path / "b"
    if bad == "empty":
        other.touch()
    elif bad == "text":
        other.write_text("not a recording\n" * 10)
    elif bad == "newer":
        recordings.write(other, [], version=99)
    elif bad == "same":
        other = good
    result = run("diff", good, other)
    assert (result.code, result.out) == (1, "")
    assert str(other) in result.err and result.err.startswith("corelock: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'A'"),
        (["a"], "Missing argument 'B'"),
        (["a", "b", "c"], "unexpected extra argument"),
        (["a", "b", "--by", "host"], "cannot group by 'host'"),
        (["a", "b", "-n", "-1"], "-1 is not in the range"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    result = run("diff", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
