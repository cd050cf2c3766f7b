"""Builds the pure parts of the BPF programs for the host, from ``tests/unit/*.c``."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent / "unit"
_FLAGS = ("-O1", "-g", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")


def build(name: str, directory: Path) -> Path:
    """Compile ``name.c`` into ``directory``; the shared library."""
    library = directory / f"{name}.so"
    subprocess.run(["cc", *_FLAGS, str(_SOURCES / f"{name}.c"), "-o", str(library)], check=True)
    return library
