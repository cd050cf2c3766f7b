"""Packages that plain tracing does without: ``corelock[report]``, ``[top]``, ``[export]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from corelock.errors import CorelockError


class MissingExtra(CorelockError, ImportError):
    """A package of an extra is not installed; the remedy is the line that installs it."""


@contextmanager
def needs(extra: str, package: str) -> Iterator[None]:
    """Around an import of a package that comes with an extra.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this needs the package {error.name or package}, which is not installed",
            _remedy(extra),
        ) from None


def _remedy(extra: str) -> str:
    from zipimport import zipimporter

    line = f"pip install 'corelock[{extra}]'"
    if isinstance(getattr(__spec__, "loader", None), zipimporter):
        return f"This one file cannot be added to; somewhere else: {line}"
    return line
