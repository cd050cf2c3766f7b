"""A page in a browser, as tests see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Optional

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.cli.command import TIMEOUT_S

#: Run before a page's own script. Some errors come as events alone, and are in no log.
KEEP_ERRORS = """
window.keptErrors = [];
addEventListener("error", (event) => keptErrors.push(event.message));
addEventListener("unhandledrejection", (event) => keptErrors.push(String(event.reason)));
"""


class Page:
    """A page in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, ready: bool = True) -> Page:
        """Open it from its file, and wait until its charts are there."""
        self._read_logs()
        self.driver.get(path.resolve().as_uri())
        if ready:
            self.until(lambda: self.js("return document.documentElement.dataset.ready") == "true")
        return self

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something to be so."""
        return WebDriverWait(self.driver, TIMEOUT_S, 0.02).until(lambda _: condition())

    def js(self, code: str, *arguments: Any) -> Any:
        """What code in the page returns."""
        return self.driver.execute_script(code, *arguments)

    def frame(self) -> None:
        """Wait until what was asked for is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def all(self, selector: str) -> list[WebElement]:
        """Elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """An element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """What elements say, those included that cannot be seen."""
        return [str(each.get_attribute("textContent")) for each in self.all(selector)]

    @property
    def shown(self) -> tuple[float, float]:
        """From when to when the charts show, in ns."""
        data = self.js("return {...document.getElementById('shown').dataset}")
        return float(data["from"]), float(data["to"])

    @property
    def selected(self) -> tuple[Optional[int], Optional[int]]:
        """The number of the cycle that is selected, and of the one that kept it (-1: unknown)."""
        data = self.js("return {...document.getElementById('selected').dataset}")
        return tuple(int(data[key]) if data.get(key) else None for key in ("slice", "blocker"))

    def _read_logs(self) -> tuple[list[str], list[str]]:
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return said, asked

    def check(self, path: Path) -> None:
        """Nothing was complained of, and nothing was asked for but the page itself."""
        self.frame()
        said, asked = self._read_logs()
        assert [*said, *self.js("return window.keptErrors")] == []
        assert asked == [path.resolve().as_uri()]
