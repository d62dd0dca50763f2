"""relay.py FD HOST PORT

Forwards what connects to an inherited listening socket. The socket belongs to the network namespace it was
made in, and this process to another one: so a machine is reached from where it has no address. Ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

CHUNK_BYTES = 65536


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
    target.close()


async def main(listening: int, host: str, port: int) -> None:
    async def forward(near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            far, ask = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
        except (TimeoutError, OSError):
            answer.close()
            return
        await asyncio.gather(pump(near, ask), pump(far, answer))

    server = await asyncio.start_server(forward, sock=socket.socket(fileno=listening))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    os._exit(0)  # and all that is open with it


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
