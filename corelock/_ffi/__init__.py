"""Finding and opening libcorelock, and making sure that it is the right one.

Nothing is opened at import; :func:`library` does it on first use.
"""

from __future__ import annotations

import os
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
        lib = ffi.dlopen(path)
    except OSError as error:
        raise LibraryError(
            f"cannot open {path}: {error}",
            "Install libbpf 1.1 or newer (Debian: libbpf1), and use a build for this machine.",
        ) from error
    _check(ffi, lib, path, _generated.FINGERPRINT)
    return ffi, lib


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
