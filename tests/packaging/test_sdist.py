"""The source distribution: building from it gives what building here gives."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.packaging.artifacts import (
    ARCH,
    ENVIRONMENT,
    ROOT,
    assert_reproducible,
    make,
    only,
)


@pytest.fixture()
def source(tmp_path: Path) -> Path:
    with tarfile.open(only("corelock-*.tar.gz")) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    return folder


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )


def test_has_every_file_of_the_commit_and_nothing_built(source: Path) -> None:
    listed = run(ROOT, "git", "ls-files").stdout.split()
    expected = {name for name in listed if not name.startswith((".ci/", ".gitignore"))}
    inside = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert expected <= inside
    made = {name for name in inside - expected if "egg-info" not in name}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    assert_reproducible("sdist", "*.tar.gz", tmp_path)


def test_what_is_made_from_it_is_what_the_checkout_makes(source: Path) -> None:
    """The archive itself, and the wheel: the commit's time is in it, and nothing is missing."""
    make("sdist", source)
    make("wheel", source)
    for pattern in ("*.tar.gz", f"*_{ARCH}.whl"):
        (made,) = (source / "dist").glob(pattern)
        assert made.read_bytes() == only(pattern).read_bytes()


def test_the_library_builds_from_it(source: Path) -> None:
    make("corelock/libcorelock.so", source)
    code = "import corelock._ffi as ffi; ffi.library(); print(ffi.__file__)"
    finished = run(source, ROOT / ".venv/bin/python", "-c", code)
    assert finished.stdout.startswith(str(source)), finished.stderr


def test_a_wheel_without_the_library_is_refused(source: Path) -> None:
    code = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    finished = run(source, ROOT / "build/packaging/bin/python", "-c", code)
    assert finished.returncode != 0
    assert "libcorelock.so is not built" in finished.stderr
    assert "Run make" in finished.stderr
