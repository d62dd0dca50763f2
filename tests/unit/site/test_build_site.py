"""Pages as files: what is written, what is left alone, and that strangers' texts stay texts."""

from __future__ import annotations

import json
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.index import IndexTree, add_wheel, build_index
from farm.paths import Paths
from farm.site import build_site
from farm.store import Failure, Store
from tests.integration.sitekit import Site, make_site
from tests.integration.siteprojects import PROJECTS
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import NATIVE, write_wheel

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = make_site(tmp_path_factory.mktemp("farm"))
    build_site(made.tree, made.store, made.paths, made.nodes)
    return made


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def mine(root: Path) -> dict[str, bytes]:
    """Return the pages of the site, and not those of the index."""
    parts = {
        "project",
        "build",
        "boards",
        "status",
        "statistics",
        "static",
        "index.html",
        "index.json",
        "search.json",
    }
    return {path: data for path, data in snapshot(root).items() if path.split("/")[0] in parts | {"feed.xml"}}


class Tags(HTMLParser):
    """All start tags of a page, with their attributes, and whether each is closed."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_page_is_well_formed_and_its_links_lead_somewhere(site: Site) -> None:
    """Elements nest, ids are unique, links lead to files of the tree, nothing is inline or elsewhere."""
    pages = {path: data.decode() for path, data in mine(site.tree.root).items() if path.endswith(".html")}
    assert len(pages) > 100
    tags = {path: Tags(text) for path, text in pages.items()}
    ids = {path: [a["id"] for _, a in page.found if "id" in a] for path, page in tags.items()}
    for path, page in tags.items():
        assert page.open == []
        assert len(ids[path]) == len(set(ids[path])), path
        for tag, attributes in page.found:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], path
            assert tag not in {"style", "iframe", "object", "img", "base"}
            for target in filter(None, (attributes.get("href"), attributes.get("src"))):
                where = urlsplit(urljoin(f"https://here.test/{path}", target))
                if where.netloc != "here.test":
                    assert tag == "a"
                    assert where.scheme == "https"
                    continue
                file = unquote(where.path).lstrip("/")
                file += "index.html" if file.endswith("/") or not file else ""
                assert (site.tree.root / file).is_file(), f"{path}: {target}"
                if where.fragment and file in ids:
                    assert unquote(where.fragment) in ids[file], f"{path}: {target}"


def test_every_page_has_its_twin(site: Site) -> None:
    for path, data in mine(site.tree.root).items():
        if path.endswith("index.html"):
            assert b'<link rel="alternate" type="application/json"' in data
            twin = json.loads((site.tree.root / path).with_name("index.json").read_bytes())
            # Only pages of which there are many say where they are.
            expected = path.removesuffix("index.html") if path.count("/") > 1 else ""
            assert unquote(twin.get("path", "")) == expected, path


def test_nothing_is_written_twice_or_made_anew(site: Site, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in site.tree.root.rglob("*")}
    assert build_site(site.tree, site.store, site.paths, site.nodes) == frozenset()
    assert {path: path.stat().st_mtime_ns for path in site.tree.root.rglob("*")} == before
    copy = IndexTree(tmp_path / "copy", site.tree.base_url)
    shutil.copytree(site.tree.root, copy.root)
    for path in mine(copy.root):
        (copy.root / path).unlink()
    build_site(copy, site.store, site.paths, site.nodes)
    assert mine(copy.root) == mine(site.tree.root)


def test_strangers_texts_are_texts(site: Site) -> None:
    root = site.tree.root
    pages = ["index.html", "project/hostile/index.html", "status/index.html", "feed.xml"]
    pages += [path for path in mine(root) if path.startswith("build/hostile") and path.endswith(".html")]
    for path in pages:
        text = (root / path).read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text, path
        assert "\u202e" not in text
    project = (root / "project/hostile/index.html").read_text()
    assert "javascript:" not in project
    assert "data:text" not in project
    assert 'href="https://example.org/fine"' in project


def test_what_a_reader_wants_to_know_of_a_wheel(site: Site) -> None:
    page = (site.tree.root / "project/pyyaml/index.html").read_text()
    for words in (
        "RECORD matches",
        "libyaml-0.so.2",
        "Expat",
        "GCC 14.2.0",
        "pyyaml-6.0.3.tar.gz",
        "libyaml-dev",
    ):
        assert words in page, words
    assert "Debian GNU/Linux 13" in page
    lxml = (site.tree.root / "project/lxml/index.html").read_text()
    assert "yanked" in lxml
    assert (
        "Upstream ships riscv64 wheels now." in (site.tree.root / "project/greenlet/index.html").read_text()
    )
    assert "libraqm.so.0" in (site.tree.root / "project/pillow/index.html").read_text()
    assert "newest is 2.4.1" in (site.tree.root / "project/numpy/index.html").read_text()


def test_a_wheels_proof_is_a_click_away(site: Site) -> None:
    wheels = json.loads((site.tree.root / "project/pyyaml/index.json").read_bytes())["wheels"]
    assert len(wheels) == 4
    for wheel in wheels:
        assert wheel["proof"] == f"{wheel['build']}proof.txt"
        assert "QEMU_CPU=sifive-u54" in (site.tree.root / wheel["proof"]).read_text()
        assert f'href="../../{wheel["proof"]}"' in (site.tree.root / "project/pyyaml/index.html").read_text()
        assert 'href="proof.txt"' in (site.tree.root / wheel["build"] / "index.html").read_text()


def test_logs_that_are_not_published_go_and_may_come_back(site: Site, tmp_path: Path) -> None:
    """The switch reaches what was published long ago, in pages as in files, by any publication."""
    copy = IndexTree(tmp_path / "copy", site.tree.base_url)
    shutil.copytree(site.tree.root, copy.root)
    (copy.root / "build/unknown-1.1").mkdir()
    (copy.root / "build/unknown-1.1/log.txt").write_text("of a store that is lost")
    changed = build_site(copy, site.store, site.paths, site.nodes, projects=(), logs=False)
    assert "build/unknown-1.1/log.txt" in changed
    pages = mine(copy.root)
    assert not [path for path in pages if path.endswith(".txt")]
    assert not [path for path, data in pages.items() if b"Building wheel" in data or b"QEMU_CPU" in data]
    assert not [path for path, data in pages.items() if b"proof.txt" in data or b"log.txt" in data]
    failed = next((copy.root / "build").glob("pymssql*"))
    assert "does not publish its logs" in (failed / "index.html").read_text()
    assert json.loads((failed / "index.json").read_bytes())["logs_withheld"] is True
    assert "sqlfront.h" in (copy.root / "status/index.html").read_text(), "why it failed is no log"
    assert build_site(copy, site.store, site.paths, site.nodes, logs=False) == frozenset()
    build_site(copy, site.store, site.paths, site.nodes, projects=())
    assert mine(copy.root) == mine(site.tree.root)


def test_published_logs_outlive_the_controllers(site: Site, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.logs.mkdir()
    copy = IndexTree(tmp_path / "copy", site.tree.base_url)
    shutil.copytree(site.tree.root, copy.root)
    changed = build_site(copy, site.store, paths, site.nodes)
    assert not [path for path in changed if path.startswith(("build/", "project/"))]


def test_what_failed_is_told_with_its_class(site: Site) -> None:
    status = json.loads((site.tree.root / "status/index.json").read_bytes())
    assert {count["name"]: count["count"] for count in status["failure_classes"]} == dict.fromkeys(
        ("build", "timeout", "dependency", "memory", "isa", "test"), 1
    )
    assert [row["project"] for row in status["queue"]] == ["matplotlib", "pandas", "scipy", "torch"]
    assert status["kept_out"][0]["node"] == "bpi-f3-2"
    boards = json.loads((site.tree.root / "boards/index.json").read_bytes())
    assert [board["model"] for board in boards["boards"]] == [
        "BananaPi F3",
        "BananaPi F3",
        "SOPHGO SG2044 EVB",
    ]
    assert sum(board["failed"] for board in boards["boards"]) == 7


def test_the_feed_is_atom(site: Site) -> None:
    feed = ET.fromstring((site.tree.root / "feed.xml").read_text())  # noqa: S314  # our own
    entries = feed.findall(f"{ATOM}entry")
    ids = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert len(entries) == len(set(ids)) == 15
    updated = [entry.findtext(f"{ATOM}updated") or "" for entry in entries]
    assert updated == sorted(updated, reverse=True)
    assert feed.findtext(f"{ATOM}updated") == updated[0]
    for entry in entries:
        link = entry.find(f"{ATOM}link")
        assert link is not None
        path = unquote(link.attrib["href"].removeprefix(site.tree.base_url))
        assert (site.tree.root / path / "index.html").is_file()


def test_the_search_knows_all(site: Site) -> None:
    found = json.loads((site.tree.root / "search.json").read_bytes())["projects"]
    assert [project["name"] for project in found] == sorted(made.name for made in PROJECTS)
    assert all((site.tree.root / project["path"] / "index.html").is_file() for project in found)


# -- a tree alone, and its changes ------------------------------------------------------------------------


def pages_of(tree: IndexTree, store: Store | None = None, projects: set[str] | None = None) -> frozenset[str]:
    build_index(tree, projects)
    return build_site(tree, store, projects=projects)


def test_a_tree_alone_has_pages(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, write_wheel(tmp_path))
    changed = pages_of(tree)
    assert {"index.html", "index.json", "search.json", "feed.xml", "project/demo/index.html"} <= changed
    assert not (tree.root / "boards").exists()
    assert 'href="boards/"' not in (tree.root / "index.html").read_text()
    assert "NAME" in (tree.root / "index.html").read_text()


def test_the_proof_of_a_wheel_that_no_job_built(tmp_path: Path) -> None:
    tree, paths = IndexTree(tmp_path / "index"), Paths(tmp_path)
    paths.logs.mkdir()
    paths.proof(NATIVE).write_text("$ QEMU_CPU=sifive-u54 \x1b[1mpython\n")
    paths.proof("refused-1.0-py3-none-any.whl").write_text("it was never published")
    add_wheel(tree, write_wheel(tmp_path))
    build_index(tree)
    changed = build_site(tree, None, paths)
    assert [path for path in changed if path.startswith("proof/")] == [f"proof/{NATIVE}.txt"]
    assert (tree.root / f"proof/{NATIVE}.txt").read_text() == "$ QEMU_CPU=sifive-u54 python\n"
    page = tree.root / "project/demo/index.html"
    assert f'href="../../proof/{NATIVE}.txt"' in page.read_text()
    # The pages alone (`farm index build`) leave it as it is; the switch takes it back.
    assert build_site(tree) == frozenset()
    changed = build_site(tree, None, paths, projects=(), logs=False)
    assert {f"proof/{NATIVE}.txt", "project/demo/index.html"} <= changed
    assert "proof/" not in page.read_text()


def test_an_empty_tree_has_a_home_page(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    pages_of(tree)
    assert "Nothing has been published yet" in (tree.root / "index.html").read_text()
    ET.fromstring((tree.root / "feed.xml").read_text())  # noqa: S314  # our own


def test_a_project_or_version_that_goes_is_gone(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    for name in (NATIVE, NATIVE.replace("1.0", "2.0"), "other-1-py3-none-any.whl"):
        add_wheel(tree, write_wheel(tmp_path, name))
    pages_of(tree)
    (tree.packages / "demo" / NATIVE).unlink()
    assert "project/demo/1.0/index.html" in pages_of(tree, projects={"demo"})
    assert not (tree.root / "project/demo/1.0").exists()
    shutil.rmtree(tree.packages / "demo")
    assert "project/demo/index.json" in pages_of(tree, projects={"demo"})
    assert not (tree.root / "project/demo").exists()
    assert "demo" not in (tree.root / "index.html").read_text()


def test_damage_beside_a_wheel_is_shown_on_its_page(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, write_wheel(tmp_path))
    for suffix in (".verdicts.json", ".provenance", ".cdx.json"):
        (tree.packages / "demo" / f"{NATIVE}{suffix}").write_bytes(b"\xff<b>")
    pages_of(tree)
    page = (tree.root / "project/demo/index.html").read_text()
    assert "Its provenance does not hold" in page
    assert "Its verdicts can" in page
    assert "Its bill of materials can" in page
    assert "every gate passed" not in page


def test_a_damaged_home_page_makes_everything_anew(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, write_wheel(tmp_path))
    pages_of(tree)
    whole = mine(tree.root)
    (tree.root / "index.json").write_text('{"projects": 7}')
    pages_of(tree, projects=set())
    assert mine(tree.root) == whole


def test_a_failure_of_a_project_that_was_not_named_shows(tmp_path: Path) -> None:
    """What failed is published by nobody: the store alone knows of it."""
    tree, store = IndexTree(tmp_path / "index"), Store(tmp_path / "farm.sqlite")
    add_wheel(tree, write_wheel(tmp_path))
    pages_of(tree, store)
    job = store.enqueue(spec("demo", "2.0"))
    store.lease(job.job_id, "f3", 4)
    store.fail(job.job_id, Failure.BUILD, "no such header")
    changed = pages_of(tree, store, projects=set())
    assert {"project/demo/index.html", "status/index.html", f"build/{job.job_id}.1/index.html"} <= changed
    assert "no such header" in (tree.root / "status/index.html").read_text()
    store.close()


WHEELS = st.lists(
    st.tuples(st.sampled_from(["demo", "a.b"]), st.sampled_from(["1.0", "1.10", "2.0rc1", "1!1.0+a"])),
    max_size=5,
    unique=True,
)


@settings(max_examples=10)
@given(WHEELS, st.data())
def test_incremental_equals_full(wheels: list[tuple[str, str]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        step, full = IndexTree(folder / "step"), IndexTree(folder / "full")
        pages_of(step)
        made = [write_wheel(folder, f"{name}-{version}-py3-none-any.whl") for name, version in wheels]
        for at, wheel in enumerate(made):  # by a clock of our own: the pages tell when each was published
            pages_of(step, projects={add_wheel(step, wheel, now=float(at)).project})
        gone = data.draw(st.sampled_from([None, *wheels]))
        if gone is not None:
            victim = next(step.packages.rglob(f"{gone[0]}-{gone[1]}-*.whl"))
            victim.unlink()
            pages_of(step, projects={gone[0]})
        for at, (wheel, which) in enumerate(zip(made, wheels, strict=True)):
            if which != gone:
                add_wheel(full, wheel, now=float(at))
        pages_of(full)
        assert mine(step.root) == mine(full.root)
