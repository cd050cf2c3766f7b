"""What ``make wheel sdist portable`` has put into dist/."""

from __future__ import annotations

import os
import re
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[2]
ARCH = os.uname().machine
PORTABLE = ROOT / "dist" / f"corelock-{ARCH}"
_VENVS = {"VENV": ".venv", "WHEEL_VENV": "build/packaging"}
#: The glibc that everything must run with.
FLOOR = (2, 31)

#: Make elsewhere with what is installed here, as it is: nothing is installed for a copy.
MAKE = [
    "make",
    *(f"{variable}={ROOT / folder}" for variable, folder in _VENVS.items()),
    *(f"--old-file={ROOT / folder}/.installed" for folder in _VENVS.values()),
]


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
