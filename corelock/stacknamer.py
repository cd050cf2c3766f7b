"""Naming the stacks of a recording while it goes on, in a thread that cycles do not wait for."""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Optional

from corelock._native import SlowRecord
from corelock.errors import CorelockError
from corelock.stacktable import StackTable
from corelock.symbolize import Symbolizer

#: Stacks that wait for their names take 17 KiB each; what goes beyond waits in the kernel.
_MOST_PENDING = 2000
#: As many as are lost if recording is killed.
_STACKS_PER_BLOCK = 64
#: From so long on it was waiting for a lock, on which so much of the time may be spent.
_LONG_OBSERVING_S = 0.01
_OBSERVING_SHARE = 0.1
#: Between two tries for those that could not be named.
_LATER_MS = 200
#: What mappings may be looked for when recording has ended.
_MOST_NAMING_S = 2.0


class StackNamer:
    """Takes records with stacks out of the ring, and gives blocks of stacks with names.

    Args:
        symbols: names them.
        take: some of the records in the ring, and whether there may be more.
        write: put a block into the recording; a :class:`CorelockError` shows elsewhere.
    """

    def __init__(
        self,
        symbols: Symbolizer,
        take: Callable[[], tuple[list[SlowRecord], bool]],
        write: Callable[[bytes], None],
    ) -> None:
        self._symbols = symbols
        self._take_records = take
        self._write_block = write
        self._table = StackTable()
        self._pending: deque[SlowRecord] = deque()
        #: Whose mappings could not be read without waiting.
        self._later: deque[SlowRecord] = deque()
        #: By process: when its mappings may be asked for again.
        self._not_before_s: dict[int, float] = {}
        self._thread: Optional[threading.Thread] = None
        self._stop_pipe = (-1, -1)
        self._stopping = False

    @property
    def ids(self) -> int:
        """How many ids of the recording's cycles have a stack."""
        return self._table.ids

    def start(self, ring_fd: int) -> None:
        """Begin; the descriptor is readable when there is something to take."""
        self._stop_pipe = os.pipe2(os.O_CLOEXEC)
        thread = threading.Thread(
            target=self._run, args=(ring_fd,), name="corelock-stacks", daemon=True
        )
        thread.start()
        self._thread = thread

    def ask_to_stop(self) -> None:
        """Have the thread begin nothing more; does not wait."""
        self._stopping = True

    def stop(self) -> None:
        """Wait for the end of the thread. Repeating it does nothing."""
        self.ask_to_stop()
        if self._thread is None:
            return
        reader, writer = self._stop_pipe
        os.write(writer, b"\0")
        # If that is interrupted, the thread is still there to be waited for.
        self._thread.join()
        self._thread = None
        os.close(reader)
        os.close(writer)

    def forget_thread(self) -> None:
        """In a fork, which has it not."""
        self._thread = None

    def name_rest(self) -> None:
        """What is still without names, for as long as a user may be kept waiting."""
        deadline_s = time.monotonic() + _MOST_NAMING_S
        while self._take() or self._pending or self._later:
            self._pending.extend(self._later)
            self._later.clear()
            while self._pending:
                record = self._pending.popleft()
                if time.monotonic() < deadline_s:
                    self._symbols.observe(record.event)
                self._table.add(record.stack, self._symbols.resolve(record.event))

    def write(self) -> None:
        """Put into the recording what has been named.

        Raises:
            CorelockError: it cannot be written.
        """
        block = self._table.take_block()
        if block is not None:
            self._write_block(block)

    def _run(self, ring_fd: int) -> None:
        poll = select.poll()
        poll.register(ring_fd, select.POLLIN)
        poll.register(self._stop_pipe[0], select.POLLIN)
        while True:
            # To learn mappings comes first: their process may end.
            wait_ms = 0 if self._pending else _LATER_MS if self._later else None
            come = poll.poll(wait_ms)
            if self._stopping:
                return
            if come:
                self._learn()
            elif not self._pending:
                self._pending.append(self._later.popleft())
                self._observe(self._pending[0])
            if self._pending and not self._stopping:
                self._name(self._pending.popleft())
            if not self._pending or self._table.fresh >= _STACKS_PER_BLOCK:
                with suppress(CorelockError):
                    self.write()

    def _learn(self) -> None:
        """Take what has come, and see where its code is mapped."""
        known = len(self._pending)
        self._take()
        for record in itertools.islice(self._pending, known, None):
            if not self._stopping:
                self._observe(record)

    def _take(self) -> bool:
        """Take some, as there is room for; whether there may be more."""
        if len(self._pending) >= _MOST_PENDING:
            return False
        records, more = self._take_records()
        self._pending.extend(records)
        return more

    def _observe(self, record: SlowRecord) -> None:
        """See where its code is mapped; of a process whose lock is not to be had, not each time."""
        process, now_s = record.event.process_key, time.monotonic()
        if now_s < self._not_before_s.get(process, 0):
            return
        self._symbols.observe(record.event)
        took_s = time.monotonic() - now_s
        if took_s > _LONG_OBSERVING_S:
            self._not_before_s[process] = now_s + took_s / _OBSERVING_SHARE

    def _name(self, record: SlowRecord) -> None:
        """Name its stacks, or later if its process's lock was not to be had for that."""
        if self._symbols.can_name(record.event) or len(self._later) >= _MOST_PENDING:
            self._table.add(record.stack, self._symbols.resolve(record.event))
        else:
            self._later.append(record)
