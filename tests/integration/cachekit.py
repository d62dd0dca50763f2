"""The download cache's own nginx configuration, between a client and upstreams on the loopback address.

The upstreams have names, as real ones do: a name server of the kit answers for them.
"""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from tests.httpkit import serving
from tests.integration.nginxkit import Nginx
from tests.integration.sshkit import free_port

HTML = "text/html"
JSON = "application/vnd.pypi.simple.v1+json"
# What is said of a test's index is old after this long.
PAGE_SECONDS = 1


@dataclass(frozen=True)
class Answer:
    """What an upstream says."""

    body: bytes = b""
    kind: str = "application/octet-stream"
    status: int = 200
    location: str = ""
    delay_s: float = 0
    # Bytes that are promised and do not come.
    lacking: int = 0


@dataclass
class Upstream:
    """Web servers for all names: one for http, one for https; what they have, and what they were asked."""

    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    content: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: ExitStack = field(default_factory=ExitStack)

    def start(self, certificate: Path | None = None) -> None:
        self.content.clear()
        self.asked.clear()
        self.headers.clear()
        self._serve(ThreadingHTTPServer(("127.0.0.1", self.port), self._handler()))
        if certificate:
            server = ThreadingHTTPServer(("127.0.0.1", self.tls_port), self._handler())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
            self._serve(server)

    def _serve(self, server: socketserver.BaseServer) -> None:
        self.running.enter_context(serving(server))

    def stop(self) -> None:
        self.running.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = self.headers["Host"].partition(":")[0] + self.path
                upstream.asked[url] += 1
                upstream.headers.append({name.lower(): value for name, value in self.headers.items()})
                wanted = (f"{url} json", url) if JSON in self.headers["Accept"] else (url,)
                found = [upstream.content[key] for key in wanted if key in upstream.content]
                self._answer(found[0] if found else Answer(b"not here", "text/plain", 404))

            def _answer(self, answer: Answer) -> None:
                time.sleep(answer.delay_s)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body) + answer.lacking))
                # What a CDN says besides, and must not change what is kept and for how long.
                self.send_header("Cache-Control", "no-store")
                self.send_header("Set-Cookie", "session=1")
                self.send_header("Vary", "Accept, Accept-Encoding")
                if answer.location:
                    self.send_header("Location", answer.location)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


@dataclass
class Names:
    """A name server: every name is on the loopback address, or no name can be resolved."""

    port: int = field(default_factory=free_port)
    broken: bool = False
    running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.broken = False
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                packet, server = self.request
                server.sendto(names.reply(packet), self.client_address)

        server = socketserver.UDPServer(("127.0.0.1", self.port), Handler)
        self.running.enter_context(serving(server))

    def stop(self) -> None:
        self.running.close()

    def reply(self, query: bytes) -> bytes:
        """Answer the one question of a query (RFC 1035): 127.0.0.1 for type A, for one second."""
        end = query.index(b"\0", 12) + 5
        address = query[end - 4 : end - 2] == b"\0\1" and not self.broken
        flags = b"\x81\x82" if self.broken else b"\x81\x80"
        head = query[:2] + flags + b"\0\1" + (b"\0\1" if address else b"\0\0") + bytes(4)
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
        return head + query[12:end] + (answer if address else b"")


def make_certificate(path: Path, name: str, days: int = 2) -> Path:
    """Make a certificate for a host, its own authority; the key is beside it."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-out", str(path), "-keyout", str(path.with_suffix(".key"))]
    subprocess.run(command, check=True, capture_output=True)
    return path


class Cache:
    """A real nginx with the role's configuration, as Ansible wrote it."""

    def __init__(self, directory: Path, upstream: Upstream, names: Names) -> None:
        self.directory = directory
        self.upstream = upstream
        self.names = names
        self.nginx = Nginx(directory)

    @property
    def url(self) -> str:
        return self.nginx.url

    @property
    def port(self) -> int:
        return self.nginx.port

    @property
    def kept(self) -> Path:
        return self.directory / "kept"

    def files(self) -> list[Path]:
        """Return what is kept; a name with a dot is a file still being written."""
        return [path for path in self.kept.rglob("*") if path.is_file() and "." not in path.name]

    @property
    def authority(self) -> Path:
        """The certificate that the cache trusts."""
        return self.directory / "authority.pem"

    def configure(self, **variables: object) -> None:
        """Let Ansible render the role's template, with the role's defaults and this site's variables."""
        site: Mapping[str, object] = {
            "farm_cache_url": self.url,
            "download_cache_root": str(self.kept),
            "download_cache_min_free": "1m",
            "download_cache_page_seconds": PAGE_SECONDS,
            "download_cache_simple_url": f"http://pypi.test:{self.upstream.port}/root/simple/",
            "download_cache_files_url": f"http://files.test:{self.upstream.port}",
            # By https, so that what is said of certificates is put to the test.
            "download_cache_crates_index_url": f"https://index.test:{self.upstream.tls_port}",
            "download_cache_crates_files_url": f"http://crates.test:{self.upstream.port}/crates/",
            "download_cache_resolvers": [f"127.0.0.1:{self.names.port}"],
            "download_cache_ca_bundle": str(self.authority),
            **variables,
        }
        self.nginx.configure("download_cache", "cache.conf.j2", site)

    def start(self) -> None:
        shutil.rmtree(self.kept, ignore_errors=True)
        self.nginx.start()

    def stop(self) -> None:
        self.nginx.stop()

    def get(self, path: str, accept: str = "*/*", **headers: str) -> requests.Response:
        return self._ask("GET", path, Accept=accept, **headers)

    def head(self, path: str) -> requests.Response:
        return self._ask("HEAD", path)

    def _ask(self, method: str, path: str, **headers: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, self.url + path, headers=headers, allow_redirects=False, timeout=20
            )

    def raw(self, request: str) -> bytes:
        """Send what no client library would; return the answer's first line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as link:
            link.sendall(request.encode())
            with link.makefile("rb") as answer:
                return answer.readline()


def concurrently(count: int, call: Callable[[], object]) -> list[object]:
    """Call as many times at once; return what came back."""
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
