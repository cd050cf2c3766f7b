"""Stacks of slow events as function names.

Used after tracing, on the few slowest events: nothing here is on the path of
an event, and nothing is read before the first one is resolved.
"""

from __future__ import annotations

from typing import Optional

from corelock.model import ResolvedSlowEvent, SlowEvent
from corelock.symbolize.kernel import KernelSymbols, resolve_kernel_stack
from corelock.symbolize.maps import MapsReader
from corelock.symbolize.user import UserSymbols

__all__ = ["Symbolizer"]


class Symbolizer:
    """Turns addresses into names; making one costs nothing. Not for use by two threads at once.

    A frame without a symbol has ``name`` None; its ``offset`` is then the
    address in ``module`` as linked (what addr2line takes), or the offset in
    the file where its headers could not be read. C++ names stay mangled.
    """

    def __init__(
        self, kallsyms: str = "/proc/kallsyms", proc: str = "/proc", maps_timeout_s: float = 1.0
    ) -> None:
        self._kernel = KernelSymbols(kallsyms)
        self._reader = MapsReader(proc, maps_timeout_s)
        self._user = UserSymbols(proc, self._reader)

    def observe(self, event: SlowEvent) -> None:
        """Make sure that the mappings the event was in are known, while its process lives.

        Reads them if they are not, or if the innermost user address is in none
        of those that are. Waits ``maps_timeout_s`` seconds at most.
        """
        self._user.observe(event)

    def resolve(self, event: SlowEvent) -> ResolvedSlowEvent:
        """``event`` with its stacks as frames, innermost first.

        The frames of the tracing itself are left out, and so are outermost
        user addresses that are no code. Never raises over what could not be
        read: such frames have no name, and ``user_stack_note``, :attr:`note`
        and :attr:`problems` say why.
        """
        kernel_stack = resolve_kernel_stack(event.kernel_stack, self._kernel)
        user_stack, user_stack_note = self._user.resolve(event)
        return ResolvedSlowEvent(event, kernel_stack, user_stack, user_stack_note)

    @property
    def note(self) -> Optional[str]:
        """Why kernel frames have no names and what to do about it, or None. After resolving."""
        return self._kernel.note

    @property
    def problems(self) -> dict[str, int]:
        """Files whose symbols could not be read: ``{"libfoo.so: reason": times}``."""
        return self._user.problems
