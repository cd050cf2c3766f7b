"""Append what is written in Python to the portable program, as a zip that it imports from.

Run by the CPython that the program has inside: byte code belongs to one version.
"""

from __future__ import annotations

import argparse
import py_compile
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

#: Of the standard library: tests, whole programs, and what wraps modules that are not built in
#: (packaging/python-modules). What is left out is not there to be imported by mistake either.
LEFT_OUT = frozenset(
    "__phello__ __pycache__ ctypes curses dbm ensurepip idlelib multiprocessing pydoc_data sqlite3 "
    "test tests tkinter turtledemo unittest venv wsgiref xml xmlrpc".split()
)


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module below ``root``, with its path in the archive, in one order."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not LEFT_OUT.intersection(name.parts):
            yield str(name), path


def byte_code(source: Path, name: str, scratch: Path) -> bytes:
    """``source`` compiled; its path in tracebacks is ``name``, and nobody looks for the source."""
    py_compile.compile(
        str(source),
        cfile=str(scratch),
        dfile=name,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return scratch.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--modules", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--licenses", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--epoch", type=int, required=True, help="time of every entry")
    arguments = parser.parse_args()

    date_time = time.gmtime(arguments.epoch)[:6]
    shutil.copyfile(arguments.program, arguments.output)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(arguments.output, "a") as archive:

        def add(name: str, content: bytes, how: int) -> None:
            entry = zipfile.ZipInfo(name, date_time)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, how)

        for root in arguments.modules:
            for name, path in modules(root):
                # Not compressed: it is read at every start.
                add(f"{name}c", byte_code(path, name, Path(folder, "c")), zipfile.ZIP_STORED)
        for path in arguments.licenses:
            add(f"licenses/{path.name}", path.read_bytes(), zipfile.ZIP_DEFLATED)
    arguments.output.chmod(0o755)


if __name__ == "__main__":
    main()
