"""The index host's own nginx site, as Ansible wrote it, on a port of the loopback address."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from farm.index import IndexTree, add_wheel, build_index
from farm.index.record import read_record, write_record
from tests.integration.nginxkit import Nginx
from tests.integration.nodekit import until
from tests.unit.verify.wheelkit import write_wheel

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


@dataclass(frozen=True, slots=True)
class Line:
    """What the site wrote down of one request."""

    method: str
    uri: str
    status: int
    size: int
    agent: str


@dataclass
class Site:
    """A published tree and the server in front of it."""

    directory: Path
    workers: int = 1
    """More than one write the log out of order: each has a buffer of its own."""
    nginx: Nginx = field(init=False)

    def __post_init__(self) -> None:
        self.nginx = Nginx(self.directory, workers=self.workers)

    @property
    def url(self) -> str:
        return self.nginx.url

    @property
    def simple(self) -> str:
        """What a client is given."""
        return f"{self.url}/simple/"

    @property
    def root(self) -> Path:
        """The published tree."""
        return self.directory / "root"

    def start(self, **variables: object) -> None:
        """Serve the tree with the role's defaults, but for these variables."""
        site: Mapping[str, object] = {
            "farm_index_url": self.url,
            "farm_index_root": str(self.root),
            "farm_index_user": "nobody",
            "farm_ssh_key": "none",
            "index_server_fallback_url": "",
            **variables,
        }
        self.nginx.configure("index_server", "site.conf.j2", site)
        self.nginx.start()

    def stop(self) -> None:
        self.nginx.stop()

    @property
    def tree(self) -> IndexTree:
        """The published tree, for what the farm itself does with it."""
        return IndexTree(self.root, self.url)

    def publish(
        self,
        *filenames: str,
        requires: tuple[str, ...] = (),
        requires_python: str = ">=3.9",
        content: bytes = b"",
        at: float | None = None,
    ) -> None:
        """Publish wheels with these names, requirements and a module of this content.

        ``at`` is when, in seconds since the epoch.
        """
        wheels = self.directory / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        for filename in filenames:
            name, version = filename.split("-")[:2]
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Python: {requires_python}", *(f"Requires-Dist: {text}" for text in requires)]
            metadata = "\n".join(lines) + "\n"
            members = {f"{name}.py": content or f"version = {version!r}\n".encode()}
            add_wheel(self.tree, write_wheel(wheels, filename, members, metadata=metadata), now=at)
        build_index(self.tree)

    def yank(self, filename: str, reason: str) -> None:
        """Yank a file that was published."""
        project = filename.split("-", maxsplit=1)[0].replace("_", "-").lower()
        record = read_record(self.tree.records, project)
        assert record is not None
        files = [replace(f, yanked=reason) if f.filename == filename else f for f in record.index.files]
        write_record(self.tree.records, record.with_index(replace(record.index, files=tuple(files))))
        build_index(self.tree)

    def clear(self) -> None:
        """Remove all that is published."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.directory / "wheels", ignore_errors=True)

    def withdraw(self, filename: str) -> None:
        """Remove a wheel that was published."""
        for path in (self.root / "packages").glob(f"*/{filename}*"):
            path.unlink()
        build_index(self.tree)

    def write(self, path: str, content: str | bytes, *, compressed: bool = False) -> Path:
        """Put a file into the tree, and its .gz beside it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        target.write_bytes(data)
        if compressed:
            target.with_name(target.name + ".gz").write_bytes(gzip.compress(data, mtime=0))
        return target

    def ask(self, method: str, path: str, **headers: str) -> requests.Response:
        """Send a request with these headers and none of the library's own; follow nothing."""
        with requests.Session() as session:
            session.trust_env = False
            session.headers.clear()
            wanted = {name.replace("_", "-"): value for name, value in headers.items()}
            return session.request(method, self.url + path, headers=wanted, allow_redirects=False, timeout=20)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.ask("GET", path, **headers)

    def raw(self, request: str) -> bytes:
        """Send what no library would; return the answer's first line."""
        with socket.create_connection(("127.0.0.1", self.nginx.port), timeout=20) as link:
            link.sendall(request.encode())
            with link.makefile("rb") as answer:
                return answer.readline()

    def mark(self) -> int:
        """Return where the log ends once all that was asked until now is in it."""
        path = f"/mark-{self.nginx.access.stat().st_size}"
        self.get(path)
        until(lambda: path.encode() in self.nginx.access.read_bytes(), "nginx to write its log")
        return self.nginx.access.stat().st_size

    def lines(self, begin: int) -> list[Line]:
        """Return what was asked since a mark."""
        self.mark()
        with self.nginx.access.open("rb") as log:
            log.seek(begin)
            records = [json.loads(line) for line in log]
        lines = [Line(r["method"], r["uri"], r["status"], r["bytes"], r["agent"]) for r in records]
        return [line for line in lines if not line.uri.startswith("/mark-")]
