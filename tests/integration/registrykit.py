"""A real pypiserver in a process of its own, with a door in front that can be busy, broken or forgetful.

`python -m tests.integration.registrykit FOLDER TOKEN` is that process; it says its port. Files in FOLDER tell
the door what to do, and it counts posts there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

from farm.paths import REPOSITORY
from farm.registry import Registry

Headers = list[tuple[str, str]]
LOST = "lost"
"""Not an answer but what happens to one: the file is stored, and a gateway says 502."""


@dataclass
class Server:
    """What a test sees of it."""

    folder: Path
    url: str

    @property
    def registry(self) -> Registry:
        return Registry(name="shelf", url=f"{self.url}/", simple_url=f"{self.url}/simple/", token_env="TOKEN")

    @property
    def shelf(self) -> Path:
        return self.folder / "shelf"

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.shelf.iterdir())

    @property
    def posts(self) -> int:
        path = self.folder / "posts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def clear(self) -> None:
        """Make it a new one."""
        for path in self.shelf.iterdir():
            path.unlink()
        for name in ("posts", "instead.json"):
            (self.folder / name).unlink(missing_ok=True)

    def instead(self, *answers: tuple[str, Headers] | tuple[str, Headers, str]) -> None:
        """Answer the next posts so (status, headers, text), and not as pypiserver does."""
        (self.folder / "instead.json").write_text(json.dumps(answers))


@contextmanager
def serving(directory: Path, token: str) -> Iterator[Server]:
    """Run one, on a port of the loopback address."""
    folder = directory / "registry"
    (folder / "shelf").mkdir(parents=True)
    command = [sys.executable, "-m", "tests.integration.registrykit", str(folder), token]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Server(folder, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def _door(app: Callable[..., Iterable[bytes]], folder: Path) -> Callable[..., Iterable[bytes]]:
    plan = folder / "instead.json"

    def wrapped(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            return app(environ, start)
        with (folder / "posts").open("a") as posts:
            posts.write("post\n")
        answers = json.loads(plan.read_text()) if plan.exists() else []
        if not answers:
            return app(environ, start)
        (status, headers, *text), *rest = answers
        plan.write_text(json.dumps(rest))
        if status == LOST:
            b"".join(app(environ, lambda *_: None))
            status = "502 Bad Gateway"
        else:
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        body = "".join(text).encode()
        start(status, [("Content-Length", str(len(body))), *map(tuple, headers)])
        return [body]

    return wrapped


def main(folder: Path, token: str) -> None:
    """Serve until ended."""
    # Here, because it changes how modules are imported.
    import pypiserver  # noqa: PLC0415

    app = pypiserver.app(
        roots=[folder / "shelf"],
        authenticate=["update"],
        auther=lambda user, password: (user, password) == ("__token__", token),
        password_file="unused",
        disable_fallback=True,
        hash_algo="sha256",
    )
    with make_server("127.0.0.1", 0, _door(app, folder)) as http:
        sys.stdout.write(f"{http.server_port}\n")
        sys.stdout.flush()
        http.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
