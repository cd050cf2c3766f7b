"""The stacks of a recording as the blocks of ``docs/format.md``: what is said once has a number."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from typing import Any, Generic, Optional, TypeVar

from corelock.export.fields import well_formed
from corelock.model import Frame, ResolvedSlowEvent

_T = TypeVar("_T", bound=Hashable)


class _Numbered(Generic[_T]):
    """Values by number, and those that no block has yet."""

    def __init__(self) -> None:
        self._numbers: dict[_T, int] = {}
        self.first = 0
        self.fresh: list[_T] = []

    def number(self, value: _T) -> int:
        number = self._numbers.setdefault(value, len(self._numbers))
        if number == self.first + len(self.fresh):
            self.fresh.append(value)
        return number

    def clear(self) -> None:
        self.first, self.fresh = len(self._numbers), []


_FrameEntry = tuple[int, int, int, int]
_StackEntry = tuple[tuple[int, ...], tuple[int, ...], Optional[int]]


class StackTable:
    """Takes stacks by the ids that cycles name them by; gives what is new as a block."""

    def __init__(self) -> None:
        self._strings: _Numbered[str] = _Numbered()
        self._frames: _Numbered[_FrameEntry] = _Numbered()
        self._stacks: _Numbered[_StackEntry] = _Numbered()
        self._ids: list[tuple[int, int]] = []
        #: How many ids have a stack.
        self.ids = 0

    def add(self, id_: int, event: ResolvedSlowEvent) -> None:
        """The stacks of an id."""
        note = event.user_stack_note
        stack = (
            self._numbers(event.kernel_stack),
            self._numbers(event.user_stack),
            None if note is None else self._string(note),
        )
        self._ids.append((id_, self._stacks.number(stack)))
        self.ids += 1

    def _numbers(self, frames: Iterable[Frame]) -> tuple[int, ...]:
        return tuple(
            self._frames.number(
                (
                    frame.address,
                    -1 if frame.name is None else self._string(frame.name),
                    -1 if frame.offset is None else frame.offset,
                    -1 if frame.module is None else self._string(frame.module),
                )
            )
            for frame in frames
        )

    def _string(self, text: str) -> int:
        return self._strings.number(well_formed(text))

    @property
    def fresh(self) -> int:
        """How many ids no block has yet."""
        return len(self._ids)

    def take_block(self) -> Optional[bytes]:
        """What is new since the last one, None if nothing is."""
        if not self._ids:
            return None
        tables: dict[str, _Numbered[Any]] = {
            "strings": self._strings, "frames": self._frames, "stacks": self._stacks,
        }  # fmt: skip
        block = {
            "first": {name: table.first for name, table in tables.items()},
            **{name: table.fresh for name, table in tables.items()},
            "ids": self._ids,
        }
        for table in tables.values():
            table.clear()
        self._ids = []
        return json.dumps(block, separators=(",", ":")).encode()
