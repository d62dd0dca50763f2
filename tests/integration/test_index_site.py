"""The index host's nginx site: what is served under which address, in which form, with which headers."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.indexkit import HTML, JSON, Site

pytestmark = pytest.mark.integration

PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
UV = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
WHEEL = "/packages/pyyaml/pyyaml-6.0-cp313-cp313-manylinux_2_39_riscv64.whl"
PAGES = ("/simple/", "/simple/pyyaml/", "/simple/merged-too/", "/ours/simple/", "/ours/simple/pyyaml/")
FALLBACK = "http://127.0.0.1:9/root/simple"


def fill(site: Site) -> None:
    for tree, project in (
        ("simple", ""),
        ("simple", "pyyaml/"),
        ("simple", "merged-too/"),
        ("merged", "merged-too/"),
    ):
        for form in ("html", "json"):
            text = f"{tree} {project or 'root'} as {form} " + "." * 600
            site.write(f"{tree}/{project}index.{form}", text, compressed=True)
    site.write("simple/acme-tools/index.html", "ours")
    site.write("simple/acme-tools/index.json", "ours")
    site.write("pypi/pyyaml.json", "{}", compressed=True)
    site.write(WHEEL[1:], b"a wheel" * 1000)
    site.write(WHEEL[1:] + ".metadata", "Name: PyYAML\n" * 100)
    site.write(WHEEL[1:] + ".provenance", "{}")
    site.write("packages/pyyaml/.pyyaml.whl.Xy1", "half a file")
    site.write("index.html", "<title>home</title>" + "." * 600)
    site.write("project/pyyaml/index.html", "about PyYAML")
    site.write("static/site.css", "a {}")
    site.write("search.json", "[]")
    site.write("provenance.pub", "keys")
    site.write("records/pyyaml.json", "secret")
    site.write("upstream/pyyaml.json", "secret")
    (site.root / "empty").mkdir()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("index"))
    fill(site)
    private = ["Acme.*", "house_keeping"]
    site.start(index_server_fallback_url=FALLBACK + "/", index_server_private_names=private)
    yield site
    site.stop()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        # As the clients send it.
        (PIP, JSON),
        (UV, JSON),
        (BROWSER, "text/html"),
        ("*/*", "text/html"),
        (None, "text/html"),
        # JSON at its most wanted.
        (JSON, JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"{JSON};q=1", JSON),
        (f"{JSON} ; q=1.000", JSON),
        (f"text/html, {JSON}", JSON),
        (f"text/html;q=1,{JSON};q=1.0", JSON),
        (JSON.upper(), JSON),
        # JSON refused.
        (f"{JSON};q=0", "text/html"),
        (f"{JSON};q=0.000, */*", "text/html"),
        (f"{JSON};charset=utf-8;q=0, text/html;q=0.5", "text/html"),
        (f"{JSON};q=0, {HTML}", HTML),
        # HTML at its most wanted.
        (f"text/html, {JSON};q=0.9", "text/html"),
        (f"{HTML}, {JSON};q=0.9", HTML),
        ("application/vnd.pypi.simple.latest+html", HTML),
        # JSON, any other q.
        (f"{JSON};q=0.1, text/html;q=0.9", JSON),
        (f"*/*, {JSON};q=0.001", JSON),
        (f"{JSON};q=0.5", JSON),
        # What else HTML can be called.
        ("text/html;q=0.2", "text/html"),
        ("text/html;charset=utf-8", "text/html"),
        (f"{HTML};q=0.2, text/html;q=0.01", "text/html"),
        (f"{HTML};q=0.2", HTML),
        ("text/*", "text/html"),
        ("application/*", HTML),
        ("image/png, */*;q=0.1", "text/html"),
        # Nothing of it.
        ("image/png", None),
        ("application/json", None),
        ("application/vnd.pypi.simple.v2+json", None),
        ("text/html;q=0", None),
        ("text/html;level=1;q=0.0", None),
        ("*/*;q=0", None),
        (f"x{JSON}", None),
        (f"{JSON}x", None),
        ("application/vnd-pypi-simple-v1+json", None),
        ("," * 2000, None),
        ("text/html;" * 300 + "q=0", None),
    ],
)
@pytest.mark.parametrize("page", PAGES)
def test_the_form_of_a_page_follows_accept(
    site: Site, page: str, accept: str | None, kind: str | None
) -> None:
    answer = site.get(page, **({} if accept is None else {"Accept": accept}))
    assert "Accept" in answer.headers["Vary"].split(", ")
    if kind is None:
        assert answer.status_code == 406
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert JSON in answer.text
        assert "Cache-Control" not in answer.headers
    else:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].removesuffix("; charset=utf-8") == kind
        assert f"as {'json' if kind == JSON else 'html'} " in answer.text
        assert answer.headers["Cache-Control"] == "public, max-age=60"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (JSON, JSON),
        (JSON.replace("+", "%2B").replace("/", "%2f"), JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (HTML, HTML),
        ("text/html", "text/html"),
        ("", "text/html"),
        ("json", None),
    ],
)
def test_a_query_may_choose_the_form(site: Site, query: str, kind: str | None) -> None:
    answer = site.get(f"/simple/pyyaml/?format={query}", Accept=BROWSER)
    assert answer.status_code == (200 if kind else 406)
    if kind:
        assert answer.headers["Content-Type"].removesuffix("; charset=utf-8") == kind


def test_json_has_no_charset_and_html_has_one(site: Site) -> None:
    assert site.get("/simple/pyyaml/", Accept=JSON).headers["Content-Type"] == JSON
    for kind in ("text/html", HTML):
        assert site.get("/simple/pyyaml/", Accept=kind).headers["Content-Type"] == f"{kind}; charset=utf-8"


def test_merged_pages_come_first_but_not_for_those_who_want_only_ours(site: Site) -> None:
    assert site.get("/simple/merged-too/").text.startswith("merged merged-too/ as html")
    assert site.get("/simple/merged-too/", Accept=JSON).text.startswith("merged merged-too/ as json")
    assert site.get("/ours/simple/merged-too/", Accept=JSON).text.startswith("simple merged-too/ as json")
    assert site.get("/simple/pyyaml/").text.startswith("simple pyyaml/ as html")
    assert site.get("/simple/").text.startswith("simple root as html")
    assert site.get("/ours/simple/").text.startswith("simple root as html")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", [JSON, "text/html"])
def test_pages_come_compressed_from_the_disk(site: Site, page: str, kind: str) -> None:
    plain = site.get(page, Accept=kind)
    assert "Content-Encoding" not in plain.headers
    packed = site.get(page, Accept=kind, Accept_Encoding="gzip, deflate")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert {"Accept", "Accept-Encoding"} == set(packed.headers["Vary"].split(", "))
    assert packed.text == plain.text
    assert int(packed.headers["Content-Length"]) == len(gzip.compress(plain.content, mtime=0))
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2


def test_a_page_is_asked_for_again_only_if_it_changed(site: Site) -> None:
    page = site.write("simple/changing/index.json", "one")
    first = site.get("/simple/changing/", Accept=JSON)
    known = {"Accept": JSON, "If_None_Match": first.headers["ETag"]}
    assert site.get("/simple/changing/", **known).status_code == 304
    page.write_text("two")
    os.utime(page, (time.time() + 5, time.time() + 5))
    assert site.get("/simple/changing/", **known).text == "two", "what was published is served at once"


@pytest.mark.parametrize("root", ["/simple", "/ours/simple"])
@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("PyYAML", "pyyaml"),
        ("pyyaml", "pyyaml"),
        ("zope.interface", "zope-interface"),
        ("a__b", "a-b"),
        ("A._-.B", "a-b"),
        ("a--b", "a-b"),
        ("Some_Name", "some-name"),
        ("_".join("ABCDEFGHIJKLMNOPQ"), "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q"),
        ("3D..x", "3d-x"),
    ],
)
def test_every_spelling_of_a_name_leads_to_the_one_page(
    site: Site, root: str, spelling: str, name: str
) -> None:
    for end in ("/", ""):
        if end == "/" and spelling == name:
            continue
        answer = site.get(f"{root}/{spelling}{end}", Accept=JSON)
        assert (answer.status_code, answer.headers["Location"]) == (301, f"{root}/{name}/")
        assert site.ask("HEAD", f"{root}/{spelling}{end}").headers["Location"] == f"{root}/{name}/"
        kept = site.get(f"{root}/{spelling}{end}?format={JSON}")
        assert kept.headers["Location"] == f"{root}/{name}/?format={JSON}"


@pytest.mark.parametrize(
    "name",
    ["_a", "a_", "-a", "a-", "a b", "a%2Fb", "ä", "A" * 60 + "!", "_".join("abcdefghijklmnopqrs"), "a$"],
)
def test_what_is_no_name_is_not_there_and_goes_nowhere(site: Site, name: str) -> None:
    for end in ("/", ""):
        line = site.raw(f"GET /simple/{name}{end} HTTP/1.0\r\n\r\n")
        assert b" 404 " in line or b" 400 " in line, line


def test_roots_end_with_a_slash(site: Site) -> None:
    for path in ("/simple", "/ours/simple"):
        answer = site.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (301, path + "/")


def test_what_is_not_hosted_is_looked_up_elsewhere(site: Site) -> None:
    for accept in (PIP, UV, "*/*", JSON):
        answer = site.get("/simple/not-ours/", Accept=accept)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{FALLBACK}/not-ours/")
        assert "Accept" in answer.headers["Vary"].split(", ")
    assert site.get("/simple/not-ours/", Accept="image/png").status_code == 406
    # Another spelling is never sent there: it could be one of a project that we have.
    assert site.get("/simple/Not_Ours/").headers["Location"] == "/simple/not-ours/"
    assert site.get("/ours/simple/not-ours/").status_code == 404


def test_private_names_are_never_looked_up_elsewhere(site: Site) -> None:
    for name in ("acme-secrets", "acme-x-y", "house-keeping"):
        assert site.get(f"/simple/{name}/", Accept=JSON).status_code == 404
    assert site.get("/simple/ACME.Secrets/").headers["Location"] == "/simple/acme-secrets/"
    assert site.get("/simple/acme-tools/").text == "ours"
    for name in ("acme", "house-keepings", "the-acme-x"):
        assert site.get(f"/simple/{name}/").status_code == 302


def test_without_a_fallback_what_is_not_hosted_is_not_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fill(site)
    site.start()
    try:
        assert site.get("/simple/not-ours/").status_code == 404
        assert site.get("/simple/pyyaml/").status_code == 200
    finally:
        site.stop()


def test_files_never_change_and_say_what_they_are(site: Site) -> None:
    for path in (WHEEL, f"/ours{WHEEL}"):
        answer = site.get(path)
        assert answer.content == b"a wheel" * 1000
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert site.get(path, Range="bytes=2-6").content == b"wheel"
        assert site.ask("HEAD", path).headers["Content-Length"] == "7000"
        metadata = site.get(path + ".metadata", Accept_Encoding="gzip")
        assert metadata.text == "Name: PyYAML\n" * 100
        assert metadata.headers["Content-Encoding"] == "gzip"
    kind = site.get(WHEEL + ".provenance").headers["Content-Type"]
    assert kind == "application/vnd.pypi.integrity.v1+json"
    missing = site.get("/packages/pyyaml/none.whl")
    assert missing.status_code == 404
    assert "Cache-Control" not in missing.headers, "it may be published in a minute"


@pytest.mark.parametrize(
    "path",
    [
        "/records/pyyaml.json",
        "/upstream/pyyaml.json",
        "/merged/merged-too/index.json",
        "/simple/pyyaml/index.json",
        "/simple/pyyaml/index.json.gz",
        "/ours/simple/pyyaml/index.html",
        "/ours/index.html",
        "/ours/records/pyyaml.json",
        "/pypi/pyyaml.json",
        "/pypi/unknown/json",
        "/packages/",
        "/packages",
        "/packages/pyyaml/",
        "/packages/pyyaml",
        "/packages/pyyaml/.pyyaml.whl.Xy1",
        "/packages/../records/pyyaml.json",
        "/packages/%2e%2e/records/pyyaml.json",
        "/simple/..%2frecords/pyyaml.json",
        "//records/pyyaml.json",
        "/.git/config",
        "/.json",
        "/.spelt",
        "/.lowered",
        "/empty/",
        "/nothing",
        "/simple/-/json",
        "/pypi/-/json",
        "/simple/x/y/",
    ],
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert b" 404 " in site.raw(f"GET {path} HTTP/1.0\r\n\r\n")


def test_pypis_json_api(site: Site) -> None:
    answer = site.get("/pypi/pyyaml/json", Accept_Encoding="gzip")
    assert (answer.text, answer.headers["Content-Type"]) == ("{}", "application/json")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert site.get("/pypi/PyYAML/json").headers["Location"] == "/pypi/pyyaml/json"
    assert site.get("/pypi/Py.YAML/json").headers["Location"] == "/pypi/py-yaml/json"


def test_pages_for_people(site: Site) -> None:
    home = site.get("/", Accept_Encoding="gzip")
    assert home.text.startswith("<title>home</title>")
    assert home.headers["Content-Encoding"] == "gzip"
    assert "Accept" not in home.headers["Vary"].split(", ")
    assert site.get("/project/pyyaml/").text == "about PyYAML"
    assert site.get("/project/pyyaml").headers["Location"] == "/project/pyyaml/"
    assert site.get("/static/site.css").headers["Content-Type"] == "text/css; charset=utf-8"
    assert site.get("/search.json").headers["Content-Type"] == "application/json"
    assert site.get("/provenance.pub").text == "keys"


@pytest.mark.parametrize("path", ["/", "/simple/", "/simple/none-such/", WHEEL, "/nothing", "/simple/PyYAML"])
def test_every_answer_is_strict(site: Site, path: str) -> None:
    headers = site.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Strict-Transport-Security" not in headers, "this is plain HTTP"
    assert headers["Server"] == "nginx"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/simple/", "/simple/pyyaml/", WHEEL, "/simple/PyYAML/", "/"])
def test_an_index_is_read_only(site: Site, method: str, path: str) -> None:
    answer = site.ask(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_head_says_what_a_get_says(site: Site) -> None:
    for path in ("/simple/pyyaml/", WHEEL, "/simple/none-such/"):
        head, get = site.ask("HEAD", path, Accept=JSON), site.get(path, Accept=JSON)
        assert head.status_code == get.status_code
        assert not head.content
        assert head.headers.get("Content-Length") == get.headers.get("Content-Length")
        assert head.headers.get("Location") == get.headers.get("Location")


def test_who_asks_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fill(site)
    site.start(index_server_requests_per_second=1, index_server_burst=3)
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: site.get("/simple/pyyaml/", Accept=JSON), range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 12 - 6 <= len(refused) <= 12 - 4
        assert {answer.headers["Retry-After"] for answer in refused} == {"5"}
        assert "127.0.0.1" not in site.nginx.log.read_text(), "no address is kept"
    finally:
        site.stop()


def test_a_host_header_of_nginxs_own_leads_nowhere_new(site: Site) -> None:
    for path in ("/simple/-/", "/", "/simple/pyyaml/", "/records/pyyaml.json"):
        line = site.raw(f"GET {path} HTTP/1.0\r\nHost: evil.lowered.invalid\r\n\r\n")
        assert b" 301 " in line if path == "/simple/-/" else b" 404 " in line
