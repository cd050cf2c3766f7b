"""Recording every lock cycle to a file: :func:`record`, and the :class:`Recorder` it gives."""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional, Union

from corelock import target
from corelock._native import Options, RecordingStatus, Session, SlowRecord
from corelock.arguments import FileName, check_range, file_name, is_whole
from corelock.errors import CorelockError, InvalidArgument
from corelock.model import Target
from corelock.outfile import OutFile, open_outfile
from corelock.probe import LockProbe
from corelock.recordblocks import EndedBy, RecordingResult, footer, header, result_of
from corelock.stacktable import StackTable
from corelock.symbolize import Symbolizer
from corelock.tracer import MAX_RING_BYTES, Tracer

MAX_FILE_BYTES = (1 << 63) - 1
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


class Recorder(Tracer):
    """A :class:`Tracer` that also writes every lock cycle of its target to a file.

    Made by :func:`record`. While it is open a thread in C writes cycles, and one in Python
    learns the names of new stacks; :meth:`stop` ends both. ``slow_events`` and ``fileno`` are not
    for use here.
    """

    def __init__(
        self,
        path: Union[FileName, int],
        *,
        overwrite: bool = False,
        max_bytes: Optional[int] = None,
        cycle_ring_bytes: Optional[int] = None,
        **tracer: Any,
    ) -> None:
        super().__init__(**tracer)
        if self._blame or self._intervals:
            raise InvalidArgument(
                "a recorder has no blame and no intervals", "Make them of the recording."
            )
        check_range("max_bytes", max_bytes, 1, MAX_FILE_BYTES)
        check_range("cycle_ring_bytes", cycle_ring_bytes, 1, MAX_RING_BYTES)
        self._fd: Optional[int] = None
        self._path: Optional[str] = None
        if is_whole(path):
            self._fd = int(path)  # type: ignore[arg-type]
        else:
            self._path = file_name("file", path)  # type: ignore[arg-type]
            if not self._path:
                raise InvalidArgument("no file is named to record to", "Name one.")
        self._overwrite = overwrite
        self._max_bytes = max_bytes or 0
        self._cycle_ring_bytes = cycle_ring_bytes or 0
        self._file: Optional[OutFile] = None
        self._begun = False
        self._owner = 0
        self._probe = LockProbe(self._btf)
        #: Names what is slow; its notes say what could not be read.
        self.symbols = Symbolizer(lock_is_held=self._probe.may_be_waited_for)
        self._stacks = StackTable()
        self._pending: deque[SlowRecord] = deque()
        self._later: deque[SlowRecord] = deque()
        self._thread: Optional[threading.Thread] = None
        self._stop_pipe = (-1, -1)
        self._stopping = False
        #: By process: when its mappings may be asked for again.
        self._not_before_s: dict[int, float] = {}
        #: What it came to, once stopped.
        self.result: Optional[RecordingResult] = None

    def start(self) -> None:
        """Attach and begin to record; returns when counting has begun.

        Raises:
            InvalidArgument: there is such a file already.
            CorelockError: it cannot be written; and as :meth:`Tracer.start`.
        """
        with self._lock:
            if self._path is not None and self._file is None:
                self._file = self._open_file(self._path)
                self._fd = self._file.fd
            self._owner = os.getpid()
            try:
                super().start()
            except BaseException:
                self._close_file()
                raise
            self._stop_pipe = os.pipe2(os.O_CLOEXEC)
            self._thread = threading.Thread(
                target=self._name_stacks, name="corelock-stacks", daemon=True
            )
            self._thread.start()

    def _open_file(self, path: str) -> OutFile:
        # Before it is opened: to open a pipe would mean to wait for who reads it.
        if os.path.lexists(path) and not self._overwrite:
            raise _is_there(path)
        if os.path.exists(path) and not os.path.isfile(path):
            raise InvalidArgument(
                f"{path} is no regular file", "Record to stdout (-o -), and lead it there."
            )
        try:
            file = open_outfile(path)
        except OSError as error:
            raise CorelockError(
                f"cannot write {path}: {error.strerror}", "Name a file in a writable folder."
            ) from error
        if not file.is_new and not self._overwrite:
            os.close(file.fd)
            file.close()
            raise _is_there(path)
        return file

    def _close_file(self) -> None:
        """Close what we opened; leave no empty file behind."""
        file, self._file = self._file, None
        if file is None:
            return
        assert self._fd is not None
        os.close(self._fd)
        if file.is_new and not self._begun:
            file.remove()
        file.close()

    def _options(self) -> Options:
        return replace(super()._options(), record=True, cycle_ring_bytes=self._cycle_ring_bytes)

    def _attach(self, session: Session) -> None:
        super()._attach(session)
        assert self._fd is not None
        if self._file is not None and not self._file.is_new:
            # Who reads the old one goes on reading that.
            os.close(self._fd)
            self._fd = self._file.made_anew()
        session.record_begin(self._fd, self._max_bytes, self._header(session))
        self._begun = True

    def _header(self, session: Session) -> bytes:
        traced = None
        if self.pid is not None:
            traced = Target(self.pid, target.comm_of(self.pid), self.host_pid)
        return header(
            start_ns=self._start_ns,
            boot_id=target.boot_id(),
            target=traced,
            cgroup=self.cgroup,
            command=self._command,
            attached_by=session.attached_by(),
            slow_ns=self._slow_ns,
        )

    @property
    def status(self) -> RecordingStatus:
        """How the recording goes.

        Raises:
            InvalidArgument: the recorder is not running.
        """
        with self._lock:
            return self._open().record_status()

    def ended_fd(self) -> int:
        """A descriptor that polls readable once recording has ended by itself: the file is full."""
        with self._lock:
            return self._open().record_fd()

    def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Wait until recording has ended by itself; False if it has not after so many seconds."""
        poll = select.poll()
        poll.register(self.ended_fd(), select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def stop(self, ended_by: EndedBy = "stop") -> None:
        """End the recording, and write what is left; :attr:`result` says what it came to.

        Repeating it does nothing. A file that cannot be written on is no exception here: what
        is in it can be read, and the result has the ``error``.

        Raises:
            InvalidArgument: as :meth:`Tracer.stop`.
        """
        self._stopping = True
        with self._lock:
            super().stop()
            if self.result is not None or not self._begun:
                return
        self._join()
        with self._lock:
            session = self._open()
            try:
                session.record_end()
                self._name_rest(session)
            finally:
                self.result = self._finish(session, ended_by)

    def _name_rest(self, session: Session) -> None:
        """What is still without names, for as long as a user may be kept waiting."""
        deadline_s = time.monotonic() + _MOST_NAMING_S
        while self._take(session) or self._pending or self._later:
            self._pending.extend(self._later)
            self._later.clear()
            while self._pending:
                record = self._pending.popleft()
                if time.monotonic() < deadline_s:
                    self.symbols.observe(record.event)
                self._stacks.add(record.stack, self.symbols.resolve(record.event))

    def close(self) -> None:
        """Stop, detach and free everything. Repeating it does nothing.

        In a fork of the process that started it, frees what the fork has of it.
        """
        if self._owner not in (0, os.getpid()):
            # Of the threads that may have held it, a fork has none.
            self._lock = threading.RLock()
            self._thread = None
        try:
            if self._session is not None and self._begun and self._owner == os.getpid():
                self.stop()
        finally:
            super().close()
            self._close_file()
            self._probe.close()

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        reader, writer = self._stop_pipe
        os.close(writer)
        thread.join()
        os.close(reader)

    def _name_stacks(self) -> None:
        """Learn the names of new stacks until :meth:`stop`: what the thread does."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.register(self._stop_pipe[0], select.POLLIN)
        while not self._stopping:
            # To learn mappings comes first: their process may end.
            wait_ms = 0 if self._pending else _LATER_MS if self._later else None
            if not poll.poll(wait_ms) and not self._pending:
                self._pending.append(self._later.popleft())
                self._observe(self._pending[0])
            elif not self._stopping:
                with self._lock:
                    taken = len(self._pending)
                    self._take(self._open())
                for record in itertools.islice(self._pending, taken, None):
                    if not self._stopping:
                        self._observe(record)
            if self._pending and not self._stopping:
                self._name(self._pending.popleft())
            if not self._pending or self._stacks.fresh >= _STACKS_PER_BLOCK:
                with self._lock, suppress(CorelockError):  # shows in the status
                    self._write_stacks(self._open())

    def _name(self, record: SlowRecord) -> None:
        """Name its stacks, or later if its process's lock was not to be had for that."""
        if self.symbols.can_name(record.event) or len(self._later) >= _MOST_PENDING:
            self._stacks.add(record.stack, self.symbols.resolve(record.event))
        else:
            self._later.append(record)

    def _take(self, session: Session) -> bool:
        """Take some stacks out of the ring, as there is room for; whether there may be more."""
        if len(self._pending) >= _MOST_PENDING:
            return False
        records, more = session.slow_batch(0, 0)
        self._pending.extend(records)
        return more

    def _observe(self, record: SlowRecord) -> None:
        """See where its code is mapped; of a process whose lock is not to be had, not each time."""
        process, now_s = record.event.process_key, time.monotonic()
        if now_s < self._not_before_s.get(process, 0):
            return
        self.symbols.observe(record.event)
        took_s = time.monotonic() - now_s
        if took_s > _LONG_OBSERVING_S:
            self._not_before_s[process] = now_s + took_s / _OBSERVING_SHARE

    def _write_stacks(self, session: Session) -> None:
        block = self._stacks.take_block()
        if block is not None:
            session.record_block("STACKS", block)

    def _finish(self, session: Session, ended_by: EndedBy) -> RecordingResult:
        """Write what comes last: stacks, and where everything went."""
        accounting = session.accounting()
        result = result_of(
            session.record_status(), accounting, self._stacks.ids, self.duration_ns, ended_by
        )
        end_ns = self._start_ns + self.duration_ns
        try:
            self._write_stacks(session)
            session.record_block(
                "FOOTER", footer(result, end_ns, session.lock_totals(), accounting)
            )
        except CorelockError as error:
            result = replace(result, error=result.error or error.message)
        return replace(result, bytes=session.record_status().bytes)


def _is_there(path: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} is there already", "Name another file, or overwrite this one (--force)."
    )


def record(
    path: Union[FileName, int],
    *,
    overwrite: bool = False,
    max_bytes: Optional[int] = None,
    cycle_ring_bytes: Optional[int] = None,
    **tracer: Any,
) -> Recorder:
    """Record every lock cycle of a target to a file, for ``with``.

    Args:
        path: the file, or a descriptor that is open for writing (a pipe, say), which stays open.
        overwrite: a file that is there already is replaced; else it is an error.
        max_bytes: recording ends before the file is larger; tables of names and the accounting,
            some kilobytes mostly, come on top.
        cycle_ring_bytes: room for cycles on their way to the file, 48 bytes each, for each CPU;
            by default 4 MiB, and less with more than 32 CPUs.
        tracer: what is traced (``pid``, ``command``, ...), and other arguments of
            :class:`Tracer`, but for ``blame`` and ``intervals``: a recording has all that they
            are made of.

    >>> import corelock, mmap, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "here.corelock")
    >>> with corelock.record(path, pid=os.getpid()) as recorder:
    ...     region = mmap.mmap(-1, 1 << 24)
    >>> recorder.result.cycles > 0, recorder.result.complete
    (True, True)

    Raises:
        InvalidArgument: the file is there already; and as :class:`Tracer`.
        CorelockError: the file cannot be written; and as :class:`Tracer`.
    """
    return Recorder(
        path, overwrite=overwrite, max_bytes=max_bytes, cycle_ring_bytes=cycle_ring_bytes, **tracer
    )
