"""Recording every lock cycle to a file: :func:`record`, and the :class:`Recorder` it gives."""

from __future__ import annotations

import os
import select
import threading
from dataclasses import replace
from typing import Any, Optional, Union

from corelock import target
from corelock._native import Options, RecordingStatus, Session, SlowRecord
from corelock.arguments import FileName, check_range, file_name, is_whole
from corelock.errors import CorelockError, InvalidArgument
from corelock.lock_probe import LockProbe
from corelock.model import Target
from corelock.outfile import OutFile, open_outfile
from corelock.recordblocks import EndedBy, RecordingResult, footer, header, result_of
from corelock.stacknamer import StackNamer
from corelock.symbolize import Symbolizer
from corelock.tracer import MAX_RING_BYTES, Tracer

MAX_FILE_BYTES = (1 << 63) - 1


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
        self._fd = -1  # the caller's, if one was given
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
        #: Held to the end of stop() and close(); the other lock is free while they wait for the
        #: thread that names stacks, which takes it. Always taken before that one.
        self._stopping = threading.RLock()
        self._probe = LockProbe(self._btf)
        #: Names what is slow; its notes say what could not be read.
        self.symbols = Symbolizer(lock_is_held=self._probe.may_be_waited_for)
        self._stacks = StackNamer(self.symbols, self._take_stacks, self._write_stacks)
        #: What it came to, once stopped.
        self.result: Optional[RecordingResult] = None

    def start(self) -> None:
        """Attach and begin to record; returns when counting has begun.

        Raises:
            InvalidArgument: there is such a file already.
            CorelockError: it cannot be written; and as :meth:`Tracer.start`.
        """
        with self._lock:
            # Before anything is touched: what is there belongs to the recording that runs.
            self._check_not_started()
            if self._path is not None:
                self._file = self._open_file(self._path)
            self._owner = os.getpid()
            try:
                super().start()
            except BaseException:
                self._close_file()
                raise
            self._stacks.start(self.fileno())

    def _take_stacks(self) -> tuple[list[SlowRecord], bool]:
        with self._lock:
            return self._open().slow_batch(0, 0)

    def _write_stacks(self, block: bytes) -> None:
        with self._lock:
            self._open().record_block("STACKS", block)

    def _open_file(self, path: str) -> OutFile:
        # Before it is opened: to open a pipe would mean to wait for who reads it.
        if os.path.lexists(path) and not self._overwrite:
            raise _is_there(path)
        if os.path.exists(path) and not os.path.isfile(path):
            raise InvalidArgument(
                f"{path} is no regular file", "Record to stdout (-o -), and lead it there."
            )
        file = open_outfile(path)
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
        os.close(file.fd)
        if file.is_new and not self._begun:
            file.remove()
        file.close()

    def _options(self) -> Options:
        return replace(super()._options(), record=True, cycle_ring_bytes=self._cycle_ring_bytes)

    def _attach(self, session: Session) -> None:
        super()._attach(session)
        fd = self._fd
        if self._file is not None:
            fd = self._file.fd
            if not self._file.is_new:
                self._file.make_anew()
        session.record_begin(fd, self._max_bytes, self._header(session))
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
            InvalidArgument: it was never started, or another process, of which this is a fork,
                started it.
        """
        with self._stopping:
            if self.result is not None:
                return
            self._stacks.ask_to_stop()
            super().stop()
            self._stacks.stop()
            with self._lock:
                session = self._open()
                try:
                    session.record_end()
                    self._stacks.name_rest()
                finally:
                    self.result = self._finish(session, ended_by)

    def close(self) -> None:
        """Stop, detach and free everything. Repeating it does nothing.

        In a fork of the process that started it, frees what the fork has of it.
        """
        if self._owner not in (0, os.getpid()):
            # Of the threads that may have held them, a fork has none.
            self._lock, self._stopping = threading.RLock(), threading.RLock()
            self._stacks.forget_thread()
        with self._stopping:
            try:
                if self._is_recording():
                    self.stop()
            finally:
                super().close()
                self._close_file()
                self._probe.close()

    def _is_recording(self) -> bool:
        """Here: not only in the process of which this is a fork."""
        with self._lock:
            return self._session is not None and self._owner == os.getpid()

    def _finish(self, session: Session, ended_by: EndedBy) -> RecordingResult:
        """Write what comes last: stacks, and where everything went."""
        accounting = session.accounting()
        result = result_of(
            session.record_status(), accounting, self._stacks.ids, self.duration_ns, ended_by
        )
        end_ns = self._start_ns + self.duration_ns
        try:
            self._stacks.write()
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
