"""What serving costs, negotiated and compressed, against bare nginx; and the bytes of a resolution.

    python -m bench.served [--json] [--rounds 150]

Both servers are the same nginx on the loopback address, in turns; the client is the same: it sends what pip
sends over 16 connections, and counts bytes. The bare server has nothing but a root, an index file, sendfile
and no log, and answers with the project's static HTML; ours is the role's whole site, with its log and its
bounds, and answers with compressed JSON of the same files, from a merged page. `served_vs_bare_nginx` is ours
over bare, in requests a second: the median of the rounds' own ratios.

A resolution is 20 projects with dependencies, by pip and by uv: what they download from our index, and from
the same index without metadata files (PEP 658). Needs nginx, ansible and uv of this environment; nothing else
is touched. Half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from farm.index import read_project
from farm.index.render import project_html, project_json, write_pages
from tests.integration.clientkit import bare as bare_environment
from tests.integration.indexkit import Site
from tests.integration.nginxkit import NGINX
from tests.integration.nodekit import until
from tests.integration.sshkit import free_port

GOAL: Final = 0.95
FILES: Final = 40
"""Wheels of a project, as in an index of 20,000 in 500 projects."""
REQUESTS: Final = 2_000
"""Of a round: a tenth of a second, for a shared machine's own speed changes by a tenth within a second."""
_CONNECTIONS: Final = 16
_ACCEPT: Final = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
)
_AGENT: Final = (
    'pip/26.3 {"cpu":"riscv64","implementation":{"name":"CPython","version":"3.13.5"},"python":"3.13.5"}'
)
PROJECTS: Final = 20
WHEEL_BYTES: Final = 500_000


@dataclass(frozen=True, slots=True)
class Served:
    """Requests a second of both servers, one for each round; and bytes that a resolution downloads."""

    ours: tuple[float, ...]
    bare: tuple[float, ...]
    resolved: Mapping[str, int]

    def figures(self) -> dict[str, float]:
        """Return the figures by the names of the JSON line."""
        ratio = statistics.median(ours / bare for ours, bare in zip(self.ours, self.bare, strict=True))
        return {
            "served_vs_bare_nginx": round(ratio, 3),
            "served_requests_per_s": round(statistics.median(self.ours)),
            "bare_requests_per_s": round(statistics.median(self.bare)),
            **{f"resolve_{name}_bytes": size for name, size in self.resolved.items()},
        }


def measure(rounds: int = 150) -> Served:
    """Measure both servers side by side, and the bytes of a resolution."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
        ours, bare = throughput(Path(folder, "speed"), rounds)
        return Served(ours, bare, resolution(Path(folder, "bytes")))


def throughput(folder: Path, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return requests a second of our site and of bare nginx."""
    site = Site(folder, workers=2)
    site.publish(*(f"demo-1.{n}-cp313-cp313-manylinux_2_39_riscv64.whl" for n in range(FILES)))
    # Nearly every project has such a page: upstream's sdists and other wheels are on it.
    shutil.copytree(site.root / "simple/demo", site.root / "merged/demo")
    plain = folder / "plain/simple/demo"
    plain.mkdir(parents=True)
    shutil.copy(site.root / "simple/demo/index.html", plain)
    # One address would soon be told to wait: that is not what is measured, and the check itself is.
    site.start(index_server_requests_per_second=10_000_000, index_server_burst=10_000_000)
    try:
        with _bare_nginx(folder / "plain") as port:
            for warm in (site.nginx.port, port):
                requests_per_s(warm, REQUESTS)
            pairs = [
                (requests_per_s(site.nginx.port, REQUESTS), requests_per_s(port, REQUESTS))
                for _ in range(rounds)
            ]
    finally:
        site.stop()
    return tuple(ours for ours, _ in pairs), tuple(bare for _, bare in pairs)


@contextmanager
def _bare_nginx(root: Path) -> Iterator[int]:
    port = free_port()
    user = "user root;\n" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 2;\npid {root}/pid;\nerror_log {root}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\nsendfile on;\nkeepalive_requests 1000000;\n"
        f"types {{ text/html html; }}\n"
        f"server {{\nlisten 127.0.0.1:{port};\nroot {root};\nindex index.html;\n}}\n}}\n"
    )
    command = [NGINX, "-e", str(root / "error.log"), "-p", str(root), "-c", str(root / "nginx.conf")]
    process = subprocess.Popen(command, start_new_session=True)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "bare nginx")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def requests_per_s(port: int, count: int) -> float:
    """Ask for one page so many times over some connections, each at once; return answers a second.

    Raises:
        RuntimeError: the server says something else than the page, or not always the same.
    """
    question = (
        f"GET /simple/demo/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {_AGENT}\r\n"
        f"Accept-Encoding: gzip, deflate\r\nAccept: {_ACCEPT}\r\nConnection: keep-alive\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        links = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(_CONNECTIONS)
        ]
        size = _answer_size(links[0], question)
        begin = time.perf_counter()
        for _ in range(count // len(links)):
            for link in links:
                link.sendall(question)
            for link in links:
                missing = size
                while missing > 0:
                    missing -= len(link.recv(1 << 16)) or _hung_up()
                if missing:
                    raise RuntimeError("answers differ in size")
        return count / (time.perf_counter() - begin)


def _hung_up() -> int:
    raise RuntimeError("the server hung up")


def _answer_size(link: socket.socket, question: bytes) -> int:
    """Ask once; return the size of an answer with its head, in bytes."""
    link.sendall(question)
    data = b""
    while b"\r\n\r\n" not in data:
        data += link.recv(1 << 16)
    head, _, _ = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the server says {head[:80]!r}")
    (length,) = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    size = len(head) + 4 + length
    while len(data) < size:
        data += link.recv(1 << 16)
    return size


def resolution(folder: Path) -> dict[str, int]:
    """Return the bytes that pip and uv download to resolve 20 projects, with metadata files and without."""
    site = Site(folder)
    noise = b"#" + os.urandom(WHEEL_BYTES // 2).hex().encode()
    for number in range(PROJECTS):
        needs = tuple(f"need{n}>=1" for n in range(number, min(number + 3, PROJECTS)))
        site.publish(f"want{number}-1.0-py3-none-any.whl", requires=needs, content=noise)
        site.publish(
            f"need{number}-1.0-py3-none-any.whl", f"need{number}-1.1-py3-none-any.whl", content=noise
        )
    site.start()
    try:
        wanted = [f"want{number}" for number in range(PROJECTS)]
        sizes = {f"{client}_metadata": _bytes(site, client, wanted) for client in ("pip", "uv")}
        _without_metadata(site)
        return {**sizes, **{f"{client}_none": _bytes(site, client, wanted) for client in ("pip", "uv")}}
    finally:
        site.stop()


def _without_metadata(site: Site) -> None:
    """Take the metadata files away, and what the pages say of them."""
    for project in site.tree.projects():
        index = read_project(site.tree, project)
        pages = [
            text.replace("data-core-metadata", "data-none").replace('"core-metadata"', '"_none"')
            for text in (project_html(index, site.url), project_json(index, site.url))
        ]
        write_pages(site.root / "simple" / project, *pages)
    for path in (site.root / "packages").glob("*/*.metadata"):
        path.unlink()


def _bytes(site: Site, client: str, wanted: list[str]) -> int:
    """Resolve, and return how many bytes of bodies the server sent."""
    commands = {
        "pip": [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-cache-dir",
            "--target",
            str(site.directory / "no"),
        ],
        "uv": [
            str(Path(sys.executable).with_name("uv")),
            "pip",
            "install",
            "--no-cache",
            "--target",
            str(site.directory),
        ],
    }
    begin = site.mark()
    command = [*commands[client], "--dry-run", "--quiet", "--index-url", site.simple, *wanted]
    subprocess.run(command, check=True, env=bare_environment(), capture_output=True, timeout=300)
    return sum(line.size for line in site.lines(begin))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--rounds", type=int, default=150)
    options = parser.parse_args()
    served = measure(options.rounds)
    table = Table("figure", "value")
    for name, value in served.figures().items():
        table.add_row(name, f"{value:,}")
    Console(stderr=options.json).print(table)
    if options.json:
        print(json.dumps(served.figures()))


if __name__ == "__main__":
    main()
