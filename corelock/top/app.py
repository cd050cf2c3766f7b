"""The terminal: a board on the screen, and keys; all of textual that there is."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import ClassVar, Optional

from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.events import Key, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from corelock.top.board import Board
from corelock.top.lines import Line
from corelock.top.picture import Picture

_STYLES = {
    "": Style(),
    "head": Style(bold=True),
    "chosen": Style(bold=True, reverse=True),
    "total": Style(bold=True),
    "foreign": Style(color="yellow"),
    "history": Style(color="cyan"),
    "dim": Style(dim=True),
    "warn": Style(color="yellow"),
    "alarm": Style(color="red", bold=True),
    "key": Style(bold=True, underline=True),
}
_PAGE = 10


def _continue_what_was_suspended() -> None:
    """Have textual begin again only where it has ended before: not at any other SIGCONT.

    One comes after SIGSTOP, and after SIGHUP when a terminal has gone; to begin twice leaves
    threads that never end.
    """
    suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
    suspended = False

    def on_suspend(number: int, frame: Optional[FrameType]) -> None:
        nonlocal suspended
        suspended = True
        if callable(suspend):
            suspend(number, frame)

    def on_continue(number: int, frame: Optional[FrameType]) -> None:
        nonlocal suspended
        if suspended and callable(resume):
            suspended = False
            resume(number, frame)

    signal.signal(signal.SIGTSTP, on_suspend)
    signal.signal(signal.SIGCONT, on_continue)


class NewPicture(Message):
    """A refresh, from whichever thread made it."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class Leave(Message):
    """The run is over: nobody is to look any longer."""


class _Screenful(Widget):
    """All of the screen. One widget, whose lines are made when there is something new."""

    DEFAULT_CSS = "_Screenful { width: 100%; height: 100%; }"

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._lines: list[Line] = []

    def renew(self) -> None:
        """Show what the board has now, by drawing the lines that are not as they were."""
        width, height = self.size
        before, self._lines = self._lines, self._board.lines(width, height)
        if len(before) != len(self._lines):
            self.refresh()
            return
        changed = [y for y, line in enumerate(self._lines) if line != before[y]]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def on_resize(self, event: Resize) -> None:
        """All lines are other ones."""
        self._lines = self._board.lines(event.size.width, event.size.height)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of the lines."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width)
        return Strip([Segment(text, _STYLES[style]) for text, style in self._lines[y]], width)


class TopApp(App[None]):
    """Shows a board until ``q``. From ``begin_feeding`` on, other threads may :meth:`tell` it."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; color: ansi_default; }"
    TITLE = "corelock top"
    BINDINGS: ClassVar[list] = []  # type: ignore[type-arg]

    def __init__(self, board: Board, begin_feeding: Callable[[], None]) -> None:
        super().__init__(ansi_color=True)
        self.board = board
        self._begin_feeding = begin_feeding
        self._screenful = _Screenful(board)

    def compose(self) -> ComposeResult:
        """One widget."""
        yield self._screenful

    def on_mount(self) -> None:
        """Pictures may come."""
        _continue_what_was_suspended()
        # What start-up made stays: not to be gone through again and again.
        gc.freeze()
        self._begin_feeding()

    def tell(self, message: Message) -> None:
        """Hand over a message, from any thread; nothing happens when the screen has gone."""
        with suppress(RuntimeError):  # the event loop has just been closed
            self.post_message(message)

    def on_new_picture(self, message: NewPicture) -> None:
        """Show it, or keep it while paused."""
        self.board.add(message.picture)
        if not self.board.paused or message.picture.ended:
            self._screenful.renew()

    def on_leave(self, message: Leave) -> None:
        """The run is over."""
        self.exit()

    async def action_quit(self) -> None:
        """Ctrl-Q, and Ctrl-C where it is bound."""
        self.exit()

    def action_help_quit(self) -> None:
        """Ctrl-C, which only tells of Ctrl-Q otherwise."""
        self.exit()

    def on_key(self, event: Key) -> None:
        """Every key is dealt with here."""
        event.prevent_default()
        event.stop()
        if event.key in ("ctrl+c", "ctrl+q"):
            self.exit()
        elif self.board.typing is not None:
            self._type(event)
        else:
            self._act(event)
        self._screenful.renew()

    def _type(self, event: Key) -> None:
        board = self.board
        if event.key == "escape":
            board.stop_typing(keep=False)
        elif event.key == "enter":
            board.stop_typing(keep=True)
        elif event.key == "backspace":
            board.erase()
        elif event.is_printable and event.character:
            board.type(event.character)

    def _act(self, event: Key) -> None:
        board, key = self.board, event.key
        views = {"t": "threads", "o": "operations", "h": "holders"}
        steps = {
            "up": -1, "down": 1, "pageup": -_PAGE, "pagedown": _PAGE,
            "home": -(1 << 30), "end": 1 << 30,
        }  # fmt: skip
        if key == "q":
            self.exit()
        elif key in views:
            board.show(views[key])
        elif key == "tab":
            board.show_next()
        elif key in steps:
            board.scroll(steps[key])
        elif key in ("left", "less_than_sign", "right", "greater_than_sign", "s"):
            board.sort(-1 if key in ("left", "less_than_sign") else 1)
        elif key == "r":
            board.reverse()
        elif key in ("p", "space"):
            board.pause()
        elif key == "w":
            board.resize_pane()
        elif key == "slash":
            board.type("")
        elif key == "escape":
            board.stop_typing(keep=False)
            if board.large_pane:
                board.resize_pane()
