"""Builds the pure parts of the BPF programs for the host, from ``tests/unit/*.c``."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TESTS = Path(__file__).parent
_SOURCES = _TESTS / "unit"
_FLAGS = ("-O1", "-g", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")


def build(name: str, directory: Path) -> Path:
    """Compile ``name.c`` into ``directory``; the shared library."""
    library = directory / f"{name}.so"
    subprocess.run(["cc", *_FLAGS, str(_SOURCES / f"{name}.c"), "-o", str(library)], check=True)
    return library


def build_with_skeletons(source: Path, directory: Path) -> Path:
    """Compile a C file that uses the skeletons of the BPF programs; the program."""
    program = directory / source.stem
    root = _TESTS.parent
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-isystem", root / "build"]
    flags.append(f"-I{root}/src/loader")
    subprocess.run(["cc", *flags, source, "-o", program, "-lbpf"], check=True)
    return program
