"""The way from a build without network to its compile helpers, and to nothing else.

forward.py FROM TO [FROM TO]...   each is ``tcp:ADDRESS:PORT`` or ``unix:NAME``; returns when all FROM listen

One runs in the sandbox, whose network is loopback alone, and leads from ports there to sockets with names in
the build's folder; one runs outside and leads from these to the helpers. They end with the build.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

# distcc(1), "HOST SPECIFICATIONS": only what is reached by TCP needs a way.
HELPER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)(?::(\d+))?(/\S*|,\S*)?")
DISTCC_PORT = "3632"
FIRST_PORT = 3700
LOOPBACK = "127.0.0.1"


def ways(hosts: Sequence[str], folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the places to forward in the sandbox, those outside, and what the hosts are called in there."""
    inside, outside, called = [], [], []
    for number, host in enumerate(hosts):
        match = HELPER.fullmatch(host)
        if match is None or match[1] == "localhost":
            continue
        port, name = f"{LOOPBACK}:{FIRST_PORT + number}", f"unix:{folder}/helper{number}"
        inside += [f"tcp:{port}", name]
        outside += [name, f"tcp:{match[1]}:{match[2] or DISTCC_PORT}"]
        called.append(f"{port}{match[3] or ''}")
    return inside, outside, called


def listening(place: str) -> socket.socket:
    """Return a socket that listens at a place."""
    kind, _, where = place.partition(":")
    if kind == "tcp":
        address, _, port = where.rpartition(":")
        return socket.create_server((address, int(port)))
    server = socket.socket(socket.AF_UNIX)
    server.bind(where)
    server.listen()
    return server


async def _connect(place: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    kind, _, where = place.partition(":")
    if kind == "tcp":
        address, _, port = where.rpartition(":")
        return await asyncio.open_connection(address, int(port))
    return await asyncio.open_unix_connection(where)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


async def _serve(pairs: Sequence[tuple[socket.socket, str]]) -> None:
    async def start(server: socket.socket, place: str) -> None:
        async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):  # a helper that is away: distcc compiles here
                far_reader, far_writer = await _connect(place)
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
                far_writer.close()
            writer.close()

        if server.family == socket.AF_UNIX:
            await asyncio.start_unix_server(link, sock=server)
        else:
            await asyncio.start_server(link, sock=server)

    for server, place in pairs:
        await start(server, place)
    await asyncio.Event().wait()


def main() -> None:
    """Listen, then go on in a process of its own: who called goes on when there is a way."""
    places = sys.argv[1:]
    pairs = [(listening(near), far) for near, far in zip(places[::2], places[1::2], strict=True)]
    if not os.fork():
        asyncio.run(_serve(pairs))


if __name__ == "__main__":
    main()
