"""Stacks of slow events as function names.

Used after tracing, on the few slowest events: nothing here is on the path of
an event, and nothing is read before the first one is resolved.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Callable, Optional

from corelock.model import Frame, ResolvedSlowEvent, SlowEvent, Symbolization
from corelock.symbolize.counts import Counts
from corelock.symbolize.kernel import KernelSymbols, resolve_kernel_stack

if TYPE_CHECKING:
    from corelock.symbolize.stacks import HasUserStack
    from corelock.symbolize.user import UserSymbols

__all__ = ["Symbolizer"]

_DEFAULT = "the user's"


class Symbolizer:
    """Turns addresses into names; making one costs nothing. Not for use by two threads at once.

    A frame without a symbol has ``name`` None; its ``offset`` is then the
    address in ``module`` as linked (what addr2line takes), or the offset in
    the file where its headers could not be read. C++ and Rust names are
    demangled.

    Args:
        lock_is_held: whether a pid's mmap_lock is held or queued for now. While
            it is, nothing is read of that process; the next event of it tries
            again. Must not raise, nor wait for that lock.
        cache_folder: where large symbol tables are kept for the next run; None
            is nowhere, the default is the user's cache (``$XDG_CACHE_HOME/corelock``).
        host_root: below which our own files are, for debug files and for those of
            processes that have exited.
    """

    def __init__(
        self,
        kallsyms: str = "/proc/kallsyms",
        proc: str = "/proc",
        maps_timeout_s: float = 1.0,
        *,
        lock_is_held: Optional[Callable[[int], bool]] = None,
        cache_folder: Optional[str] = _DEFAULT,
        host_root: str = "/",
    ) -> None:
        self._proc = proc
        self._maps_timeout_s = maps_timeout_s
        self._lock_is_held = lock_is_held
        self._cache_folder = cache_folder
        self._host_root = host_root
        self._named = 0
        self._unnamed = Counts()
        self._problems = Counts()
        self._kernel = KernelSymbols(kallsyms)

    @cached_property
    def _user(self) -> UserSymbols:
        # Many runs have no slow event, and start sooner without these.
        from corelock.symbolize.cache import Cache, default_folder
        from corelock.symbolize.jit import PerfMaps
        from corelock.symbolize.maps import MapsReader
        from corelock.symbolize.modules import Modules
        from corelock.symbolize.user import UserSymbols

        folder = default_folder() if self._cache_folder is _DEFAULT else self._cache_folder
        cache = Cache(folder, self._problems)
        return UserSymbols(
            self._proc,
            MapsReader(self._proc, self._maps_timeout_s, self._lock_is_held),
            Modules(self._proc, self._host_root, cache, self._problems),
            PerfMaps(self._proc, self._host_root, self._problems),
            self._problems,
        )

    def observe(self, event: HasUserStack) -> None:
        """Make sure that the mappings the event was in are known, while its process lives.

        Learns them if they are not, or if the innermost user address is in none
        of those that are. Waits ``maps_timeout_s`` seconds at most. Where mappings
        are asked for one by one, unwinds the stack to learn those of its callers.
        """
        self._user.observe(event)

    def can_name(self, event: SlowEvent) -> bool:
        """Whether the mappings it was in have been learnt; if not, trying later may help."""
        return self._user.has_mappings(event)

    def resolve(self, event: SlowEvent) -> ResolvedSlowEvent:
        """``event`` with its stacks as frames, innermost first.

        The frames of the tracing itself are left out, and so are outermost
        user addresses that are no code. Never raises over what could not be
        read: such frames have no name, and ``user_stack_note``, :attr:`notes`
        and :attr:`summary` say why.
        """
        kernel_stack = self.resolve_kernel(event.kernel_stack)
        user_stack, user_stack_note = self._user.resolve(event)
        return ResolvedSlowEvent(event, kernel_stack, user_stack, user_stack_note)

    def resolve_user(self, event: HasUserStack) -> tuple[tuple[Frame, ...], Optional[str]]:
        """The frames of a user stack, and in words why it ends early, or None."""
        return self._user.resolve(event)

    def resolve_kernel(self, stack: tuple[int, ...]) -> tuple[Frame, ...]:
        """The frames of a kernel stack, innermost first, those of the tracing left out."""
        frames = resolve_kernel_stack(stack, self._kernel)
        named = sum(frame.name is not None for frame in frames)
        self._named += named
        if named < len(frames):
            reason = "kernel: symbols are hidden" if self._kernel.note else "kernel: no symbol"
            self._unnamed.add(reason, len(frames) - named)
        return frames

    @property
    def notes(self) -> tuple[str, ...]:
        """What we may not read, so that frames have no names, and what to do about it.

        After resolving; each is said once, however often it happened.
        """
        notes = [self._kernel.note] if self._kernel.note else []
        if "_user" in self.__dict__:  # else nothing was read
            notes += self._user.notes
        return tuple(notes)

    @property
    def summary(self) -> Symbolization:
        """What became of all frames that were resolved so far."""
        unnamed = Counts(self._unnamed)
        for reason, times in self._user.unnamed.items():
            unnamed.add(reason, times)
        return Symbolization(self._named + self._user.named, unnamed, dict(self._problems))

    @property
    def problems(self) -> dict[str, int]:
        """All reasons of :attr:`summary`, of frames and of files: ``{reason: times}``."""
        return {**self.summary.unresolved, **self._problems}
