"""What is on the screen, and what keys change of it; knows no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, TypeVar, Union

from corelock.render.units import duration
from corelock.top.activity_table import ActivityTable, Entry
from corelock.top.history import LENGTH
from corelock.top.lines import Line, fit, sides
from corelock.top.locks_table import LocksTable
from corelock.top.pane import pane_lines
from corelock.top.picture import Picture

_T = TypeVar("_T")

VIEWS = ("threads", "operations", "holders")
_KEYS = (
    ("tab", "view"), ("<>", "sort"), ("r", "reverse"), ("/", "filter"), ("w", "worst wait"),
    ("p", "pause"), ("q", "quit"),
)  # fmt: skip
_LEAST_ROWS = 3  # of the table, before the pane gives way
_PANE = 8
_LEAST_WIDTH = 60  # a narrower terminal shows the left of that


class Board:
    """The state of the screen.

    Args:
        title: what is traced.
        every_s: how often a picture comes.
        ascii_only: whether the terminal has no other characters.
    """

    def __init__(self, title: str, every_s: float, *, ascii_only: bool = False) -> None:
        self.title = title
        self.every_s = every_s
        self.view = VIEWS[0]
        self.filter = ""
        #: What is typed for a filter, None when nothing is.
        self.typing: Optional[str] = None
        self.paused = False
        #: Whether the worst wait has the whole screen.
        self.large_pane = False
        self.offset = 0
        self.picture: Optional[Picture] = None
        self._behind: list[Picture] = []
        self._whole = ActivityTable("whole", ascii_only=ascii_only)
        self._activity = {
            kind: ActivityTable(kind, ascii_only=ascii_only) for kind in ("threads", "operations")
        }
        self._locks = LocksTable(ascii_only=ascii_only)

    def add(self, picture: Picture) -> None:
        """Take a refresh; while paused it is kept for later."""
        if self.paused and not picture.ended:
            self._behind = [*self._behind[1 - LENGTH :], picture]
            return
        self._take(picture)

    def _take(self, picture: Picture) -> None:
        activity, seconds = picture.activity, picture.activity.duration_ns / 1e9
        self._whole.add(seconds, () if activity.whole is None else (activity.whole,))
        self._activity["threads"].add(seconds, activity.threads)
        self._activity["operations"].add(seconds, activity.operations)
        if picture.locks is not None:
            self._locks.add(seconds, picture.locks)
        self.picture = picture

    def pause(self) -> None:
        """Hold the picture still, or go on with all that came meanwhile."""
        self.paused = not self.paused
        if not self.paused:
            behind, self._behind = self._behind, []
            for picture in behind:
                self._take(picture)

    def show(self, view: str) -> None:
        """Go to a view."""
        self.view = view
        self.offset = 0

    def show_next(self) -> None:
        """Go to the view behind this one."""
        self.show(VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)])

    @property
    def _table(self) -> Union[ActivityTable, LocksTable]:
        return self._locks if self.view == "holders" else self._activity[self.view]

    def sort(self, by: int) -> None:
        """Sort by the column so many to the right."""
        self._table.sorting.move(by)
        self.offset = 0

    def reverse(self) -> None:
        """The other way round."""
        self._table.sorting.reverse = not self._table.sorting.reverse
        self.offset = 0

    def resize_pane(self) -> None:
        """Give the worst wait the whole screen, or part of it again."""
        self.large_pane = not self.large_pane
        self.offset = 0

    def scroll(self, by: int) -> None:
        """Go down so many lines; the end is found when they are shown."""
        self.offset = max(0, self.offset + by)

    def type(self, text: str) -> None:
        """More of a filter, which is at work as it is typed."""
        self.typing = (self.typing or "") + text
        self._filter(self.typing)

    def erase(self) -> None:
        """Take its last character back."""
        self.typing = (self.typing or "")[:-1]
        self._filter(self.typing)

    def stop_typing(self, *, keep: bool) -> None:
        """The filter is as wanted, or not wanted at all."""
        self.typing = None
        if not keep:
            self._filter("")

    def _filter(self, text: str) -> None:
        self.filter = text
        self.offset = 0

    def lines(self, width: int, height: int) -> list[Line]:
        """The screen: exactly ``height`` lines of ``width`` columns."""
        inner = max(width, _LEAST_WIDTH)
        top = [self._title_line(inner)]
        bottom = [self._losses_line(inner), self._keys_line()]
        room = max(0, height - len(top) - len(bottom))
        middle = self._waiting() if self.picture is None else self._middle(inner, room)
        middle = [*middle[:room], *([] for _ in range(room - len(middle)))]
        return [fit(line, width) for line in [*top, *middle, *bottom][:height]]

    def _waiting(self) -> list[Line]:
        return [[], [(f"the first figures come after {self.every_s:g}s", "dim")]]

    def _middle(self, width: int, room: int) -> list[Line]:
        assert self.picture is not None
        if self.large_pane:
            return self._window(pane_lines(self.picture, width, large=True), room)
        most = max(_PANE, room // 3)
        heads = 2 if self.view == "holders" else 4
        pane = pane_lines(self.picture, width, large=False)
        pane = pane[: max(0, min(most, room - heads - _LEAST_ROWS))]
        table = self._table_lines(width, room - len(pane))
        blank: list[Line] = [[] for _ in range(room - len(pane) - len(table))]
        return [*table, *blank, *pane]

    def _table_lines(self, width: int, room: int) -> list[Line]:
        assert self.picture is not None
        wanted = self.filter.lower()
        if isinstance(table := self._table, LocksTable):
            locks = table.entries(wanted)
            shown_locks = self._window(locks, room - 2)
            tabs = self._tabs(len(locks), width)
            if not locks:
                return [tabs, [(self._no_locks(), "dim")]]
            return [tabs, *table.lines(shown_locks, width)]
        entries = table.entries(wanted)
        several = self.picture.several
        shown: Sequence[Entry] = self._window(entries, room - 4)
        self._whole.sorting = table.sorting
        return [
            self._tabs(len(entries), width),
            *table.lines(shown, self._whole, several and self.view == "threads", width),
        ]

    def _window(self, entries: list[_T], room: int) -> list[_T]:
        """Those from the offset on that there is room for."""
        room = max(0, room)
        self.offset = max(0, min(self.offset, len(entries) - room))
        return entries[self.offset : self.offset + room]

    def _no_locks(self) -> str:
        picture = self.picture
        if picture is None or picture.locks is None:
            return picture.problem if picture and picture.problem else "looking ..."
        mms = picture.locks.mms
        return f"no lock of {mms:,} address space{'s' if mms != 1 else ''} was held at that moment"

    def _title_line(self, width: int) -> Line:
        picture = self.picture
        left: Line = [("corelock top  ", "head"), (f"mmap_lock of {self.title}", "total")]
        if picture is None:
            return sides(left, [], width)
        right: Line = [(f"  {duration(picture.running_ns)}, every {self.every_s:g}s ", "dim")]
        right.append((picture.clock, "head"))
        if picture.ended:
            right = [(f"  {picture.ended} ", "alarm"), *right[1:]]
        elif self.paused:
            right = [("  PAUSED ", "alarm"), *right[1:]]
        return sides(left, right, width)

    def _tabs(self, count: int, width: int) -> Line:
        left: Line = []
        for view in VIEWS:
            if view == self.view:
                left.append((f"[{view}]", "chosen"))
            else:
                # What is underlined is the key.
                left += [(" ", ""), (view[0], "key"), (f"{view[1:]} ", "dim")]
        if self.typing is not None:
            left.append((f"  filter: {self.typing}_", "warn"))
        elif self.filter:
            left.append((f"  filter: {self.filter}", "warn"))
        what = "locks" if self.view == "holders" else self.view
        right = f"  {count:,} {what if count != 1 else what[:-1]}"
        if self.offset:
            right = f"  from {self.offset + 1:,} of{right[1:]}"
        return sides(left, [(right, "dim")], width)

    def _losses_line(self, width: int) -> Line:
        losses = self.picture.losses if self.picture else {}
        if not losses:
            return [("nothing lost" if self.picture else "", "dim")]
        words = ", ".join(f"{cause} {count:,}" for cause, count in losses.items())
        return fit([(f"incomplete: {words}", "warn")], width)

    def _keys_line(self) -> Line:
        if self.typing is not None:
            return [("enter", "key"), (" keep it  ", "dim"), ("esc", "key"), (" no filter", "dim")]
        line: Line = []
        for key, what in _KEYS:
            line += [(key, "key"), (f" {what}  ", "dim")]
        return line
