"""Crawl an index served over HTTP on the loopback address."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import requests

from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import CrawlResult, crawl
from tests.unit.verify.wheelkit import NATIVE, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    tree = IndexTree(tmp_path / "index")
    for name in (NATIVE, "other-2.0-py3-none-any.whl"):
        add_wheel(tree, write_wheel(tmp_path, name))
    build_index(tree)
    return tree


@pytest.fixture
def url(tree: IndexTree) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tree.root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()
        thread.join()


def run(url: str, projects: list[str] | None = None, **expected: str) -> CrawlResult:
    with requests.Session() as session:
        return crawl(url, projects, session, expected=expected)


def causes(result: CrawlResult) -> str:
    return "; ".join(problem.cause for problem in result.problems)


def test_good_index(url: str) -> None:
    result = run(url)
    assert result.ok, result.problems
    assert result.pages == 3
    assert set(result.files) == {NATIVE, "other-2.0-py3-none-any.whl"}
    assert set(run(url, ["Other"]).files) == {"other-2.0-py3-none-any.whl"}


def test_f09_dead_link_and_changed_bytes(url: str, tree: IndexTree) -> None:
    (tree.packages / "demo" / NATIVE).unlink()
    (tree.packages / "other" / "other-2.0-py3-none-any.whl").write_bytes(b"x")
    result = run(url)
    assert "HTTP status 404" in causes(result)
    assert "the page says" in causes(result)
    assert not result.files


def test_f09_link_to_another_host(url: str, tree: IndexTree) -> None:
    page = tree.simple / "demo" / "index.html"
    page.write_text(page.read_text().replace("../../packages", "http://192.0.2.1/packages"))
    assert "on another host" in causes(run(url))


def test_f15_published_files_must_be_served(url: str, tree: IndexTree) -> None:
    assert "is not listed" in causes(run(url, ["missing"]))
    result = run(url, None, **{"demo-1.1-py3-none-any.whl": "0" * 64})
    assert "served nothing" in causes(result)
    assert (tree.simple / "index.html").exists()


def test_missing_project_page_and_missing_hash(url: str, tree: IndexTree) -> None:
    (tree.simple / "demo" / "index.html").unlink()
    page = tree.simple / "other" / "index.html"
    page.write_text(page.read_text().replace("#sha256", "#md5"))
    found = causes(run(url))
    assert "no file" in found or "404" in found
    assert "has no sha256" in found


def test_server_that_is_down() -> None:
    result = run("http://127.0.0.1:9/simple/", ["demo"])
    assert not result.ok
    assert "can't be read (ConnectionError)" in causes(result)
