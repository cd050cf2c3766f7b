"""Finding and opening libcorelock, and making sure that it is the right one.

Nothing is opened at import; :func:`library` does it on first use.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from pathlib import Path
from typing import Any, Optional

from corelock.errors import LibraryError, Unsupported

LIBRARY_NAME = "libcorelock.so"
#: Environment variable that names another library file, for development.
LIBRARY_VARIABLE = "CORELOCK_LIBRARY"
#: How the portable file (``packaging/program.c``) says that the library is part of it.
_INSIDE = "corelock-library" in sys._xoptions

#: ELF's numbers of machines (``e_machine``), as uname calls them.
_MACHINES = {3: "i686", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}

_lock = threading.Lock()
_opened: Optional[tuple[Any, Any]] = None


def library() -> tuple[Any, Any]:
    """The cffi pair ``(ffi, lib)``, opened and checked once per process.

    Raises:
        Unsupported: this is not Linux.
        LibraryError: the library is missing, cannot be opened, or does not
            match this package.
    """
    global _opened
    with _lock:
        if _opened is None:
            _opened = _open()
        return _opened


def _open() -> tuple[Any, Any]:
    if not sys.platform.startswith("linux"):
        raise Unsupported(
            f"mmap_lock exists in Linux only, and this is {sys.platform}",
            "Run corelock on the Linux host itself.",
        )
    try:
        from corelock._ffi import _generated
    except ImportError as error:
        raise LibraryError(
            f"this copy of corelock was not built: {error}", "Run make in its checkout."
        ) from error
    ffi = _generated.ffi
    path = _path()
    try:
        if path is not None:
            _check_whole(path)
        lib = ffi.dlopen(path)
    except OSError as error:
        raise _not_opened(str(path), error) from error
    _check(ffi, lib, path or sys.executable, _generated.FINGERPRINT)
    return ffi, lib


def _path() -> Optional[str]:
    """The library's file; None if it is part of this program."""
    named = os.environ.get(LIBRARY_VARIABLE)
    if _INSIDE:
        # Nor may the environment put code into a program that has capabilities of its own.
        if named:
            raise LibraryError(
                f"this program has its library inside, and {LIBRARY_VARIABLE} names {named}",
                f"Unset {LIBRARY_VARIABLE}.",
            )
        return None
    # Without a slash in its name, dlopen would look elsewhere.
    path = os.path.abspath(named or Path(__file__).resolve().parent.parent / LIBRARY_NAME)
    if not os.path.exists(path):
        raise LibraryError(f"{path} does not exist", "Run make, or reinstall the package.")
    return path


def _not_opened(path: str, error: OSError) -> LibraryError:
    # glibc's own message for another machine's file is that there is no such file.
    library, here = _machine(path), _machine("/proc/self/exe")
    if library and here and library != here:
        return LibraryError(
            f"{path} is for {library} machines, and this Python is for {here}",
            f"Install corelock's wheel for {here}, or run make on this machine.",
        )
    # cffi's errors have no strerror, and dlopen's words begin with the path, twice.
    reason = error.strerror or str(error).rpartition(f"{path}: ")[2]
    return LibraryError(
        f"cannot open {path}: {reason}",
        "Install libbpf 1.1 or newer (Debian: libbpf1), or corelock's wheel, which has it inside.",
    )


def _machine(path: str) -> Optional[str]:
    """The kind of machine that an ELF file is for, None if it is no ELF file."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _MACHINES.get(number, f"other (ELF machine {number})")


def _check_whole(path: str) -> None:
    """Who opens a library that was cut is killed by a SIGBUS.

    Raises:
        LibraryError: it was.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(64)
        size = os.fstat(file.fileno()).st_size
    # The section headers of a 64-bit file: where they begin, the size of each, how many. They
    # are what comes last.
    if len(header) == 64 and header[:5] == b"\x7fELF\x02":
        offset, each, count = struct.unpack("=40xQ10xHH2x", header)
        if offset + each * count > size:
            raise LibraryError(f"{path} is cut short", "Run make again, or reinstall the package.")


def _check(ffi: Any, lib: Any, path: str, fingerprint: int) -> None:
    try:
        found = lib.corelock_handshake()
    except (AttributeError, ffi.error) as error:
        raise LibraryError(f"{path} is not libcorelock", "Unset CORELOCK_LIBRARY.") from error
    if (found.abi_version, found.fingerprint) != (lib.CORELOCK_ABI_VERSION, fingerprint):
        raise LibraryError(
            f"{path} does not match this package: its contract is version "
            f"{found.abi_version} ({found.fingerprint:016x}), expected version "
            f"{lib.CORELOCK_ABI_VERSION} ({fingerprint:016x})",
            "Run make again, or reinstall the package.",
        )
