"""What the lines of a view can be sorted by, and how that is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Field(Generic[_T]):
    """A column to sort by: numbers the largest first, names (``by_name``) in their order.

    A value of 0 is none, and comes last whichever way round.
    """

    name: str
    value: Callable[[_T], float]
    by_name: bool = False


class Sorting(Generic[_T]):
    """Which field it is now, and which way round."""

    def __init__(self, fields: Sequence[Field[_T]], first: str) -> None:
        self._fields = list(fields)
        self._at = [field.name for field in self._fields].index(first)
        self.reverse = False

    @property
    def field(self) -> Field[_T]:
        """What is sorted by."""
        return self._fields[self._at]

    def move(self, by: int) -> None:
        """Go so many columns to the right, around the end."""
        self._at = (self._at + by) % len(self._fields)

    def sort(self, items: list[_T], name: Callable[[_T], tuple[str, int]]) -> None:
        """In place; ``name`` is what those are sorted by that have one."""
        field = self.field
        if field.by_name:
            items.sort(key=name, reverse=self.reverse)
        else:
            items.sort(key=field.value, reverse=not self.reverse)
            if self.reverse:
                items.sort(key=lambda item: not field.value(item))

    def mark(self, name: str, header: str, *, ascii_only: bool) -> str:
        """A header, with an arrow if it is the field's."""
        if name != self.field.name:
            return header
        arrows = "v^" if ascii_only else "▾▴"
        return arrows[self.reverse] + header
