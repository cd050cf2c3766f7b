"""What is needed of an event to name the frames of its stacks."""

from __future__ import annotations

from typing import Optional, Protocol

from corelock.model import Program, UserContext


class HasUserStack(Protocol):
    """A user stack as addresses, and whose it is; members are as of ``model.SlowEvent``.

    ``program`` None: it is taken for the one that the process runs.
    """

    @property
    def start_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def tid(self) -> int: ...
    @property
    def comm(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def user_stack(self) -> tuple[int, ...]: ...
    @property
    def user_stack_full(self) -> bool: ...
    @property
    def user_context(self) -> Optional[UserContext]: ...
    @property
    def program(self) -> Optional[Program]: ...
