"""Calls that may never return, made so that they can be given up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Hashable
from typing import Callable, Generic, TypeVar

Result = TypeVar("Result")

#: As many may hang at one time; then nothing more is tried until one of them ends.
_MOST_STUCK = 32


class TimedOut(Exception):
    """The call has not returned; it goes on in a thread of its own."""


class Patience:
    """Waits ``timeout_s`` seconds for a call, and no longer.

    The lock of a target may be held for minutes, and a file of its may be on a
    file system that no longer answers. A thread of this process, because what
    this process locks is left out of its results; one that is stuck ends with
    the process, as such waits are killable ones.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._stuck: dict[Hashable, threading.Thread] = {}

    def call(self, key: Hashable, function: Callable[[], Result]) -> Result:
        """What ``function`` returns or raises; ``key`` names what it may hang on.

        Raises:
            TimedOut: it takes too long, or an earlier call of that key still does.
        """
        self._stuck = {k: thread for k, thread in self._stuck.items() if thread.is_alive()}
        if key in self._stuck or len(self._stuck) >= _MOST_STUCK:
            raise TimedOut
        call = _Call(function)
        thread = threading.Thread(target=call.run, daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if not call.done:
            self._stuck[key] = thread
            raise TimedOut
        return call.result()


class _Call(Generic[Result]):
    def __init__(self, function: Callable[[], Result]) -> None:
        self.done = False
        self._function = function
        self._results: list[Result] = []
        self._error: Exception = TimedOut()

    def run(self) -> None:
        # A signal must go to a thread that may be waiting for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._results.append(self._function())
        except Exception as error:
            self._error = error
        self.done = True

    def result(self) -> Result:
        if self._results:
            return self._results[0]
        raise self._error
