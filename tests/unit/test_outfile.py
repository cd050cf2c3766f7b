"""Opening the file of ``-o``: whose it becomes, and what is not written to."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from corelock.errors import CorelockError
from corelock.outfile import open_outfile

_OTHER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def write(path: object, text: str = "new") -> bool:
    """Write there as the command does; whether the file was new."""
    file = open_outfile(str(path))
    with os.fdopen(file.fd, "w") as stream:
        stream.truncate(0) if stat.S_ISREG(os.fstat(file.fd).st_mode) else None
        stream.write(text)
    file.close()
    return file.is_new


def refused(path: object, *words: str) -> None:
    with pytest.raises(CorelockError, match=f"cannot write {path}") as caught:
        write(path)
    for word in words:
        assert word in caught.value.message
    assert "folder that only you may write to" in caught.value.remedy


@pytest.fixture()
def victim(tmp_path: Path) -> Path:
    """A file of ours that nobody shall make us write to."""
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


def folder(tmp_path: Path, mode: int) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    made.chmod(mode)
    return made


# --- its mode ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_new_file_is_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        assert write(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


def test_a_file_that_is_there_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old and longer")
    (tmp_path / "out").chmod(0o640)
    inode = (tmp_path / "out").stat().st_ino
    assert not write(tmp_path / "out")
    status = (tmp_path / "out").stat()
    assert (status.st_ino, stat.S_IMODE(status.st_mode)) == (inode, 0o640)
    assert (tmp_path / "out").read_text() == "new"


# --- where everybody may write ----------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o1777, 0o777])
class TestShared:
    """Sticky, where the kernel may refuse too, and not, where it never does."""

    def test_no_link_is_followed(self, tmp_path: Path, victim: Path, mode: int) -> None:
        shared = folder(tmp_path, mode)
        (shared / "out").symlink_to(victim)
        refused(shared / "out", "symbolic link")
        assert victim.read_text() == "precious"

    @needs_root
    def test_another_users_is_not(self, tmp_path: Path, victim: Path, mode: int) -> None:
        shared = folder(tmp_path, mode)
        (shared / "out").symlink_to(victim)
        os.chown(shared / "out", _OTHER, _OTHER, follow_symlinks=False)
        refused(shared / "out", "symbolic link")
        assert victim.read_text() == "precious"

    def test_nor_one_that_makes_a_file(self, tmp_path: Path, mode: int) -> None:
        shared = folder(tmp_path, mode)
        (shared / "out").symlink_to(tmp_path / "made")
        refused(shared / "out", "symbolic link")
        assert not (tmp_path / "made").exists()

    def test_nor_one_on_the_way(self, tmp_path: Path, victim: Path, mode: int) -> None:
        shared = folder(tmp_path, mode)
        (shared / "way").symlink_to(victim.parent)
        refused(shared / "way" / "victim", "way is a symbolic link")
        assert victim.read_text() == "precious"

    def test_nor_one_that_a_link_leads_to(self, tmp_path: Path, victim: Path, mode: int) -> None:
        shared = folder(tmp_path, mode)
        (shared / "planted").symlink_to(victim)
        (tmp_path / "mine").symlink_to("folder/planted")
        refused(tmp_path / "mine", "planted is a symbolic link")
        assert victim.read_text() == "precious"

    @needs_root
    def test_another_users_file_is_not_written(self, tmp_path: Path, mode: int) -> None:
        out = folder(tmp_path, mode) / "out"
        out.write_text("theirs")
        out.chmod(0o666)
        os.chown(out, _OTHER, _OTHER)
        refused(out, "another user's")
        assert out.read_text() == "theirs"

    def test_a_file_that_has_other_names_is_not(
        self, tmp_path: Path, victim: Path, mode: int
    ) -> None:
        out = folder(tmp_path, mode) / "out"
        os.link(victim, out)
        refused(out, "linked from elsewhere")
        assert victim.read_text() == "precious"

    def test_ones_own_file_is(self, tmp_path: Path, mode: int) -> None:
        out = folder(tmp_path, mode) / "out"
        assert write(out)
        assert not write(out, "again")
        assert out.read_text() == "again"


@needs_root
def test_of_a_groups_folder_ones_own_links_are_followed(tmp_path: Path, victim: Path) -> None:
    shared = folder(tmp_path, 0o775)
    (shared / "out").symlink_to(victim)
    assert not write(shared / "out")
    assert victim.read_text() == "new"
    os.chown(shared / "out", _OTHER, _OTHER, follow_symlinks=False)
    refused(shared / "out", "symbolic link")


# --- elsewhere links are followed -------------------------------------------------------------


@pytest.mark.parametrize(
    "out",
    ["file", "dangling", "absolute", "chain", "up/file", "./way//inner/../../file", "way/new"],
)
def test_links_in_ones_own_folders_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "up").symlink_to("real/..")
    (tmp_path / "dangling").symlink_to("real/new")
    (tmp_path / "absolute").symlink_to(tmp_path / "real" / "new")
    (tmp_path / "chain").symlink_to("dangling")
    monkeypatch.chdir(tmp_path)
    assert write(out)
    assert Path(out).read_text() == "new"


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(CorelockError, match="Too many levels"):
        write(tmp_path / "one")


@pytest.mark.parametrize(
    "path", ["", "/", ".", "{}", "{}/", "{}/none/out", "{}/file/out", "{}/new/"]
)
def test_what_no_file_can_be_at(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorelockError, match="^cannot write "):
        write(path.format(tmp_path))


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}"])
def test_ones_own_descriptors_by_name(name: str) -> None:
    """What is behind them has no path."""
    reader, writer = os.pipe()
    assert not write(name.format(writer))
    os.close(writer)
    assert os.read(reader, 100) == b"new"
    os.close(reader)


def test_no_descriptor_is_left_open(tmp_path: Path, victim: Path) -> None:
    shared = folder(tmp_path, 0o1777)
    (shared / "out").symlink_to(victim)
    (tmp_path / "way").symlink_to("folder")
    before = set(os.listdir("/proc/self/fd"))
    write(tmp_path / "way" / "good")
    refused(shared / "out")
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_name_is_taken_away_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    file = open_outfile(f"{tmp_path}/way/out")
    os.close(file.fd)
    (tmp_path / "way").unlink()
    remove: Callable[[], None] = file.remove
    remove()
    remove()
    file.close()
    assert os.listdir(tmp_path / "real") == []


def test_who_reads_the_old_file_goes_on_reading_that(tmp_path: Path, victim: Path) -> None:
    with victim.open() as old:
        file = open_outfile(str(victim))
        file.make_anew()
        os.write(file.fd, b"new")
        assert old.read() == "precious"
    assert victim.read_text() == "new"
    assert os.listdir(tmp_path) == [victim.name]
    assert not os.get_inheritable(file.fd)
    os.close(file.fd)
    file.close()


def test_a_name_that_stays_keeps_its_file(tmp_path: Path, victim: Path) -> None:
    """As those in /dev/fd do: it is emptied."""
    before = set(os.listdir("/proc/self/fd"))
    with victim.open() as theirs:
        file = open_outfile(f"/dev/fd/{theirs.fileno()}")
        file.make_anew()
        os.write(file.fd, b"new")
        assert theirs.read() == "new"
        os.close(file.fd)
        file.close()
    assert victim.read_text() == "new"
    assert os.listdir(tmp_path) == [victim.name]
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_can_be_neither_replaced_nor_emptied() -> None:
    """A sealed file, by a name that stays."""
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(sealed, b"precious")
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    file = open_outfile(f"/dev/fd/{sealed}")
    with pytest.raises(CorelockError, match="cannot overwrite") as caught:
        file.make_anew()
    assert caught.value.remedy
    os.close(file.fd)
    file.close()
    os.close(sealed)
