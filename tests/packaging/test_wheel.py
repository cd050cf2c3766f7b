"""The wheel: its name, what is inside, and that a commit gives one and the same."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests.packaging.artifacts import (
    ARCH,
    FLOOR,
    ROOT,
    assert_reproducible,
    needed,
    newest_glibc,
    only,
)

#: On every host (PEP 513's list), apart from what the wheel brings.
EVERYWHERE = {"libc.so.6", "libpthread.so.0", "libz.so.1"}
EVERYWHERE |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


@pytest.fixture(scope="module")
def wheel() -> Path:
    return only(f"corelock-*-manylinux_*_{ARCH}.whl")


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_tag(wheel: Path, unpacked: Path) -> None:
    """For any Python, and for a glibc that is old enough and has all that is asked of it."""
    match = re.search(rf"-(py3-none-manylinux_(\d+)_(\d+)_{ARCH})\.whl$", wheel.name)
    assert match
    tag, *glibc = match.groups()
    (said,) = unpacked.glob("*.dist-info/WHEEL")
    assert re.findall(r"^Tag: (.*)$", said.read_text(), re.M) == [tag]
    promised = tuple(map(int, glibc))
    assert max(map(newest_glibc, unpacked.rglob("*.so*"))) <= promised <= FLOOR


def test_has_what_it_needs(unpacked: Path) -> None:
    """libbpf is part of the library, libelf beside it; nothing is asked of the host."""
    libraries = {path.name: path for path in unpacked.rglob("*.so*")}
    assert len(libraries) == 2
    for path in libraries.values():
        assert needed(path) <= EVERYWHERE | set(libraries)
    assert any(name.startswith("libelf") for name in needed(libraries["libcorelock.so"]))


def test_has_the_package_and_licences(unpacked: Path) -> None:
    inside = {path.relative_to(unpacked) for path in unpacked.rglob("*.py")}
    assert inside == {path.relative_to(ROOT) for path in (ROOT / "corelock").rglob("*.py")}
    (licences,) = unpacked.glob("*.dist-info/licenses/LICENSES")
    for path in (ROOT / "LICENSES").iterdir():
        assert (licences / path.name).read_bytes() == path.read_bytes()
    for word in ("elfutils", "libbpf", "GNU LESSER GENERAL PUBLIC LICENSE"):
        assert word in (licences / "parts").read_text()


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    assert_reproducible("wheel", f"*_{ARCH}.whl", tmp_path)
