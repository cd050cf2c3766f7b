"""The progress bar: on terminals only, and only when it takes long."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from corelock.cli import progress
from corelock.cli.progress import ProgressBar


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written to stderr, a terminal, comes out here."""
    ours, theirs = os.openpty()
    try:
        with monkeypatch.context() as patched, os.fdopen(theirs, "w") as stream:
            patched.setenv("TERM", "xterm")
            patched.setattr(sys, "stderr", stream)
            yield ours
    finally:
        os.close(ours)


def shown(descriptor: int) -> str:
    """What has come out, up to a mark that is sent after it."""
    print("#", end="", file=sys.stderr, flush=True)
    text = ""
    while not text.endswith("#"):
        text += os.read(descriptor, 1 << 16).decode()
    return text[:-1]


def test_work_of_two_seconds_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        now = time.monotonic()
        with ProgressBar("reading") as bar, monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", lambda: now + 1.9)
            bar(10, 100)
            assert shown(screen) == ""
            patched.setattr(time, "monotonic", lambda: now + 2.1)
            bar(30, 100)
        text = shown(screen)
    assert "reading" in text and "30%" in text


def test_nothing_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    with ProgressBar("reading") as bar:
        bar(30, 100)
    assert stream.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    with ProgressBar("reading") as bar:
        bar(30, 100)
