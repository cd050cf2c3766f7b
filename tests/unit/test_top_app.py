"""The keys of ``corelock top``, in a terminal without a terminal (textual's pilot)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from corelock.top.app import Leave, NewPicture, TopApp
from corelock.top.board import Board
from corelock.top.lines import text_of
from tests.pictures import locks, picture

Scenario = Callable[[TopApp, "Pilot[None]"], Awaitable[None]]


def drive(scenario: Scenario, *pictures: int, size: tuple[int, int] = (80, 24)) -> TopApp:
    """Run a scenario on an app that has these pictures; the app as it is then."""
    begun = []
    app = TopApp(Board("redis-server[4210]", 1.0), lambda: begun.append(True))

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            for number in pictures or (1,):
                app.tell(NewPicture(picture(number, locks=locks())))
            await pilot.pause()
            await scenario(app, pilot)

    asyncio.run(run())
    assert begun == [True]
    return app


def drawn(app: TopApp) -> list[str]:
    """What the widget draws."""
    widget = app.query_one("_Screenful")
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def expect_board(app: TopApp) -> None:
    width, height = app.size
    assert drawn(app) == [text_of(line).rstrip() for line in app.board.lines(width, height)]


async def press(app: TopApp, pilot: Pilot[None], *keys: str) -> list[str]:
    await pilot.press(*keys)
    await pilot.pause()
    expect_board(app)
    return drawn(app)


def test_views() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        assert "[threads]" in drawn(app)[1]
        assert "[operations]" in (await press(app, pilot, "o"))[1]
        lines = await press(app, pilot, "h")
        assert "[holders]" in lines[1] and lines[3].startswith("redis-server[4210] *htop[999]?")
        assert "[threads]" in (await press(app, pilot, "t"))[1]
        assert "[operations]" in (await press(app, pilot, "tab"))[1]

    drive(scenario)


def test_sorting() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        assert "▾time   p99     /s" in drawn(app)[3]
        assert "▾p99     /s" in (await press(app, pilot, "right"))[3]
        lines = await press(app, pilot, "right", "s")
        assert "/s ▾time   p99  hold time" in lines[3]
        assert lines[5].startswith("bio_lazy_free[4212]")
        assert (await press(app, pilot, "r"))[5].startswith("worker[4211]")
        assert "▴/s" in (await press(app, pilot, "left"))[3].replace("▾", "▴")

    drive(scenario)


def test_filtering() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        lines = await press(app, pilot, "slash", "h", "t", "o", "q", "backspace", "p")
        assert "filter: htop_" in lines[1] and lines[5].startswith("*htop[999]")
        assert lines[6] == ""
        # Letters are commands again.
        assert "[operations]" in (await press(app, pilot, "enter", "o"))[1]
        lines = await press(app, pilot, "t", "escape")
        assert "filter" not in lines[1] and lines[5].startswith("worker[4211]")
        lines = await press(app, pilot, "slash", "x", "y", "escape")
        assert "3 threads" in lines[1]

    drive(scenario)


def test_pausing() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        assert "PAUSED" in (await press(app, pilot, "p"))[0]
        app.tell(NewPicture(picture(2)))
        await pilot.pause()
        assert "14:02:01" in drawn(app)[0]
        lines = await press(app, pilot, "space")
        assert "14:02:02" in lines[0] and "PAUSED" not in lines[0]

    drive(scenario)


def test_a_new_picture_is_drawn() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        app.tell(NewPicture(picture(7, losses={"map_full": 9})))
        await pilot.pause()
        expect_board(app)
        assert drawn(app)[-2] == "incomplete: map_full 9"
        # And on the screen, not only in the widget.
        assert "map_full" in app.export_screenshot()

    drive(scenario)


def test_resizing() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        for width, height in (140, 40), (80, 24), (40, 10):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert len(drawn(app)) == height
            expect_board(app)
        assert app.size == (40, 10)

    drive(scenario, 1, 2, 3)


def test_the_worst_wait_large_and_scrolled() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        lines = await press(app, pilot, "w")
        assert "worst wait" in lines[1] and "wait 8.00m  write" in "".join(lines)
        # Not beyond the end.
        lines = await press(app, pilot, "end")
        assert "worst wait" in lines[1] or "hold 7.00m" in "".join(lines)
        assert "[threads]" in (await press(app, pilot, "escape"))[1]

    drive(scenario)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_leaving(key: str) -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press(key)

    app = drive(scenario)
    assert not app.is_running
    assert app.return_code == 0
    app.tell(NewPicture(picture(2)))  # too late, and no matter


def test_being_told_to_leave() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        app.tell(Leave())
        await pilot.pause()
        assert not app.is_running or app._exit

    drive(scenario)
