"""Stacks for the page: of single cycles, and merged into flame graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corelock.analysis.source import Source
from corelock.export.fields import well_formed
from corelock.render.html.flames import KERNEL, USER, WHO, Node, Step
from corelock.render.html.gather import Gathered

_LOST = "[stack lost]"


def frame_name(frame: tuple[int, Any, Any, Any]) -> str:
    """A frame in words, however little of it is known."""
    address, name, offset, module = frame
    if name is not None:
        return well_formed(name)
    if module is not None:
        return well_formed(module) + ("" if offset is None else f"+{offset:#x}")
    return f"{address:#x}"


def frame_names(source: Source, stack: int) -> tuple[list[str], list[str], str]:
    """Kernel frames and user frames, innermost first, and why the user part ends early."""
    found = source.recording.stacks.get(stack)
    if found is None:
        return [_LOST], [], ""
    kernel, user = ([frame_name(frame) for frame in part] for part in (found.kernel, found.user))
    return kernel, user, well_formed(found.note or "")


def flame_trees(sources: Sequence[Source], gathered: Gathered) -> dict[str, Node]:
    """By "wait" and "hold": the time of all cycles with stacks, by thread, operation, frames.

    Of several recordings, the host comes first.
    """
    roots = {kind: Node(kind) for kind in ("wait", "hold")}
    paths: dict[tuple[int, int], list[Step]] = {}
    for (source, kind, pair), (total_ns, cycles) in gathered.stacks.items():
        stack, number = pair >> 32, pair & 0xFFFFFFFF
        frames = paths.get((source, stack))
        if frames is None:
            kernel, user, _ = frame_names(sources[source], stack)
            frames = [(USER, name) for name in reversed(user)]
            frames += [(KERNEL, name) for name in reversed(kernel)]
            paths[source, stack] = frames
        row = sources[source].name(number)
        who = [well_formed(row.comm), f"{row.operation} ({row.mode})"]
        host = [sources[source].label] if len(sources) > 1 else []
        path = [*((WHO, name) for name in host + who), *frames]
        roots[kind].add(path, total_ns, cycles)
    return roots


class StackTable:
    """The stacks of single cycles, each said once, ``most`` of them."""

    def __init__(self, sources: Sequence[Source], most: int) -> None:
        self._sources = sources
        self._most = most
        self._ids: dict[tuple[int, int], int] = {}
        self._names: dict[str, int] = {}
        self._stacks: list[list[Any]] = []
        self.left_out = 0

    def number(self, source: int, stack: int) -> int:
        """The number of that stack in :attr:`json`; -1: there is none, -2: left out."""
        if not stack:
            return -1
        known = self._ids.get((source, stack))
        if known is not None:
            return known
        if len(self._stacks) >= self._most:
            self.left_out += 1
            return -2
        kernel, user, note = frame_names(self._sources[source], stack)
        self._ids[source, stack] = len(self._stacks)
        self._stacks.append([self._numbers(kernel), self._numbers(user), note])
        return len(self._stacks) - 1

    def _numbers(self, names: Sequence[str]) -> list[int]:
        return [self._names.setdefault(name, len(self._names)) for name in names]

    @property
    def json(self) -> dict[str, Any]:
        """``names`` of frames, and ``stacks`` as kernel frames, user frames (numbers), note."""
        return {"names": list(self._names), "stacks": self._stacks}
