"""What a forked child may do with what its parent traces by."""

from __future__ import annotations

import os
from typing import Callable

from corelock.errors import InvalidArgument


def in_child(check: Callable[[], bool]) -> None:
    """Fork, and see that what ``check`` says in the child is true."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def refused(use: Callable[[], object]) -> bool:
    """Whether ``use`` is refused in a child, as it is the parent that traces."""
    try:
        use()
    except InvalidArgument as error:
        return f"process {os.getppid()} is tracing, and this is not it" in error.message
    return False
