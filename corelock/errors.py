"""Every exception corelock raises on purpose derives from :class:`CorelockError`."""

from __future__ import annotations


class CorelockError(Exception):
    """Something failed; ``message`` says what, ``remedy`` what to do about it.

    ``log`` holds what libbpf and the kernel's verifier said and what was tried, or is empty.
    """

    def __init__(self, message: str, remedy: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.log = log

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class InvalidArgument(CorelockError, ValueError):
    """An argument is out of range or contradicts another."""


class NoSuchTarget(CorelockError, ProcessLookupError):
    """The process or thread does not exist, or has no address space."""


class NoSuchProbe(CorelockError, LookupError):
    """No function, event or static probe has such a name; the remedy has the nearest ones."""


class UnusableFile(CorelockError, OSError):
    """A program or library is not there, cannot be read, or is not for this host."""


class Unsupported(CorelockError):
    """This host lacks something corelock needs: BTF, the tracepoints, Linux itself."""


class MissingPrivilege(CorelockError, PermissionError):
    """The caller lacks a capability; the message names it."""


class LibraryError(CorelockError):
    """libcorelock is missing or does not match this package."""


class LoadError(CorelockError):
    """The kernel refused to load or attach a program; see ``log``."""


class CommandError(CorelockError):
    """The command to trace could not be started."""
