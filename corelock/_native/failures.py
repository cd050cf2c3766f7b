"""What the library refuses, as exceptions; and the names of files as it takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from corelock import errors

_EXCEPTIONS: Mapping[str, type[errors.CorelockError]] = {
    "CORELOCK_E_ARGUMENT": errors.InvalidArgument,
    "CORELOCK_E_UNSUPPORTED": errors.Unsupported,
    "CORELOCK_E_PRIVILEGE": errors.MissingPrivilege,
    "CORELOCK_E_LOAD": errors.LoadError,
    "CORELOCK_E_COMMAND": errors.CommandError,
    "CORELOCK_E_SYSTEM": errors.CorelockError,
}


def c_path(ffi: Any, path: Optional[str]) -> Any:
    """A file's name for the library, NULL for none. It lives as long as what is returned."""
    return ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))


def exception_of(ffi: Any, error: Any) -> errors.CorelockError:
    """A ``struct corelock_error`` as what Python raises."""
    message, remedy, log = (
        ffi.string(text).decode(errors="replace")
        for text in (error.message, error.remedy, error.log)
    )
    name = ffi.typeof("enum corelock_code").elements[error.code]
    return _EXCEPTIONS[name](message, remedy, log)
