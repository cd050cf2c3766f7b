"""One Chromium for all tests, without a network; what it was told and what it asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.browser.pages import KEEP_ERRORS, Page
from tests.conftest import VARIABLE

#: Chromium itself would ask for much that is none of the page's doing.
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        words = f"{name} is not installed: run make test as root"
        if os.environ.get(VARIABLE) == "1":
            pytest.fail(words)
        pytest.skip(words)
    return path


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for option in _OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, Service(_program("chromedriver"))) as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_ERRORS})
        yield browser


@pytest.fixture()
def page(driver: webdriver.Chrome) -> Page:
    return Page(driver)
