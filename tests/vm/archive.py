"""Packages of any suite and architecture, from the Debian mirror that this machine uses.

Lists, configuration and unpacked packages are in a cache of their own, outside the
checkout: nothing of the machine's own apt is touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class ArchiveError(Exception):
    """A package cannot be had: what is missing, and where it was looked for."""


class Package(NamedTuple):
    """One package, as the archive names it."""

    name: str
    version: str

    @property
    def numbers(self) -> list[int]:
        """Those in its name, to tell which is newer."""
        return [int(number) for number in re.findall(r"\d+", self.name)]


def cache_directory() -> Path:
    """Where what was downloaded is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "corelock" / "vm"


def _run(command: list[str], failure: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ArchiveError(f"{failure}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def mirror() -> str:
    """The mirror that the machine's own apt has its distribution's packages from."""
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\S+)$", release, re.M)
    codename = found[1] if found else "unknown"
    targets = _run(
        ["apt-get", "indextargets", "Created-By: Packages", "--format", "$(RELEASE) $(REPO_URI)"],
        "cannot ask apt for its sources",
    )
    for suite, _, uri in (line.partition(" ") for line in targets.splitlines()):
        if suite == codename:
            return uri
    raise ArchiveError(f"apt has no source with the suite {codename}: kernels come from there")


@contextmanager
def _lists_of_our_own(place: Path) -> Iterator[None]:
    """apt lets nobody else use the lists meanwhile, and fails rather than wait."""
    with (place / "one-at-a-time").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Suite:
    """One suite for one architecture, with lists that were asked for now."""

    def __init__(self, name: str, architecture: str) -> None:
        self.name, self.architecture = name, architecture
        self._cache = cache_directory()
        place = self._cache / "apt" / f"{name}-{architecture}"
        for folder in "lists/partial", "cache", "preferences.d":
            (place / folder).mkdir(parents=True, exist_ok=True)
        sources = place / "sources.list"
        sources.write_text(f"deb [signed-by={_KEYRING}] {mirror()} {name} main\n")
        self._configuration = place / "apt.conf"
        self._configuration.write_text(
            f'Dir::Etc::sourcelist "{sources}"; Dir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::preferences "/dev/null";\n'
            f'Dir::Etc::preferencesparts "{place}/preferences.d";\n'
            f'Dir::State "{place}"; Dir::State::status "/dev/null"; Dir::Cache "{place}/cache";\n'
            f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};\n'
            'Acquire::Languages "none"; APT::Sandbox::User "root";\n'
            # Without it apt takes a mirror it cannot reach for one with nothing new.
            'APT::Update::Error-Mode "any";\n'
        )
        with _lists_of_our_own(place):
            self._apt("get", "update", "-qq")

    def newest(self, pattern: str) -> Optional[Package]:
        """The newest package whose whole name matches, by the numbers in its name; None: none."""
        names = self._apt("cache", "pkgnames").split()
        matching = [Package(name, "") for name in names if re.fullmatch(pattern, name)]
        if not matching:
            return None
        return self.named(max(matching, key=lambda package: package.numbers).name)

    def named(self, name: str) -> Package:
        """The package of this name, with its version.

        Raises:
            ArchiveError: the suite has none.
        """
        shown = self._apt("cache", "show", "--no-all-versions", name)
        version = re.search(r"^Version: (\S+)$", shown, re.M)
        if version is None:
            raise ArchiveError(f"{self} has no version of {name}")
        return Package(name, version[1])

    def unpacked(self, package: Package) -> Path:
        """The package's files; downloaded when the cache has not got them."""
        place = self._cache / "packages" / f"{package.name}_{package.version}_{self.architecture}"
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            # In a folder that has another name until it is whole.
            with tempfile.TemporaryDirectory(dir=place.parent, prefix="partial-") as partial:
                wanted = f"{package.name}={package.version}"
                self._apt("get", "download", "-qq", wanted, cwd=partial)
                (deb,) = Path(partial).glob("*.deb")
                files = Path(partial) / "files"
                _run(["dpkg-deb", "-x", str(deb), str(files)], f"cannot unpack {deb.name}")
                try:
                    files.rename(place)
                except OSError:
                    # Another run may have been first.
                    if not place.is_dir():
                        raise
        return place

    def __str__(self) -> str:
        return f"the suite {self.name} for {self.architecture}"

    def _apt(self, tool: str, *arguments: str, cwd: str = "/") -> str:
        command = ["env", "-C", cwd, f"apt-{tool}", *arguments]
        failure = f"apt-{tool} {arguments[0]} failed for {self}"
        return _run(command, failure, APT_CONFIG=str(self._configuration))
