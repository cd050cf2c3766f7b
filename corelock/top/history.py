"""What came at the latest refreshes, by group."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, Optional, TypeVar

#: Refreshes that are remembered.
LENGTH = 60

_T = TypeVar("_T")


class History(Generic[_T]):
    """The latest values of each group; one is known as long as any of them is remembered."""

    def __init__(self, length: int = LENGTH) -> None:
        self._frames: deque[tuple[float, Mapping[Hashable, _T]]] = deque(maxlen=length)
        self._length = length
        self._number = 0
        self._last: dict[Hashable, tuple[int, _T]] = {}

    def add(self, seconds: float, values: Iterable[tuple[Hashable, _T]]) -> None:
        """Take what came in the last so many seconds."""
        self._number += 1
        frame = dict(values)
        self._frames.append((seconds, frame))
        for key, value in frame.items():
            self._last[key] = self._number, value
        oldest = self._number - self._length
        for key in [key for key, (number, _) in self._last.items() if number <= oldest]:
            del self._last[key]

    @property
    def seconds(self) -> float:
        """How long the latest refresh was; 0 before the first."""
        return self._frames[-1][0] if self._frames else 0.0

    def known(self) -> list[tuple[_T, Optional[_T]]]:
        """The last value of each group, and its value at the latest refresh."""
        return [
            (value, value if number == self._number else None)
            for number, value in self._last.values()
        ]

    def series(self, key: Hashable) -> list[tuple[float, Optional[_T]]]:
        """A group's values with the seconds each is of, the newest last; None: nothing came."""
        return [(seconds, frame.get(key)) for seconds, frame in self._frames]
