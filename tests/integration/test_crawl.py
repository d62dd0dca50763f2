"""Crawl an index served over HTTP on the loopback address."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
import requests

from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import CrawlResult, crawl
from tests.httpkit import serving_folder
from tests.unit.verify.wheelkit import NATIVE, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    tree = IndexTree(tmp_path / "index")
    for name in (NATIVE, "other-2.0-py3-none-any.whl"):
        add_wheel(tree, write_wheel(tmp_path, name))
    build_index(tree)
    return tree


@pytest.fixture
def url(tree: IndexTree) -> Iterator[str]:
    with serving_folder(tree.root) as url:
        yield f"{url}/simple/"


def run(url: str, projects: list[str] | None = None, **expected: str) -> CrawlResult:
    with requests.Session() as session:
        return crawl(url, projects, session, expected=expected)


def causes(result: CrawlResult) -> str:
    return "; ".join(problem.cause for problem in result.problems)


def test_good_index(url: str) -> None:
    result = run(url)
    assert result.ok, result.problems
    assert result.pages == 6, "HTML and JSON of the root and of two projects"
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
    assert "HTML and JSON differ in url" in causes(run(url))

    data = page.with_name("index.json")
    data.write_text(data.read_text().replace("../../packages", "http://192.0.2.1/packages"))
    page.with_name("index.json.gz").unlink()
    theirs = "http://192.0.2.1/provenance"
    page.write_text(page.read_text().replace(" data-size", f' data-provenance="{theirs}" data-size'))
    data.write_text(data.read_text().replace('"size"', f'"provenance":"{theirs}","size"'))
    result = run(url, None, **{NATIVE: "0" * 64})
    assert "provenance" not in causes(result), "it is not for our keys to prove"
    assert result.elsewhere == {NATIVE}
    assert "served nothing" in causes(result), "what was published must be served by this host"


def test_what_is_no_index_is_not_found_well(url: str, tree: IndexTree) -> None:
    home = url.removesuffix("simple/")
    (tree.root / "index.html").write_text("<html><body>Hello</body></html>")
    assert "lists no project: give the address" in causes(run(home))
    (tree.root / "index.json").write_text('{"what": "a web site"}')
    problem = run(home).problems[-1]
    assert "unreadable page" in problem.cause
    assert "ends with /simple/" in problem.cause
    assert "\n" not in problem.cause


def test_an_index_without_projects_is_well(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "empty")
    build_index(tree)
    with serving_folder(tree.root) as empty:
        assert run(f"{empty}/simple/").ok


def test_f15_published_files_must_be_served(url: str, tree: IndexTree) -> None:
    assert "is not listed" in causes(run(url, ["missing"]))
    result = run(url, None, **{"demo-1.1-py3-none-any.whl": "0" * 64})
    assert "served nothing" in causes(result)
    assert (tree.simple / "index.html").exists()


def test_missing_project_page_and_missing_hash(url: str, tree: IndexTree) -> None:
    shutil.rmtree(tree.simple / "demo")
    page = tree.simple / "other" / "index.html"
    page.write_text(page.read_text().replace("#sha256", "#md5"))
    found = causes(run(url))
    assert "404" in found
    assert "has no sha256" in found


def test_server_that_is_down() -> None:
    result = run("http://127.0.0.1:9/simple/", ["demo"])
    assert not result.ok
    assert "can't be read (ConnectionError)" in causes(result)


@pytest.mark.parametrize(
    ("page", "old", "new", "said"),
    [
        ("demo/index.json", '"yanked":false', '"yanked":"no"', "differ in yanked"),
        ("demo/index.json", '"size":', '"size":1', "differ in size"),
        ("demo/index.json", "1.0-cp313", "1.1-cp313", "list other files"),
        ("demo/index.json", '"core-metadata"', '"dist-info-metadata"', "dist-info-metadata"),
        ("demo/index.json", '"versions":["1.0"]', '"versions":[]', "its versions lack 1.0"),
        ("index.json", '"other"', '"others"', "list other projects"),
        ("index.json", "{", "(", "unreadable page"),
    ],
)
def test_json_is_compared_with_html(
    url: str, tree: IndexTree, page: str, old: str, new: str, said: str
) -> None:
    path = tree.simple / page
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert said in causes(run(url))


def test_what_lies_beside_a_wheel_is_compared_with_it(url: str, tree: IndexTree) -> None:
    beside = tree.packages / "demo" / f"{NATIVE}.metadata"
    good = beside.read_bytes()
    beside.write_bytes(good + b"\n")
    assert "which the page says" in causes(run(url))
    for name in ("index.html", "index.json"):
        page = tree.simple / "demo" / name
        right, wrong = (hashlib.sha256(data).hexdigest() for data in (good, good + b"\n"))
        page.write_text(page.read_text().replace(right, wrong))
    assert "is not the METADATA of the wheel" in causes(run(url))
    beside.unlink()
    assert "HTTP status 404" in causes(run(url))


def test_files_that_were_read_before_are_only_looked_at(url: str, tree: IndexTree) -> None:
    with requests.Session() as session:
        result = crawl(url, None, session, fetch={NATIVE})
        assert result.ok
        assert set(result.files) == {NATIVE}
        other = tree.packages / "other" / "other-2.0-py3-none-any.whl"
        other.write_bytes(b"x")
        assert "its size is 1" in causes(crawl(url, None, session, fetch={NATIVE}))
        other.unlink()
        assert "HTTP status 404" in causes(crawl(url, None, session, fetch={NATIVE}))
