"""The file of ``-o`` where it must not be written, or cannot be: said before anything is traced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.cli.hosts import prepared

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("umask", "mode"), [("077", 0o600), ("022", 0o644)])
def test_it_is_as_the_umask_says(tmp_path: Path, umask: str, mode: int) -> None:
    prefix = ["sh", "-c", f'umask {umask}; exec "$@"', "sh"]
    result = run("hold-times", "-o", tmp_path / "out", "--", "true", prefix=prefix)
    assert (result.code, result.out) == (0, "")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


@pytest.mark.parametrize("command", [["hold-times", "--"], ["blame", "--"]])
def test_a_link_planted_in_a_shared_folder(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "victim").write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "out").symlink_to(tmp_path / "victim")
    os.chown(shared / "out", 12345, 12345, follow_symlinks=False)
    name, *dashes = command
    result = run(name, "-o", shared / "out", *dashes, "touch", tmp_path / "started")
    result.assert_refused(f"cannot write {shared}/out", "symbolic link")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("command", ["hold-times", "holders"])
def test_a_read_only_file_system(tmp_path: Path, command: str, there: bool) -> None:
    if there:
        (tmp_path / "out").touch()
    read_only = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,bind,ro {tmp_path}"
    arguments = ["-o", tmp_path / "out", *(["--all"] if command == "hold-times" else [])]
    result = run(command, *arguments, prefix=prepared(read_only))
    result.assert_refused(
        f"cannot write {tmp_path}/out: Read-only file system", "in a writable folder"
    )


def test_a_read_only_home_does_not_matter() -> None:
    """The run is as good, and nothing is said of it."""
    read_only = "mount -t tmpfs -o ro none /mnt; export HOME=/mnt; unset XDG_CACHE_HOME"
    result = run("hold-times", "--slow-us", "0", "--", "true", prefix=prepared(read_only))
    result.assert_table()
    assert "Read-only" not in result.err
