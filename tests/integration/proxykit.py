"""A TCP proxy that can stop forwarding without a word, as a link does whose cable was pulled."""

from __future__ import annotations

import contextlib
import ctypes
import selectors
import socket
import struct
import threading

CHUNK_BYTES = 65536
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
# One instruction of classic BPF, `ret #0`: the kernel drops what arrives before TCP sees it, and so confirms
# nothing. That is what a pulled cable looks like to the other end; a proxy that only stops reading confirms.
_NOTHING_PASSES = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_FILTER = struct.pack("HL", 1, ctypes.addressof(_NOTHING_PASSES))


class Proxy:
    """Forwards one loopback port to another, in one thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go_silent(self) -> None:
        """Forward nothing more over the links that are open; new ones work."""
        with self._lock:
            self._silent |= set(self._peers)

    def freeze(self) -> list[socket.socket]:
        """Lose every packet of the links that are open, both ways; returns their ends, to be thawed."""
        with self._lock:
            ends = list(self._peers)
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _FILTER)
        return ends

    def thaw(self, ends: list[socket.socket]) -> None:
        """Let packets pass again; TCP sends anew what was lost, if it still tries."""
        with self._lock:
            for end in ends:
                if end in self._peers:
                    with contextlib.suppress(FileNotFoundError):  # frozen twice, thawed once
                        end.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def hang_up(self) -> None:
        """Close all links."""
        with self._lock:
            for end in list(self._peers):
                self._drop(end)

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self.hang_up()
        self._server.close()
        self._selector.close()

    def _run(self) -> None:
        while self._open:
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    if key.fileobj is self._server:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._server.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for end, other in ((near, far), (far, near)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _forward(self, end: socket.socket) -> None:
        if end not in self._peers:
            return
        if end in self._silent:
            self._selector.unregister(end)  # what arrives stays in the kernel, as on a cut cable
            self._silent.discard(end)
            return
        try:
            data = end.recv(CHUNK_BYTES)
            if data:
                self._peers[end].sendall(data)
                return
        except OSError:
            pass
        self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        for side in (end, self._peers.get(end)):
            if side is None:
                continue
            self._peers.pop(side, None)
            self._silent.discard(side)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(side)
            side.close()
