"""The download cache, with a real nginx and a real pip, against upstreams on the loopback address."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.cachekit import (
    HTML,
    JSON,
    PAGE_SECONDS,
    Answer,
    Cache,
    Names,
    Upstream,
    concurrently,
    make_certificate,
)
from tests.integration.nodekit import until
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration
WHEEL = "other-2.0-py3-none-any.whl"
PAGE = "pypi.test/root/simple/other/"
FOLDER = "files.test/packages/0e/f9/"
METADATA = b"Metadata-Version: 2.1\nName: other\nVersion: 2.0\n"
PIP_ACCEPTS = f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
UV_ACCEPTS = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
CRATE = b"a crate"
CRATE_SHA256 = hashlib.sha256(CRATE).hexdigest()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    cache = Cache(tmp_path_factory.mktemp("cache"), Upstream(), Names())
    make_certificate(cache.authority, "index.test")
    cache.configure()
    return cache


@pytest.fixture
def upstream(site: Cache) -> Iterator[Upstream]:
    site.upstream.start(site.authority)
    yield site.upstream
    site.upstream.stop()


@pytest.fixture
def names(site: Cache) -> Iterator[Names]:
    site.names.start()
    yield site.names
    site.names.stop()


@pytest.fixture
def cache(site: Cache, upstream: Upstream, names: Names) -> Iterator[Cache]:  # noqa: ARG001 - they must run
    site.start()
    yield site
    site.stop()


@pytest.fixture
def wheel(tmp_path: Path, upstream: Upstream) -> bytes:
    """An index that has one wheel, as PyPI has it: pages in HTML and JSON, files on another host."""
    path = write_wheel(tmp_path, WHEEL)
    body = path.read_bytes()
    url = f"http://files.test:{upstream.port}/packages/0e/f9/{WHEEL}"
    digest = hashlib.sha256(body).hexdigest()
    metadata = {"sha256": hashlib.sha256(METADATA).hexdigest()}
    file = {"filename": WHEEL, "url": url, "hashes": {"sha256": digest}, "core-metadata": metadata}
    page = {
        "meta": {"api-version": "1.1"},
        "name": "other",
        "files": [file | {"dist-info-metadata": metadata}],
    }
    upstream.content |= {
        PAGE: Answer(f'<a href="{url}#sha256={digest}">{WHEEL}</a>'.encode(), HTML),
        f"{PAGE} json": Answer(json.dumps(page).encode(), JSON),
        FOLDER + WHEEL: Answer(body),
        f"{FOLDER}{WHEEL}.metadata": Answer(METADATA),
    }
    return body


def pip_download(cache: Cache, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--isolated", "download", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--retries=0", f"--dest={target}"]
    command += [f"--index-url={cache.url}/pypi/simple/", "other"]
    # Whatever this machine tells its own pip, the cache is asked.
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_pip_downloads_once_for_all(cache: Cache, upstream: Upstream, wheel: bytes, tmp_path: Path) -> None:
    for target in (tmp_path / "one", tmp_path / "two"):
        done = pip_download(cache, target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (target / WHEEL).read_bytes() == wheel
    assert upstream.asked[FOLDER + WHEEL] == 1
    assert upstream.asked[f"{FOLDER}{WHEEL}.metadata"] == 1


def test_html_and_json_are_changed_and_kept_apart(cache: Cache, upstream: Upstream, wheel: bytes) -> None:
    digest = hashlib.sha256(wheel).hexdigest()
    for _ in range(2):
        page = cache.get("/pypi/simple/other/", HTML, Cookie="a=b", Authorization="Basic eDp5")
        assert page.headers["Content-Type"] == HTML
        assert page.text == f'<a href="/files/packages/0e/f9/{WHEEL}#sha256={digest}">{WHEEL}</a>'
        for accept in (JSON, PIP_ACCEPTS, UV_ACCEPTS):
            page = cache.get("/pypi/simple/other/", accept, **{"Accept-Encoding": "gzip"})
            assert page.headers["Content-Type"] == JSON
            (file,) = page.json()["files"]
            assert (file["url"], file["hashes"]) == (f"/files/packages/0e/f9/{WHEEL}", {"sha256": digest})
    assert upstream.asked[PAGE] == 2
    assert [headers.pop("accept") for headers in upstream.headers] == [HTML, f"{JSON}, text/html;q=0.1"]
    # Nothing of the client reaches the upstream, and no cookie of the upstream comes back to be shared.
    host = f"pypi.test:{upstream.port}"
    said = {"host": host, "user-agent": "wheelfarm-cache", "accept-encoding": "identity"}
    assert upstream.headers == [said, said]
    assert "Set-Cookie" not in page.headers


def test_relative_links_of_a_mirror(cache: Cache, upstream: Upstream) -> None:
    upstream.content["pypi.test/root/packages/a.whl"] = Answer(b"a")
    # What a client makes of ../../packages/a.whl on /pypi/simple/other/.
    assert [cache.get("/pypi/packages/a.whl").content for _ in range(2)] == [b"a", b"a"]
    assert upstream.asked["pypi.test/root/packages/a.whl"] == 1


@pytest.mark.usefixtures("wheel")
def test_pip_refuses_what_an_upstream_swapped(cache: Cache, upstream: Upstream, tmp_path: Path) -> None:
    upstream.content[FOLDER + WHEEL] = Answer(b"evil")
    done = pip_download(cache, tmp_path / "target")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "target" / WHEEL).exists()


def test_pip_refuses_what_was_damaged_in_the_cache(cache: Cache, wheel: bytes, tmp_path: Path) -> None:
    assert cache.get(f"/files/packages/0e/f9/{WHEEL}").content == wheel
    until(cache.files, "the kept file")
    (kept,) = cache.files()
    kept.write_bytes(kept.read_bytes()[:-9] + b"123456789")
    done = pip_download(cache, tmp_path / "target")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    # What an operator is told to do; nginx need not be restarted.
    kept.unlink()
    assert pip_download(cache, tmp_path / "target").returncode == 0


def test_crates(cache: Cache, upstream: Upstream) -> None:
    line = json.dumps({"name": "itoa", "vers": "1.0.18+build.1", "cksum": CRATE_SHA256}).encode()
    upstream.content |= {
        "index.test/it/oa/itoa": Answer(line, "text/plain"),
        "crates.test/crates/itoa/1.0.18+build.1/download": Answer(CRATE),
    }
    config = cache.get("/crates/index/config.json")
    assert config.headers["Content-Type"] == "application/json"
    for _ in range(2):
        said = cache.get("/crates/index/it/oa/itoa").json()
        url = config.json()["dl"].replace("{crate}", said["name"]).replace("{version}", said["vers"])
        crate = cache.get(url.removeprefix(cache.url)).content
        assert hashlib.sha256(crate).hexdigest() == said["cksum"]
    assert cache.get("/crates/index/no/su/nosuch").status_code == 404
    assert upstream.asked == {
        "index.test/it/oa/itoa": 1,
        "index.test/no/su/nosuch": 1,
        "crates.test/crates/itoa/1.0.18+build.1/download": 1,
    }


def test_concurrent_requests_ask_upstream_once(cache: Cache, upstream: Upstream) -> None:
    upstream.content["files.test/big.tar.gz"] = Answer(b"big" * 100_000, delay_s=0.3)
    results = concurrently(6, lambda: cache.get("/files/big.tar.gz").content)
    assert results == [b"big" * 100_000] * 6
    assert upstream.asked["files.test/big.tar.gz"] == 1


def test_parts_of_a_file(cache: Cache, upstream: Upstream) -> None:
    upstream.content["files.test/a.whl"] = Answer(b"0123456789")
    assert cache.head("/files/a.whl").headers["Content-Length"] == "10"
    for wanted, part, place in (("3-5", b"345", "3-5"), ("-4", b"6789", "6-9"), ("8-", b"89", "8-9")):
        answer = cache.get("/files/a.whl", Range=f"bytes={wanted}")
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["Content-Range"] == f"bytes {place}/10"
    assert cache.get("/files/a.whl").content == b"0123456789"
    assert upstream.asked["files.test/a.whl"] == 1


def test_the_first_request_for_a_part_keeps_the_whole(cache: Cache, upstream: Upstream) -> None:
    upstream.content["files.test/a.whl"] = Answer(b"0123456789")
    answer = cache.get("/files/a.whl", Range="bytes=3-5")
    assert (answer.status_code, answer.content) == (206, b"345")
    assert cache.get("/files/a.whl").content == b"0123456789"
    assert upstream.asked["files.test/a.whl"] == 1


def test_what_is_kept_is_served_when_upstream_is_down(
    cache: Cache, upstream: Upstream, names: Names, wheel: bytes
) -> None:
    upstream.content["index.test/it/oa/itoa"] = Answer(b"{}", "text/plain")
    paths = [f"/files/packages/0e/f9/{WHEEL}", "/pypi/simple/other/", "/crates/index/it/oa/itoa"]
    before = [cache.get(path).content for path in paths]
    assert before[0] == wheel
    good = dict(upstream.content)
    # Pages are old then, and so are addresses; nginx counts whole seconds.
    time.sleep(PAGE_SECONDS + 1.1)

    def assert_kept(failure: str) -> None:
        answers = [cache.get(path) for path in paths]
        assert [answer.content for answer in answers] == before, failure
        assert [answer.headers["X-Cache-Status"] for answer in answers] == ["HIT", "STALE", "STALE"], failure

    names.broken = True
    assert_kept("names can't be resolved")
    assert cache.get("/files/not-kept.whl").status_code == 502
    names.broken = False
    upstream.content = dict.fromkeys(good, Answer(status=503))
    assert_kept("upstream is overloaded")
    upstream.content = good | {PAGE: Answer(b"new", HTML)}
    assert cache.get("/pypi/simple/other/").text == "new"
    before[1] = b"new"
    time.sleep(PAGE_SECONDS + 1.1)
    upstream.stop()
    assert_kept("nothing listens")
    assert cache.get("/files/not-kept.whl").status_code == 502


def test_nginx_starts_without_the_internet(site: Cache) -> None:
    site.start()
    try:
        health = site.get("/healthz")
        assert (health.status_code, health.text) == (200, "ok")
    finally:
        site.stop()


def test_a_page_is_not_asked_for_again_at_once(cache: Cache, upstream: Upstream) -> None:
    upstream.content[PAGE] = Answer(b"old", HTML)
    assert cache.get("/pypi/simple/other/").text == "old"
    upstream.content[PAGE] = Answer(b"new", HTML)
    assert cache.get("/pypi/simple/other/").text == "old"


def test_what_did_not_come_is_asked_for_again(cache: Cache, upstream: Upstream) -> None:
    assert cache.get("/files/a.whl").status_code == 404
    upstream.content["files.test/a.whl"] = Answer(b"a", lacking=1)
    with pytest.raises(requests.RequestException):
        cache.get("/files/a.whl")
    upstream.content["files.test/a.whl"] = Answer(b"a")
    assert cache.get("/files/a.whl").content == b"a"


NOT_FOR_ANYBODY = (
    ("GET http://other.test:{port}/simple/other/", {404}),
    ("GET //other.test:{port}/", {404}),
    ("GET /other.test:{port}/", {404}),
    ("GET /pypi/simple/", {404}),
    ("GET /pypi/other.test/", {404}),
    ("GET /pypi/simple/../../secret", {404}),
    ("GET /files/%2e%2e/%2e%2e/secret", {400}),
    ("GET /crates/dl/itoa/1.0/../../../../secret", {404}),
    ("GET /crates/dl/itoa/1.0/owners", {404}),
    ("CONNECT other.test:{port}", {400, 405}),
    ("POST /pypi/simple/other/", {405}),
    ("PUT /crates/index/it/oa/itoa", {405}),
    ("DELETE /files/a.whl", {405}),
)


def test_no_open_proxy(cache: Cache, upstream: Upstream) -> None:
    host = f"other.test:{upstream.port}"
    for line, statuses in NOT_FOR_ANYBODY:
        request = f"{line.format(port=upstream.port)} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert int(cache.raw(request).split()[1]) in statuses, line
    assert not upstream.asked


def test_a_request_can_not_choose_the_host(cache: Cache, upstream: Upstream) -> None:
    for path in (
        "/files//other.test/a",
        "/files/@other.test/a",
        "/files/http://other.test/a",
        "/files/a%0d%0ab",
    ):
        cache.raw(f"GET {path} HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n")
    assert {headers["host"] for headers in upstream.headers} == {f"files.test:{upstream.port}"}
    assert sum(upstream.asked.values()) == 4


def test_redirects_do_not_lead_past_the_cache(cache: Cache, upstream: Upstream) -> None:
    here, elsewhere = (
        f"http://pypi.test:{upstream.port}/root/simple/other/",
        f"http://other.test:{upstream.port}/",
    )
    upstream.content |= {
        "pypi.test/root/simple/Other/": Answer(status=301, location="/root/simple/other/"),
        "pypi.test/root/simple/OTHER/": Answer(status=308, location=here),
        "pypi.test/root/simple/leaves/": Answer(status=302, location=f"{elsewhere}root/simple/other/"),
        "files.test/a.whl": Answer(status=302, location=elsewhere),
        "crates.test/crates/a/1.0/download": Answer(status=307, location=elsewhere),
    }
    for path in ("/pypi/simple/Other/", "/pypi/simple/OTHER/", "/pypi/simple/other"):
        answer = cache.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (301, "/pypi/simple/other/")
    for path in ("/pypi/simple/leaves/", "/files/a.whl", "/crates/dl/a/1.0/download"):
        answer = cache.get(path)
        assert (answer.status_code, answer.headers.get("Location")) == (502, None)
        assert "download_cache_*_url" in answer.text
    assert not [url for url in upstream.asked if url.startswith("other.test")]
    # Such an answer is not kept.
    upstream.content["files.test/a.whl"] = Answer(b"a")
    assert cache.get("/files/a.whl").content == b"a"


@pytest.mark.parametrize("name", ["index.test", "else.test"])
def test_an_upstream_with_a_wrong_certificate_is_refused(
    cache: Cache, upstream: Upstream, tmp_path: Path, name: str
) -> None:
    # One authority that is not trusted; then one that is, for another host.
    upstream.stop()
    certificate = make_certificate(tmp_path / "certificate.pem", name)
    upstream.start(certificate)
    upstream.content["index.test/it/oa/itoa"] = Answer(b"{}", "text/plain")
    if name == "else.test":
        cache.stop()
        kept = cache.authority.read_bytes()
        cache.authority.write_bytes(certificate.read_bytes())
        cache.start()
        cache.authority.write_bytes(kept)
    assert cache.get("/crates/index/it/oa/itoa").status_code == 502
    assert not upstream.asked
