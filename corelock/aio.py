"""Tracing from an asyncio program: :class:`AsyncTracer`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Optional, TypeVar

from corelock.errors import InvalidArgument
from corelock.model import Accounting, SlowEvent, Snapshot
from corelock.tracer import Tracer

if TYPE_CHECKING:
    from corelock.blame import Blame

_Result = TypeVar("_Result")


class AsyncTracer:
    """A :class:`~corelock.tracer.Tracer` that was not started, with calls that are awaited.

    What takes long (to load and attach takes tenths of a second) is done by a thread of its
    own, so the event loop goes on. To be used by ``async with``, in one event loop: entering
    starts; leaving, because of being cancelled, too, detaches and ends the thread.

    >>> import asyncio, corelock, mmap, os
    >>> async def map_one() -> bool:
    ...     async with corelock.AsyncTracer(corelock.Tracer(pid=os.getpid())) as tracing:
    ...         region = mmap.mmap(-1, 1 << 24)
    ...         await tracing.stop()
    ...         snapshot = await tracing.snapshot()
    ...     return any(row.operation == "mmap" for row in snapshot.rows)
    >>> asyncio.run(map_one())
    True

    Raises:
        As :meth:`Tracer.start`, on entering.
    """

    def __init__(self, tracer: Tracer) -> None:
        #: Its ``pid``, ``host_pid``, ``cgroup``, ``start_ns`` and ``duration_ns`` block nothing.
        self.tracer = tracer
        self._thread: Optional[ThreadPoolExecutor] = None
        self._slow_fd = -1
        self._stopped = False
        #: Taken, but not given out: nothing is lost if whoever asked was cancelled.
        self._slow: deque[SlowEvent] = deque()
        #: Done when slow events wait, or will come no more; None while nobody asks.
        self._waiting: Optional[asyncio.Future[None]] = None

    async def __aenter__(self) -> AsyncTracer:
        if self._thread is not None:
            raise InvalidArgument("this tracer was started before", "Make a new one.")
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="corelock")
        try:
            self._slow_fd = await self._call(self._start)
        except BaseException:
            await self.close()
            raise
        return self

    def _start(self) -> int:
        self.tracer.start()
        return self.tracer.fileno()

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def stop(self) -> None:
        """As :meth:`Tracer.stop`; :meth:`slow_events` ends once it has given out the last."""
        try:
            await self._call(self.tracer.stop)
        finally:
            self._wake(stopped=True)

    async def snapshot(self) -> Snapshot:
        """As :meth:`Tracer.snapshot`."""
        return await self._call(self.tracer.snapshot)

    async def accounting(self) -> Accounting:
        """As :meth:`Tracer.accounting`."""
        return await self._call(self.tracer.accounting)

    async def blame(self) -> Blame:
        """As :meth:`Tracer.blame`."""
        return await self._call(self.tracer.blame)

    async def slow_events(
        self, min_wait_ns: int = 0, min_hold_ns: int = 0
    ) -> AsyncIterator[SlowEvent]:
        """Slow waits and holds as they come, oldest first, until the tracer is stopped or closed.

        ``min_wait_ns`` and ``min_hold_ns`` are as of :meth:`Tracer.slow_events`. What was not
        given out, as the loop was left or cancelled, is for the next call.

        Raises:
            InvalidArgument: the tracer is not running, or another task waits for slow events.
        """
        least = {"wait": min_wait_ns, "hold": min_hold_ns}

        def take() -> None:
            self._slow.extend(self.tracer.slow_events(min_wait_ns, min_hold_ns))

        while True:
            # Asked for first: what came before the end is taken after it.
            stopped = self._stopped
            await self._call(take)
            while self._slow:
                event = self._slow.popleft()
                if event.duration_ns >= least[event.kind]:
                    yield event
            if not stopped:
                await self._more()
            if stopped or self._thread is None:
                return

    async def _more(self) -> None:
        """Until slow events wait, or the tracer is stopped or closed."""
        if self._stopped:
            return
        if self._waiting is not None:
            raise InvalidArgument(
                "another task waits for slow events", "Take them in one task, and share them."
            )
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_reader(self._slow_fd, self._wake)
        try:
            await self._waiting
        finally:
            self._wake()

    def _wake(self, *, stopped: bool = False) -> None:
        """Nobody waits for slow events any more, nor is looked for any."""
        self._stopped = self._stopped or stopped
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        # Before its descriptor may be closed, and its number another's.
        waiting.get_loop().remove_reader(self._slow_fd)
        if not waiting.done():
            waiting.set_result(None)

    async def _call(self, function: Callable[[], _Result]) -> _Result:
        if self._thread is None:
            raise InvalidArgument("this tracer is not running", "Start it, or keep it open.")
        return await asyncio.wrap_future(self._thread.submit(function))

    async def close(self) -> None:
        """Detach, free everything, end the thread. Repeating it does nothing.

        It is done when this ends, even if the task is cancelled meanwhile.
        """
        self._wake(stopped=True)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        # After whatever the thread is at, such as a start that nobody waits for any more.
        closed = thread.submit(self.tracer.close)
        try:
            await _uninterrupted(closed)
        finally:
            thread.shutdown()  # it has nothing left to do


async def _uninterrupted(work: Future[None]) -> None:
    """Wait for its end, and only then be cancelled."""
    done = asyncio.ensure_future(asyncio.wrap_future(work))
    cancelled: Optional[asyncio.CancelledError] = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    done.result()
