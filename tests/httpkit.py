"""HTTP servers on loopback for as long as a test needs them."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(BaseHTTPRequestHandler):
    """Says nothing of what was asked for."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class Files(Quiet, SimpleHTTPRequestHandler):
    """Serves a folder."""


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Let a server serve, in a thread of its own; it is closed in the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve what a handler answers; yields the URL, without a slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def serving_folder(
    root: Path, handler: type[SimpleHTTPRequestHandler] = Files, certificate: Path | None = None
) -> Iterator[str]:
    """Serve a folder, by TLS with the certificate and key in a PEM file; yields the URL, without a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root)))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
