"""A service that tells on request what its own mmap_lock was up to for a second, as a page.

python asyncio_endpoint.py [PORT]       then: curl http://127.0.0.1:PORT/mmap_lock
"""

import asyncio
import os
import sys

import corelock


async def mmap_lock(seconds: float) -> str:
    """Nothing is traced but then; meanwhile the service goes on."""
    async with corelock.AsyncTracer(corelock.Tracer(pid=os.getpid(), blame=True)) as tracing:
        await asyncio.sleep(seconds)
        await tracing.stop()
        results = await tracing.snapshot(), await tracing.blame(), await tracing.accounting()
    return "<!doctype html><meta charset=utf-8>" + "<hr>".join(r._repr_html_() for r in results)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    page = await mmap_lock(1.0) if path == b"/mmap_lock" else "the service itself"
    body = page.encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


async def main(port: int) -> None:
    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mmap_lock", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int((*sys.argv, "0")[1])))
