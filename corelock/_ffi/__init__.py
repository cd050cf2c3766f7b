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
    default = Path(__file__).resolve().parent.parent / LIBRARY_NAME
    # Without a slash in its name, dlopen would look elsewhere.
    path = os.path.abspath(os.environ.get(LIBRARY_VARIABLE) or default)
    try:
        from corelock._ffi import _generated
    except ImportError as error:
        raise LibraryError(
            f"this copy of corelock was not built: {error}", "Run make in its checkout."
        ) from error
    ffi = _generated.ffi
    if not os.path.exists(path):
        raise LibraryError(f"{path} does not exist", "Run make, or reinstall the package.")
    try:
        _check_file(path)
        lib = ffi.dlopen(path)
    except OSError as error:
        # cffi's have no strerror, and dlopen's words begin with the path, twice.
        reason = error.strerror or str(error).rpartition(f"{path}: ")[2]
        raise LibraryError(
            f"cannot open {path}: {reason}", "Install libbpf 1.1 or newer (Debian: libbpf1)."
        ) from error
    _check(ffi, lib, path, _generated.FINGERPRINT)
    return ffi, lib


#: Bytes of an ELF header, and where in it class and byte order are.
_ELF_HEADER, _ELF_IDENT, _ELF_64 = 64, slice(4, 6), 2
_MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64"}


def _check_file(path: str) -> None:
    """What dlopen says in misleading words, or by a SIGBUS.

    Raises:
        LibraryError: a library for another machine than this Python's, or cut short.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(_ELF_HEADER)
        size = os.fstat(file.fileno()).st_size
    if header[:4] != b"\x7fELF" or len(header) < _ELF_HEADER:
        raise LibraryError(
            f"cannot open {path}: not a shared library", "Run make, or reinstall the package."
        )
    try:
        with open("/proc/self/exe", "rb") as file:
            own = file.read(_ELF_HEADER)
    except OSError:  # then dlopen decides
        own = header
    if header[_ELF_IDENT] != own[_ELF_IDENT] or header[18:20] != own[18:20]:
        raise LibraryError(
            f"{path} is for {_machine(header)}, and this Python is for {_machine(own)}",
            "Install the package, or build it, for this machine.",
        )
    if header[4] != _ELF_64:
        return
    # The section headers come last.
    offset, each, count = struct.unpack("=40xQ10xHH2x", header)
    if offset + each * count > size:
        raise LibraryError(f"{path} is cut short", "Run make again, or reinstall the package.")


def _machine(header: bytes) -> str:
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _MACHINES.get(number, f"machine {number}")


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
