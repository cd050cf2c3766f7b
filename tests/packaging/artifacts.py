"""What ``make wheel sdist portable`` has put into dist/."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[2]
ARCH = os.uname().machine
PORTABLE = ROOT / "dist" / f"corelock-{ARCH}"
_VENVS = (".venv", "build/packaging")
#: The glibc that everything must run with.
FLOOR = (2, 31)

#: For what is built elsewhere: nothing that an outer make has told this one.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}


def make(target: str, folder: Path, **options: Any) -> None:
    """``make target`` in a folder, with what is installed here, by the folder's own paths."""
    for venv in _VENVS:
        (folder / venv).parent.mkdir(exist_ok=True)
        if not (folder / venv).exists():
            (folder / venv).symlink_to(ROOT / venv)
    command = ["make", *(f"--old-file={venv}/.installed" for venv in _VENVS), target]
    options = {"env": ENVIRONMENT, **options}
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, **options)
    assert finished.returncode == 0, finished.stderr


def clone(folder: Path) -> None:
    """This commit, in a folder of its own."""
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    subprocess.run(["git", "checkout", "-q", commit.strip()], cwd=folder, check=True)


def assert_reproducible(target: str, pattern: str, folder: Path) -> None:
    """``make target`` gives this commit the same bytes in two places, and names neither."""
    made = []
    for place, umask in (("one", 0o022), ("another-folder/deeper", 0o077)):
        clone(folder / place)
        make(target, folder / place, umask=umask, env={**ENVIRONMENT, "TZ": f"X{umask}"})
        (path,) = (folder / place / "dist").glob(pattern)
        made.append(path)
    one, other = (path.read_bytes() for path in made)
    assert one == other
    assert os.fsencode(folder) not in _contents(made[0])


def _contents(path: Path) -> bytes:
    """All that is in an archive; the program before it, too."""
    if path.name.endswith(".gz"):
        return gzip.decompress(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        return path.read_bytes() + b"".join(archive.read(name) for name in archive.namelist())


def only(pattern: str) -> Path:
    """The one file of dist/ that is called so."""
    found = list((ROOT / "dist").glob(pattern))
    assert len(found) == 1, f"dist/{pattern}: {found}; run make distcheck"
    return found[0]


def needed(path: Path) -> set[str]:
    """The libraries that the dynamic linker loads for an ELF file."""
    with path.open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        return {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}


def newest_glibc(path: Path) -> tuple[int, ...]:
    """The newest version of glibc that an ELF file asks for."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
        names = [v.name for _, versions in section.iter_versions() for v in versions]
    found = [re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", name) for name in names]
    return max(tuple(map(int, match.groups())) for match in found if match)
