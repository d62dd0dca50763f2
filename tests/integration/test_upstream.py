"""The client of the upstream index, against a small index on the loopback address."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.version import Version
from requests.adapters import HTTPAdapter

from farm.errors import HashMismatchError, UpstreamError
from farm.index import IndexTree, add_wheel
from farm.outdated import look
from farm.plan import Python
from farm.service import Planned, jobs_of, plan
from farm.upstream import Upstream
from tests.httpkit import Quiet, answering
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration
SDIST = b"an sdist"
SHA256 = hashlib.sha256(SDIST).hexdigest()
PAGE = f"""<!DOCTYPE html><html><body>
<a href="/files/demo-1.0.tar.gz#sha256={SHA256}" data-requires-python="&gt;=3.9">demo-1.0.tar.gz</a>
<a href="/files/demo-1.1.tar.gz#sha256={SHA256}" data-yanked="broken">demo-1.1.tar.gz</a>
<a href="/files/demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>
<a href="/files/demo-1.0-py2.7.egg">demo-1.0-py2.7.egg</a>
<a href="/files/demo-1.0.win32.exe">demo-1.0.win32.exe</a>
<a href="/files/demo-nonsense.tar.gz">demo-nonsense.tar.gz</a>
</body></html>""".encode()


@dataclass
class Index:
    url: str
    content: dict[str, tuple[str, bytes]]
    asked: Counter[str] = field(default_factory=Counter)
    accepted: set[str | None] = field(default_factory=set)

    @property
    def client(self) -> Upstream:
        return impatient(f"{self.url}/simple/")


def impatient(url: str) -> Upstream:
    client = Upstream(url)
    client._http.mount("http://", HTTPAdapter(max_retries=0))
    return client


@pytest.fixture
def index() -> Iterator[Index]:
    found = Index("", {"/simple/demo/": ("text/html", PAGE)})

    class Handler(Quiet):
        def do_GET(self) -> None:
            found.asked[self.path] += 1
            found.accepted.add(self.headers["Accept-Encoding"])
            kind, body = found.content.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            # "short": the link breaks before all bytes have come.
            self.send_header("Content-Length", str(len(body) + 9 * (kind == "short")))
            self.end_headers()
            self.wfile.write(body)

    with answering(Handler) as found.url:
        yield found


def fetch(index: Index, directory: Path) -> Path:
    url = f"{index.url}/files/demo-1.0.tar.gz"
    return index.client.fetch(url, "demo-1.0.tar.gz", SHA256, directory)


def test_f27_what_a_project_offers(index: Index) -> None:
    project = index.client.project("DEMO")
    assert project.name == "demo"
    files = {file.filename: file for file in project.files}
    assert set(files) == {"demo-1.0.tar.gz", "demo-1.1.tar.gz", "demo-1.0-py3-none-any.whl"}
    sdist = files["demo-1.0.tar.gz"]
    assert (sdist.sha256, sdist.requires_python, sdist.yanked) == (SHA256, ">=3.9", False)
    assert sdist.url.startswith(f"{index.url}/files/demo-1.0.tar.gz")
    assert files["demo-1.1.tar.gz"].yanked
    assert files["demo-1.0-py3-none-any.whl"].sha256 is None


def test_an_sdist_is_fetched_once_and_as_it_is(index: Index, tmp_path: Path) -> None:
    index.content["/files/demo-1.0.tar.gz"] = ("application/gzip", SDIST)
    index.accepted.clear()
    path = fetch(index, tmp_path)
    assert path == tmp_path / SHA256 / "demo-1.0.tar.gz"
    assert path.read_bytes() == SDIST
    assert fetch(index, tmp_path) == path
    assert index.asked["/files/demo-1.0.tar.gz"] == 1
    assert index.accepted == {"identity"}


def test_a_damaged_copy_is_fetched_again(index: Index, tmp_path: Path) -> None:
    index.content["/files/demo-1.0.tar.gz"] = ("application/gzip", SDIST)
    path = fetch(index, tmp_path)
    path.write_bytes(b"damaged")
    assert fetch(index, tmp_path).read_bytes() == SDIST


def test_the_sdist_of_a_version(index: Index, tmp_path: Path) -> None:
    index.content["/files/demo-1.0.tar.gz"] = ("application/gzip", SDIST)
    index.content["/simple/bare/"] = ("text/html", b'<a href="/files/bare-1.0.tar.gz">bare-1.0.tar.gz</a>')
    assert index.client.fetch_sdist("Demo", Version("1.0.0"), tmp_path).read_bytes() == SDIST
    for name, version in (("demo", "3.0"), ("bare", "1.0")):
        with pytest.raises(UpstreamError, match=rf"has no sdist of {name} {version} with a sha256"):
            index.client.fetch_sdist(name, Version(version), tmp_path)


def test_what_upstream_has_no_sdist_of_is_built_from_where_its_recipe_says(
    index: Index, tmp_path: Path
) -> None:
    wheel = f"bare-2.0-cp313-cp313-manylinux_2_17_x86_64.whl#sha256={SHA256}"
    index.content["/simple/bare/"] = ("text/html", f'<a href="/files/{wheel}">{wheel[:-72]}</a>'.encode())
    index.content["/src/bare-v2.0.tar.gz"] = ("application/gzip", SDIST)
    recipes = tmp_path / "recipes"
    recipes.mkdir()

    def planned() -> Planned:
        (item,) = plan(["Bare"], [Python("cp313")], index.client, recipes)
        return item

    error = planned().error
    assert error is not None
    assert "no sdist" in error.message
    assert "recipes/bare.yml, key sdists" in error.hint
    recipe = recipes / "bare.yml"
    recipe.write_text(f"sdists: {{'2.0': {{url: '{index.url}/src/bare-v2.0.tar.gz', sha256: {SHA256}}}}}\n")
    (spec,) = jobs_of([planned()], recipes)
    source = index.client.fetch(spec.sdist_url, spec.sdist_filename, spec.sdist_sha256, tmp_path / "sdists")
    assert (source.name, source.read_bytes()) == ("bare-v2.0.tar.gz", SDIST)
    # For the tests that it holds, and for what is newer upstream, its word counts as well.
    assert index.client.fetch_sdist("bare", Version("2.0"), tmp_path, spec.recipe.sdists).name == source.name
    tree = IndexTree(tmp_path / "index")
    metadata = "Metadata-Version: 2.1\nName: bare\nVersion: 2.0\n"
    hosted = "bare-2.0-cp313-cp313-manylinux_2_39_riscv64.whl"
    add_wheel(tree, write_wheel(tmp_path, hosted, metadata=metadata))
    assert look(tree, [], index.client, recipes) == ([], [])
    items, unknown = look(tree, [], index.client, tmp_path)
    assert (items, [it.project for it in unknown]) == ([], ["bare"])
    recipe.write_text("sdists: {'2.0': {}}\n")
    error = planned().error
    assert error is not None
    assert "bare.yml:1: sdists" in error.message


def kept(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_other_bytes_than_promised_are_not_kept(index: Index, tmp_path: Path) -> None:
    index.content["/files/demo-1.0.tar.gz"] = ("application/gzip", b"evil")
    with pytest.raises(HashMismatchError, match=r"demo-1\.0\.tar\.gz: sha256 is") as caught:
        fetch(index, tmp_path)
    assert (caught.value.expected, caught.value.actual) == (SHA256, hashlib.sha256(b"evil").hexdigest())
    assert caught.value.hint
    assert kept(tmp_path) == []


@pytest.mark.parametrize("answer", [None, ("short", SDIST)], ids=["404", "cut off"])
def test_a_failed_download_is_an_upstream_error(
    index: Index, tmp_path: Path, answer: tuple[str, bytes] | None
) -> None:
    if answer:
        index.content["/files/demo-1.0.tar.gz"] = answer
    with pytest.raises(UpstreamError, match=r"demo-1\.0\.tar\.gz") as caught:
        fetch(index, tmp_path)
    assert "network" in caught.value.hint
    assert kept(tmp_path) == []


def test_an_unknown_project(index: Index) -> None:
    with pytest.raises(UpstreamError, match="nosuch: no such project on http://127") as caught:
        index.client.project("nosuch")
    assert caught.value.hint == "check the spelling"


def test_a_page_that_is_no_index_page(index: Index) -> None:
    index.content["/simple/demo/"] = ("image/png", b"\x89PNG")
    with pytest.raises(UpstreamError, match="can't be read"):
        index.client.project("demo")


def test_an_unreachable_index() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port  # free again once closed
    with pytest.raises(UpstreamError, match="can't be read") as caught:
        impatient(f"http://127.0.0.1:{port}/simple/").project("demo")
    assert "check the network" in caught.value.hint
