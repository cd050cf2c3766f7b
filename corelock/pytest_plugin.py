"""The pytest plugin: a test fails that holds mmap_lock, or waits for it, for too long.

    @pytest.mark.mmap_lock(max_hold_ms=5)      # the whole test
    def test_reload(): ...

    def test_evict(mmap_lock_limit):           # a part of it, or another process
        with mmap_lock_limit(max_wait_ms=5, pid=server.pid): ...

The arguments are those of :class:`corelock.limits.LockLimit`. pytest imports this module in
every run: what traces is imported by the first test that has a limit.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Optional

import pytest

if TYPE_CHECKING:
    from corelock.errors import CorelockError
    from corelock.limits import LockLimit

_MARKER = "mmap_lock"
_OBSTACLE = pytest.StashKey[Optional["CorelockError"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What to do where nothing can be traced."""
    parser.getgroup("corelock").addoption(
        "--mmap-lock-unavailable",
        choices=("error", "skip"),
        default="error",
        help="What becomes of tests with a limit on mmap_lock where it cannot be traced "
        "(default: error).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(max_hold_ms=None, max_wait_ms=None, operation=None, pid=None, follow=False): "
        "fail if mmap_lock is held or waited for longer than that during the test.",
    )


@pytest.fixture()
def mmap_lock_limit(request: pytest.FixtureRequest) -> type[LockLimit]:
    """``with mmap_lock_limit(max_hold_ms=5): ...`` fails if mmap_lock is held for longer there.

    The arguments are those of ``corelock.limits.LockLimit``.
    """
    _must_trace(request.config)
    from corelock.limits import LockLimit

    return LockLimit


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A marker that cannot be kept to is an error of the set-up."""
    if item.get_closest_marker(_MARKER) is not None:
        _must_trace(item.config)
        _limit(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Around the test itself: what its fixtures do is not the test's."""
    if item.get_closest_marker(_MARKER) is None:
        yield
        return
    from corelock.errors import CorelockError

    limit = _limit(item)
    try:
        limit.__enter__()
    except CorelockError as error:
        raise _failure(f"marker {_MARKER}: {error}") from None
    outcome = yield
    failed = outcome.excinfo or (None, None, None)
    try:
        limit.__exit__(*failed)
    except Exception as error:
        outcome.force_exception(_failure(str(error)))


def _failure(message: str) -> BaseException:
    """What shows as the message alone: no line of the plugin's is of interest."""
    return pytest.fail.Exception(message, pytrace=False)


def _limit(item: pytest.Item) -> LockLimit:
    from corelock.errors import InvalidArgument
    from corelock.limits import LockLimit

    marker = item.get_closest_marker(_MARKER)
    assert marker is not None
    try:
        return LockLimit(*marker.args, **marker.kwargs)
    except (InvalidArgument, TypeError) as error:
        raise _failure(f"marker {_MARKER}: {error}") from None


def _must_trace(config: pytest.Config) -> None:
    """Skip, or fail, where tracing does not work; tried once in each process that runs tests."""
    if _OBSTACLE not in config.stash:
        from corelock.limits import obstacle

        config.stash[_OBSTACLE] = obstacle()
    error = config.stash[_OBSTACLE]
    if error is None:
        return
    if config.getoption("--mmap-lock-unavailable") == "skip":
        pytest.skip(f"mmap_lock cannot be traced: {error.message}")
    raise _failure(
        f"mmap_lock cannot be traced: {error}\n"
        "  Or skip such tests here: --mmap-lock-unavailable=skip"
    )
