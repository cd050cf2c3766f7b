"""The guests that all tests here look at, booted once each, and the record of what they showed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.vm import guest
from tests.vm.guest import Boot, Kernel

try:
    import tomllib
except ImportError:  # Python 3.10 and older, where pytest brings it
    import tomli as tomllib

#: An emulator keeps more than one CPU busy.
_GUESTS_AT_A_TIME = 2

RESULTS = guest.BUILD / "results.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", default="", help="these kernels alone, by their names")
    parser.addoption("--again", action="store_true", help="judge what the last boots left")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(name): what a row of docs/kernels.md is about")


def kernels(config: pytest.Config) -> list[Kernel]:
    """Those of kernels.toml that were asked for."""
    text = (Path(__file__).parent / "kernels.toml").read_text()
    known = {entry["name"]: Kernel(**entry) for entry in tomllib.loads(text)["kernel"]}
    wanted = config.getoption("--kernels").split() or list(known)
    for name in wanted:
        if name not in known:
            raise pytest.UsageError(f"no kernel {name!r} in kernels.toml: {', '.join(known)}")
    return [known[name] for name in wanted]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" in metafunc.fixturenames:
        chosen = kernels(metafunc.config)
        metafunc.parametrize("kernel", chosen, ids=[k.name for k in chosen], scope="session")


class Guests:
    """All guests, booting from the first moment on; a test waits for its own."""

    def __init__(self, chosen: list[Kernel], checks: list[str], again: bool) -> None:
        self._last = chosen[-1]
        self._pool = ThreadPoolExecutor(_GUESTS_AT_A_TIME)
        self._boots: dict[str, Future[Boot]] = {
            kernel.name: self._pool.submit(guest.boot_again, kernel)
            if again
            else self._pool.submit(guest.boot, kernel, checks)
            for kernel in chosen
        }

    def boot(self, kernel: Kernel) -> Boot:
        return self._boots[kernel.name].result()

    def boot_another(self, check: str, timeout_s: float) -> Boot:
        """One more, of any kernel, for one check."""
        kernel = replace(self._last, name=f"{self._last.name}-{check}")
        return self._pool.submit(guest.boot, kernel, [check], timeout_s).result()

    def booted(self) -> dict[str, Boot]:
        """Those that got so far as to boot."""
        done = {n: f for n, f in self._boots.items() if f.done() and not f.cancelled()}
        return {name: f.result() for name, f in done.items() if f.exception() is None}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_guests: Optional[Guests] = None


@pytest.fixture(scope="session")
def guests(request: pytest.FixtureRequest) -> Iterator[Guests]:
    global _guests
    from tests.vm.matrix import CHECKS

    config = request.config
    _guests = Guests(kernels(config), CHECKS, config.getoption("--again"))
    try:
        yield _guests
    finally:
        _guests.close()


@pytest.fixture()
def booted(guests: Guests, kernel: Kernel) -> Boot:
    """The test's guest, when it is through with all checks or cannot go on."""
    return guests.boot(kernel)


# --- the record of the run, of which tests/vm/page.py makes docs/kernels.md -----------------------

_outcomes: dict[str, dict[str, dict[str, str]]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    marker = item.get_closest_marker("feature")
    if marker is None or (report.when != "call" and report.passed):
        return
    parameters = item.callspec.params  # type: ignore[attr-defined]
    feature = marker.args[0].format(**parameters)
    of_kernel = _outcomes.setdefault(parameters["kernel"].name, {})
    before = of_kernel.get(feature)
    if not report.passed:
        of_kernel[feature] = {"state": "fails"}
    elif before is None or before["state"].startswith("works"):
        reason = dict(item.user_properties).get("refused")
        if dict(item.user_properties).get("drops"):
            of_kernel[feature] = {"state": "works, drops counted"}
        elif reason is None:
            of_kernel.setdefault(feature, {"state": "works"})
        else:
            of_kernel[feature] = {"state": "refused", "reason": str(reason)}


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _guests is None:
        return
    record = []
    for kernel in kernels(session.config):
        entry: dict[str, Any] = {"name": kernel.name, "architecture": kernel.architecture}
        entry["features"] = _outcomes.get(kernel.name, {})
        boot = _guests.booted().get(kernel.name)
        if boot is not None:
            entry["release"] = boot.release
            entry["package"] = f"`{boot.package.name}` {boot.package.version}, from {boot.suite}"
        record.append(entry)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _guests is None:
        return
    terminalreporter.section("guests")
    for name, boot in _guests.booted().items():
        terminalreporter.line(f"{name:<14} {boot.release:<32} {boot.seconds:5.0f} s")
