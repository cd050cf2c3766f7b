"""The cache on disk: what it keeps, and what it does not trust."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from elf_image import BASE, symbols_image

from corelock.symbolize.cache import Cache, default_folder
from corelock.symbolize.counts import Counts
from corelock.symbolize.elf import ElfSymbols

DATA = bytes(range(256)) * 4


@pytest.fixture
def problems() -> Counts:
    return Counts()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "above" / "corelock"


@pytest.fixture
def cache(folder: Path, problems: Counts) -> Cache:
    return Cache(str(folder), problems)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_put_is_got_by_the_next_run(cache: Cache, folder: Path, problems: Counts) -> None:
    umask = os.umask(0)
    try:
        assert cache.get("key") is None
        assert not folder.exists()
        cache.put("key", DATA)
    finally:
        os.umask(umask)
    assert Cache(str(folder), problems).get("key") == DATA
    assert (mode_of(folder), mode_of(folder.parent), mode_of(folder / "key")) == (
        0o700, 0o700, 0o600
    )  # fmt: skip
    assert os.listdir(folder) == ["key"]
    assert problems == {}


@pytest.mark.parametrize("damage", ["truncate", "flip", "version", "magic", "empty", "longer"])
def test_a_corrupt_file_is_ignored_and_written_again(
    cache: Cache, folder: Path, problems: Counts, damage: str
) -> None:
    cache.put("key", DATA)
    good = (folder / "key").read_bytes()
    flipped = bytearray(good)
    flipped[{"flip": -5, "version": 8, "magic": 0}.get(damage, 0)] ^= 1
    damaged = {"truncate": good[:-1], "empty": b"", "longer": good + b"\0"}.get(damage, flipped)
    (folder / "key").write_bytes(damaged)
    assert cache.get("key") is None
    assert problems == {"cache: a corrupt file is ignored": 1}
    cache.put("key", DATA)
    assert cache.get("key") == DATA


def test_what_others_may_write_is_not_trusted(cache: Cache, folder: Path, problems: Counts) -> None:
    cache.put("key", DATA)
    (folder / "key").chmod(0o620)
    assert cache.get("key") is None
    assert problems == {"cache: a file of another user is ignored": 1}
    cache.put("key", DATA)
    assert (cache.get("key"), mode_of(folder / "key")) == (DATA, 0o600)
    folder.chmod(0o777)
    assert cache.get("key") is None
    cache.put("other", DATA)
    assert problems["cache: a folder of another user is ignored"] == 2
    assert os.listdir(folder) == ["key"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_it_is_readable_to_nobody_else(cache: Cache, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache.put("key", DATA)
    finally:
        os.umask(before)
    assert (mode_of(folder), mode_of(folder / "key")) == (0o700, 0o600)


@pytest.mark.parametrize("mode", [0o720, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(
    cache: Cache, folder: Path, problems: Counts, mode: int
) -> None:
    cache.put("key", DATA)
    folder.chmod(mode)
    assert cache.get("key") is None
    cache.put("other", DATA)
    assert os.listdir(folder) == ["key"]
    assert problems == {"cache: a folder of another user is ignored": 2}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("there", [False, True], ids=["to be made", "there"])
def test_a_read_only_file_system_is_counted(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "corelock"
    if there:
        Cache(str(folder), Counts()).put("key", DATA)
    code = f"""
from corelock.symbolize.cache import Cache
from corelock.symbolize.counts import Counts
problems = Counts()
cache = Cache({str(folder)!r}, problems)
print(len(cache.get("key") or b""))
cache.put("other", b"data")
cache.put("another", b"data")
print(dict(problems))
"""
    read_only = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && "$@"'
    process = subprocess.run(
        ["unshare", "--mount", "sh", "-c", read_only, "sh", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    length, counted = process.stdout.splitlines()
    assert int(length) == (len(DATA) if there else 0)
    assert counted == str({"cache: Read-only file system": 2})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_others_own_is_not_trusted(cache: Cache, folder: Path, problems: Counts) -> None:
    cache.put("key", DATA)
    os.chown(folder / "key", 12345, 0)
    assert cache.get("key") is None
    os.chown(folder / "key", 0, 0)
    assert cache.get("key") == DATA
    os.chown(folder, 12345, 0)
    assert cache.get("key") is None
    assert len(problems) == 2
    # sudo leaves HOME as it was: no folder of root's is made in it.
    home = folder.parent / "home"
    home.mkdir()
    os.chown(home, 12345, 0)
    Cache(str(home / ".cache" / "corelock"), problems).put("key", DATA)
    assert os.listdir(home) == []
    assert len(problems) == 3


def test_links_and_other_things_are_not_followed(
    cache: Cache, folder: Path, problems: Counts, tmp_path: Path
) -> None:
    cache.put("key", DATA)
    (folder / "key").rename(tmp_path / "elsewhere")
    (folder / "key").symlink_to(tmp_path / "elsewhere")
    assert cache.get("key") is None
    cache.put("key", DATA[:10])
    assert (tmp_path / "elsewhere").stat().st_size > len(DATA)
    assert cache.get("key") == DATA[:10]
    os.mkfifo(folder / "fifo")
    assert cache.get("fifo") is None
    (tmp_path / "link").symlink_to(folder)
    assert Cache(str(tmp_path / "link"), problems).get("key") is None
    assert len(problems) == 3


def test_the_least_recently_used_goes_first(folder: Path, problems: Counts) -> None:
    cache = Cache(str(folder), problems, limit_bytes=3 * (len(DATA) + 24))
    for number, key in enumerate(["a", "b", "c"]):
        cache.put(key, DATA)
        os.utime(folder / key, ns=(number, number))
    assert cache.get("a") == DATA  # now the latest
    cache.put("d", DATA)
    assert sorted(os.listdir(folder)) == ["a", "c", "d"]
    cache.put("huge", DATA * 4)
    assert sorted(os.listdir(folder)) == ["a", "c", "d"]
    assert problems == {}


def test_nothing_is_left_of_a_write_that_fails(cache: Cache, folder: Path) -> None:
    cache.put("a", DATA)
    (folder / "key").mkdir()
    (folder / "key" / "inside").touch()
    cache.put("key", DATA)
    assert sorted(os.listdir(folder)) == ["a", "key"]


def test_a_folder_that_cannot_be_made_is_counted(tmp_path: Path, problems: Counts) -> None:
    (tmp_path / "file").touch()
    cache = Cache(str(tmp_path / "file" / "corelock"), problems)
    cache.put("key", DATA)
    assert cache.get("key") is None
    assert problems == {"cache: Not a directory": 2}


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == "/home/me/.cache/corelock"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/my")
    assert default_folder() == "/var/my/corelock"


def image(count: int, name: bytes) -> bytes:
    return symbols_image(
        [(BASE + 16 * i, 16, name + b"%d" % i) for i in range(count)], b"\x12" * 20
    )


def test_only_large_tables_are_kept_and_by_what_they_say(cache: Cache, folder: Path) -> None:
    ElfSymbols(io.BytesIO(image(1000, b"small")), cache)
    assert not folder.exists()
    for _ in range(2):
        symbols = ElfSymbols(io.BytesIO(image(60_000, b"one")), cache)
        assert symbols.find(BASE + 16 * 59_999 + 3) == ("one59999", BASE + 16 * 59_999)
        assert len(os.listdir(folder)) == 1
    # The same build-id, as a forger or strip may have it, and another table.
    symbols = ElfSymbols(io.BytesIO(image(70_000, b"two")), cache)
    assert symbols.find(BASE + 3) == ("two0", BASE)
    assert len(os.listdir(folder)) == 2
