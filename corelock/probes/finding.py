"""From patterns to places, whatever they are of: :class:`Finder`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from corelock.errors import CorelockError
from corelock.probes.instructions import sound
from corelock.probes.kernel_functions import BLACKLISTED, NOTRACE, KernelFunctions
from corelock.probes.patterns import Names, Pattern
from corelock.probes.places import WAYS, Candidate, Place, Way
from corelock.probes.tracefs import Folder, open_debugfs, open_tracefs
from corelock.probes.tracepoints import Tracepoints

if TYPE_CHECKING:
    from corelock.probes.code_files import Found
    from corelock.probes.user_functions import Functions

#: Ways that are left where there is a doubt.
_LEFT: dict[str, tuple[Way, ...]] = {
    # Only kprobes can be where ftrace is not,
    NOTRACE: ("KPROBE",),
    # and only ftrace where kprobes may not be.
    BLACKLISTED: ("KPROBE_MULTI", "FENTRY"),
}


class Matched(NamedTuple):
    """What one pattern matches: what to attach to, and labels of what cannot be, by reason.

    ``whole``: it names each one in full, so none may be missing.
    """

    pattern: Pattern
    candidates: tuple[Candidate, ...]
    refused: dict[str, tuple[str, ...]]
    whole: bool


class Finder:
    """Finds what patterns match. A context manager; files are read when they are needed.

    ``pid``: files are those of this process. ``lock_is_held``: whether a process's mmap_lock is
    held now; nothing that takes it is read of one meanwhile.
    """

    def __init__(
        self, pid: Optional[int] = None, lock_is_held: Optional[Callable[[int], bool]] = None
    ) -> None:
        self._pid = pid
        self._lock_is_held = lock_is_held
        self._open = ExitStack()

    def __enter__(self) -> Finder:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._open.close()

    def find(self, pattern: Pattern) -> Matched:
        """What ``pattern`` matches.

        Raises:
            NoSuchProbe: nothing; or one of its alternatives does not.
            CorelockError: where it would be cannot be read.
        """
        parts = self.find_each(pattern)
        refused: dict[str, tuple[str, ...]] = {}
        for part in parts:
            for reason, labels in part.refused.items():
                refused[reason] = refused.get(reason, ()) + labels
        candidates = tuple(dict.fromkeys(each for part in parts for each in part.candidates))
        return Matched(pattern, candidates, refused, all(part.whole for part in parts))

    def find_each(self, pattern: Pattern) -> list[Matched]:
        """The same, of each alternative (``a|b``) by itself."""
        if len(pattern.group.alternatives) > 1:
            for group in pattern.group.alternatives:  # each has something
                self._found(pattern._replace(group=group), False)
        return [
            self._found(pattern._replace(name=name), name.exact is not None)
            for name in pattern.name.alternatives
        ]

    def _found(self, pattern: Pattern, whole: bool) -> Matched:
        if pattern.kind == "FUNCTION":
            return self._functions_of(pattern, whole)
        if pattern.kind == "TRACEPOINT":
            return Matched(pattern, _candidates(self.tracepoints.find(pattern)), {}, whole)
        # Files of the user are read with a library that takes long to import.
        if pattern.kind == "USER":
            from corelock.probes import user_functions

            try:
                places, refused = user_functions.match(
                    pattern, self._pid, self._lock_is_held, self._functions_in
                )
            except CorelockError as error:
                if self._is_tracepoint(pattern):
                    error.remedy = f"Did you mean t:{pattern.text}?"
                raise
            return _in_files(pattern, places, dict(refused), whole)
        from corelock.probes import usdt

        return _in_files(pattern, usdt.find(pattern, self._pid, self._lock_is_held), {}, whole)

    def _is_tracepoint(self, pattern: Pattern) -> bool:
        """Whether ``category:event`` is meant, as tracepoints are labelled."""
        try:
            self.tracepoints.find(pattern._replace(group=Names(pattern.library)))
        except CorelockError:
            return False
        return True

    def _functions_of(self, pattern: Pattern, whole: bool) -> Matched:
        found = self.functions.find(pattern)
        refused = dict(found.refused)
        places = [(place, "") for place in found.places]
        for doubt, those in found.doubtful.items():
            # A wildcard means thousands that ftrace does not have: each would be one kprobe.
            if doubt == NOTRACE and not whole:
                refused[doubt] = tuple(dict.fromkeys(place.label for place in those))
            else:
                places += ((place, doubt) for place in those)
        # BTF has the kernel's own functions by name: of several, the first.
        names = Counter(place.name for place, _ in places)
        names.update(label.partition(" [")[0] for those in refused.values() for label in those)
        candidates = []
        for place, doubt in places:
            ways = _LEFT.get(doubt, WAYS["FUNCTION"])
            if names[place.name] > 1 or place.label != place.name:
                ways = tuple(way for way in ways if way != "FENTRY")
            candidates.append(Candidate(place, ways, doubt))
        return Matched(pattern, tuple(candidates), refused, whole)

    @cached_property
    def _functions_in(self) -> Callable[[Found], Functions]:
        """Of a file, read once: patterns have many names."""
        from corelock.probes.user_functions import functions_in

        return lru_cache(maxsize=None)(functions_in)

    @cached_property
    def functions(self) -> KernelFunctions:
        """Those of the kernel."""
        return KernelFunctions(self._tracefs_if_any, self._debugfs)

    @cached_property
    def tracepoints(self) -> Tracepoints:
        """Those of the kernel.

        Raises:
            MissingPrivilege, Unsupported: there is no tracefs that can be read.
        """
        return Tracepoints(self._tracefs)

    @cached_property
    def _tracefs(self) -> Folder:
        return self._open.enter_context(open_tracefs())

    @property
    def _tracefs_if_any(self) -> Optional[Folder]:
        try:
            return self._tracefs
        except CorelockError:
            return None

    @cached_property
    def _debugfs(self) -> Optional[Folder]:
        folder = open_debugfs()
        return None if folder is None else self._open.enter_context(folder)


def _in_files(
    pattern: Pattern, places: Sequence[Place], refused: dict[str, tuple[str, ...]], whole: bool
) -> Matched:
    good, unsound = sound(places)
    return Matched(pattern, _candidates(good), {**refused, **unsound}, whole)


def _candidates(places: Sequence[Place]) -> tuple[Candidate, ...]:
    # Without a tracepoint's name it can only be had by the event's id.
    return tuple(Candidate(place, WAYS[place.kind] if place.name else ("TP",)) for place in places)


def labels_of(matched: Sequence[Matched]) -> Iterator[str]:
    """The labels of what is to be attached to, each once."""
    yield from dict.fromkeys(each.place.label for one in matched for each in one.candidates)
