"""Which kernel `make vmtest` takes for an entry of kernels.toml, and what it says of none."""

from __future__ import annotations

from typing import Optional

import pytest

from tests.vm import guest
from tests.vm.archive import ArchiveError, Package, Suite

NAMES = {
    "old": [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.1.0-51-rt-amd64",
        "linux-image-6.10.11-cloud-amd64",
        "linux-image-6.1.0-60-cloud-amd64-dbg",
        "linux-image-cloud-amd64",
    ],
    "new": [
        "linux-image-7.2.9-cloud-amd64",
        "linux-binary-7.2.9-cloud-amd64",
        "linux-binary-unsigned-7.2.10-cloud-amd64",
        "linux-binary-7.2.10+deb13-cloud-amd64",
        "linux-image-7.3.1-cloud-amd64-dbg",
    ],
}


class _Suite(Suite):
    """One of the suites above; the rest is as it is."""

    def __init__(self, name: str, architecture: str) -> None:
        self.name, self.architecture = name, architecture

    def _apt(self, tool: str, *arguments: str, cwd: str = "/") -> str:
        if arguments[0] == "pkgnames":
            return "\n".join(NAMES[self.name])
        assert arguments[0] == "show"
        return f"Package: {arguments[-1]}\nVersion: 1-1\n"


@pytest.mark.parametrize(
    ("suite", "series", "found"),
    [
        ("old", "6.1", "linux-image-6.1.0-50-cloud-amd64"),
        ("old", "6.10", "linux-image-6.10.11-cloud-amd64"),
        ("new", "7.2", "linux-binary-7.2.10+deb13-cloud-amd64"),
        ("old new", None, "linux-binary-7.2.10+deb13-cloud-amd64"),
        ("new old", None, "linux-binary-7.2.10+deb13-cloud-amd64"),
        ("new old", "6.1", "linux-image-6.1.0-50-cloud-amd64"),
    ],
)
def test_newest_of_the_series(
    monkeypatch: pytest.MonkeyPatch, suite: str, series: Optional[str], found: str
) -> None:
    monkeypatch.setattr(guest, "Suite", _Suite)
    its_suite, package = guest.Kernel("it", suite, series).found()
    assert package == Package(found, "1-1")
    assert its_suite.name == ("new" if "7.2" in found else "old")


@pytest.mark.parametrize("series", ["6.16", "6.2"])
def test_a_series_that_has_gone(monkeypatch: pytest.MonkeyPatch, series: str) -> None:
    monkeypatch.setattr(guest, "Suite", _Suite)
    with pytest.raises(ArchiveError) as error:
        guest.Kernel("it", "old new", series).found()
    assert str(error.value) == (
        f"it of kernels.toml has gone from the archive: no cloud kernel {series} for amd64 "
        "in old new"
    )
