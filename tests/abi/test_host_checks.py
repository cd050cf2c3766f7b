"""The library's checks of the host, called as C would."""

from __future__ import annotations

from typing import Any

import pytest

from corelock import _ffi

ffi, lib = _ffi.library()


def session(*, configured: bool) -> Any:
    made = ffi.gc(lib.corelock_new(), lib.corelock_free)
    options = ffi.new("struct corelock_options *", {"size": ffi.sizeof("struct corelock_options")})
    assert not configured or lib.corelock_configure(made, options) == 0
    return made


def message(of: Any) -> str:
    text: bytes = ffi.string(lib.corelock_last_error(of).message)
    return text.decode()


def test_checks_come_after_configure() -> None:
    early = session(configured=False)
    assert lib.corelock_check(early, lib.CORELOCK_CHECK_BTF) == -lib.CORELOCK_E_ARGUMENT
    assert "after configure" in message(early)


def test_unknown_check() -> None:
    given = session(configured=True)
    assert lib.corelock_check(given, 99) == -lib.CORELOCK_E_ARGUMENT
    assert message(given) == "no such check: 99"


@pytest.mark.kernel
def test_a_session_that_was_checked_can_still_be_loaded() -> None:
    given = session(configured=True)
    checks = ffi.typeof("enum corelock_check").elements
    assert [lib.corelock_check(given, check) for check in checks] == [0] * len(checks)
    host = ffi.new("struct corelock_host *")
    lib.corelock_look_at_host(given, host)
    assert host.capabilities >> 39 & 1
    assert lib.corelock_load(given) == 0


@pytest.mark.parametrize("times", [0, 1, 1000])
def test_taking_locks(times: int) -> None:
    assert lib.corelock_take_locks(times) == 0
