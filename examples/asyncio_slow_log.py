"""A line of JSON for each long wait or hold of a process, as it ends, from an event loop.

python asyncio_slow_log.py PID [MILLISECONDS]
"""

import asyncio
import json
import signal
import sys

import corelock


async def main(pid: int, least_ms: float) -> int:
    tracer = corelock.Tracer(pid=pid, slow_ns=round(least_ms * 1e6))
    async with corelock.AsyncTracer(tracer) as tracing:
        stopping = asyncio.ensure_future(stop_at_signal(tracing))
        async for event in tracing.slow_events():
            ms, thread = event.duration_ns / 1e6, f"{event.comm}[{event.tid}]"
            line = {event.kind: ms, "mode": event.mode, "by": event.operation, "thread": thread}
            print(json.dumps(line), flush=True)
        await stopping
        accounting = await tracing.accounting()
    print(f"complete: {accounting.complete}", file=sys.stderr)
    return 0 if accounting.complete else 1


async def stop_at_signal(tracing: corelock.AsyncTracer) -> None:
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    print("Tracing. Ctrl-C to end.", file=sys.stderr, flush=True)
    await asked.wait()
    await tracing.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), float((*sys.argv, "1")[2]))))
