"""Speedscope itself opens what is written for it."""

from __future__ import annotations

import base64
from pathlib import Path

from selenium.webdriver.common.by import By

from tests import recordings
from tests.browser.pages import Page
from tests.exported import exported
from tests.recordings import Cycle, Plan
from tests.speedscope import VIEWER

STACKS = {
    "first": {"strings": 0, "frames": 0, "stacks": 0},
    "strings": ["do_munmap", "[kernel]", "free_block", "a.out"],
    "frames": [[1 << 63, 0, 4, 1], [4096, 2, 4, 3]],
    "stacks": [[[0], [1], None]],
    "ids": [[17, 0]],
}
PLAN = Plan(
    [recordings.process(1, 40, "server")],
    [recordings.row(1, 1, 1, 40, 41, "worker", 11, 1), recordings.row(2, 1, 2, 40, 42, "x", 9, 0)],
    [[Cycle(1, 10_000_000, 5_000_000, 7_500_000, hold_stack=17), Cycle(2, 19_000_000, 0, 2500)]],
    [STACKS],
)


def test_functions_and_their_times_are_shown(page: Page, tmp_path: Path) -> None:
    text = exported("speedscope", PLAN.write(tmp_path / "r"))[0]
    page.driver.get("about:blank")
    page.driver.get_log("browser")
    page.driver.get(f"{VIEWER.resolve().as_uri()}#localProfilePath={_script(text, tmp_path)}")
    page.until(lambda: "hold time" in _text(page))
    page.driver.find_element(By.XPATH, "//*[contains(text(), 'Sandwich')]").click()
    page.until(lambda: "do_munmap" in _text(page))
    lines = " ".join(_text(page).split())
    assert "7.50ms" in lines and "free_block" in lines and "worker" in lines
    assert "[no stack: shorter than 100us]" in lines and "mmap" in lines
    assert not [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]


def _text(page: Page) -> str:
    return str(page.js("return document.body.innerText"))


def _script(text: str, folder: Path) -> Path:
    """How speedscope's own command hands a file to the viewer."""
    path = folder / "profile.js"
    data = base64.b64encode(text.encode()).decode()
    path.write_text(f'speedscope.loadFileFromBase64("run.speedscope.json", "{data}")')
    return path
