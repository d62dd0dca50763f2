from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypi_simple import IndexPage, ProjectPage

from farm.errors import InputError, PublishError, WheelError
from farm.index import IndexTree, PublishedFile, add_wheel, build_index
from farm.index.render import PAGES
from tests.unit.verify.wheelkit import NATIVE, wheel_members, write_wheel, zip_bytes

ROOT_PAGES = {f"simple/{page}" for page in PAGES}
DEMO_PAGES = {f"simple/demo/{page}" for page in PAGES} | {"pypi/demo.json"}


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    return IndexTree(tmp_path / "index", "http://127.0.0.1:8080/")


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def pages(tree: IndexTree) -> dict[str, bytes]:
    """Return all but records, which know mtimes."""
    return {name: data for name, data in snapshot(tree.root).items() if not name.startswith("records/")}


def page(tree: IndexTree, project: str) -> ProjectPage:
    html = (tree.simple / project / "index.html").read_bytes()
    return ProjectPage.from_html(project, html, f"http://h/simple/{project}/")


def test_add_and_build(tree: IndexTree, tmp_path: Path) -> None:
    file = add_wheel(tree, write_wheel(tmp_path, requires_python=">=3.9,<4"))
    assert build_index(tree) == DEMO_PAGES | ROOT_PAGES
    (package,) = page(tree, "demo").packages
    assert (package.filename, package.requires_python) == (NATIVE, ">=3.9,<4")
    assert package.url == f"http://h/packages/demo/{NATIVE}"
    assert package.digests == {"sha256": file.sha256}
    assert IndexPage.from_html((tree.simple / "index.html").read_bytes()).projects == ["demo"]
    assert stat.S_IMODE((tree.packages / "demo" / NATIVE).stat().st_mode) == 0o644
    text = (tree.simple / "demo" / "index.html").read_text()
    assert 'data-requires-python="&gt;=3.9,&lt;4"' in text
    assert f'href="../../packages/demo/{NATIVE}#' in text
    assert '<meta name="pypi:repository-version" content="1.4">' in text


def test_unchanged_pages_are_not_touched(tree: IndexTree, tmp_path: Path) -> None:
    add_wheel(tree, write_wheel(tmp_path))
    build_index(tree)
    before = {p: p.stat().st_mtime_ns for p in tree.root.rglob("*.html")}
    assert build_index(tree) == frozenset()
    assert {p: p.stat().st_mtime_ns for p in tree.root.rglob("*.html")} == before


def test_f01_pages_come_from_the_files_that_are_there(tree: IndexTree, tmp_path: Path) -> None:
    add_wheel(tree, write_wheel(tmp_path))
    build_index(tree)
    (tree.packages / "demo" / NATIVE).unlink()
    assert build_index(tree) == DEMO_PAGES | ROOT_PAGES | {f"packages/demo/{NATIVE}.metadata"}
    assert not (tree.packages / "demo").exists()
    assert not (tree.records / "demo.json").exists()
    assert not (tree.simple / "demo").exists()


@pytest.mark.parametrize("spelling", ["demo", "Demo"])
def test_f06_f24_a_published_name_never_changes_content(
    tree: IndexTree, tmp_path: Path, spelling: str
) -> None:
    add_wheel(tree, write_wheel(tmp_path))
    before = snapshot(tree.root)
    (tmp_path / "new").mkdir()
    other = write_wheel(tmp_path / "new", NATIVE.replace("demo", spelling), {"demo/__init__.py": b"x = 2\n"})
    with pytest.raises(PublishError, match="published with other content") as caught:
        add_wheel(tree, other)
    assert NATIVE.replace("demo-1.0-", f"{spelling}-1.0-1-") in caught.value.hint
    assert snapshot(tree.root) == before


def test_f06_hint_names_the_next_free_build_tag(tree: IndexTree, tmp_path: Path) -> None:
    tagged = NATIVE.replace("-1.0-", "-1.0-3-")
    for name in (NATIVE, tagged):
        add_wheel(tree, write_wheel(tmp_path, name))
    with pytest.raises(PublishError) as caught:
        add_wheel(tree, write_wheel(tmp_path, NATIVE, {"demo/__init__.py": b"x = 2\n"}))
    assert "build tag 4" in caught.value.hint
    build_index(tree)
    assert [p.filename for p in page(tree, "demo").packages] == [NATIVE, tagged]


def test_same_wheel_again_is_a_no_op(tree: IndexTree, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    first = add_wheel(tree, wheel)
    before = (tree.packages / "demo" / NATIVE).stat()
    assert add_wheel(tree, wheel) == first
    assert (tree.packages / "demo" / NATIVE).stat() == before


def test_f27_names_are_normalised(tree: IndexTree, tmp_path: Path) -> None:
    for name in ("Zope.Interface-1.0-py3-none-any.whl", "zope_interface-1.1-py3-none-any.whl"):
        assert add_wheel(tree, write_wheel(tmp_path, name)).project == "zope-interface"
    build_index(tree)
    assert tree.projects() == ["zope-interface"]
    assert len(page(tree, "zope-interface").packages) == 2
    (tree.packages / "zope-interface").rename(tree.packages / "Zope.Interface")
    with pytest.raises(PublishError, match="not a normalised"):
        build_index(tree)


def test_wheel_in_another_projects_directory(tree: IndexTree, tmp_path: Path) -> None:
    add_wheel(tree, write_wheel(tmp_path))
    (tree.packages / "demo").rename(tree.packages / "other")
    with pytest.raises(PublishError, match="is a wheel of demo"):
        build_index(tree)


def test_bad_wheels_are_refused_and_nothing_is_written(tree: IndexTree, tmp_path: Path) -> None:
    broken = tmp_path / NATIVE
    with pytest.raises(InputError):
        add_wheel(tree, broken)
    broken.write_bytes(zip_bytes(wheel_members(NATIVE))[:-30])
    with pytest.raises(WheelError, match="truncated"):
        add_wheel(tree, broken)
    with pytest.raises(WheelError, match="METADATA is of other 1"):
        add_wheel(tree, write_wheel(tmp_path, metadata="Name: other\nVersion: 1\n"))
    with pytest.raises(WheelError, match="malformed"):
        add_wheel(tree, write_wheel(tmp_path, requires_python=">>3"))
    assert not tree.root.exists()


def test_local_version_is_quoted_in_the_link(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, "demo-1!1.0+a.1-py3-none-any.whl")
    assert "/demo-1%211.0%2Ba.1-py3" in PublishedFile.from_wheel(path).href


def test_empty_index_has_pages(tree: IndexTree) -> None:
    assert build_index(tree) == ROOT_PAGES
    assert build_index(tree) == frozenset()


NOW = 1_800_000_000
WHEELS = st.lists(
    st.tuples(
        st.sampled_from(["demo", "Demo_Two", "a.b"]),
        st.sampled_from(["1.0", "1.10", "1.9", "2.0rc1"]),
        st.sampled_from(["", "1-", "10-", "2a-"]),
        st.sampled_from([None, ">=3.9", "<4,!=3.10.*"]),
    ),
    max_size=6,
    unique_by=lambda w: w[:3],
)


@settings(max_examples=40, deadline=None)
@given(WHEELS, st.data())
def test_incremental_build_equals_full_build(
    wheels: list[tuple[str, str, str, str | None]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [
            write_wheel(root, f"{name}-{version}-{build}py3-none-any.whl", requires_python=requires)
            for name, version, build, requires in wheels
        ]
        step, full = IndexTree(root / "step"), IndexTree(root / "full")
        build_index(step)
        for path in paths:
            build_index(step, [add_wheel(step, path, NOW).project])
        for path in data.draw(st.permutations(paths)):
            add_wheel(full, path, NOW)
        build_index(full)
        assert pages(step) == pages(full)
