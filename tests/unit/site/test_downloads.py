"""What the index host counted, on the pages; and nothing where it counted nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.version import Version

from farm.errors import UpstreamError
from farm.index import IndexTree, add_wheel, build_index
from farm.site import build_site
from farm.site.downloads import RECENT, read_counted
from tests.unit.verify.wheelkit import NATIVE, write_wheel

OTHER = "other-2.0-py3-none-any.whl"


def counts(**projects: dict[str, int]) -> bytes:
    whole = sum(sum(versions.values()) for versions in projects.values())
    said = {
        "days": {"2026-11-20": 0, "2026-11-21": whole},
        "downloads": whole,
        "projects": projects,
        "pythons": {"3.13": whole} if whole else {},
        "installers": {"pip 26.3": whole} if whole else {},
        "machines": {"riscv64": whole} if whole else {},
    }
    return json.dumps(said).encode()


def counted(tree: IndexTree, data: bytes, projects: set[str] | None = None) -> frozenset[str]:
    (tree.root / RECENT).parent.mkdir(exist_ok=True)
    (tree.root / RECENT).write_bytes(data)
    return build_site(tree, projects=projects)


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    tree = IndexTree(tmp_path / "index")
    for name in (NATIVE, NATIVE.replace("-1.0-", "-1.1-"), OTHER):
        add_wheel(tree, write_wheel(tmp_path, name))
    build_index(tree)
    build_site(tree)
    return tree


def twin(tree: IndexTree, path: str) -> dict[str, object]:
    return dict(json.loads((tree.root / path / "index.json").read_bytes()))


def text(tree: IndexTree, path: str) -> str:
    return (tree.root / path / "index.html").read_text()


def test_without_counts_nothing_is_shown(tree: IndexTree) -> None:
    for path in ("", "project/demo", "project/demo/1.0"):
        assert "ownloads" not in text(tree, path)
        assert "statistics/" not in text(tree, path)
        assert twin(tree, path)["downloads"] is None
    assert not (tree.root / "statistics").exists()


def test_downloads_are_on_the_pages_and_in_their_json(tree: IndexTree) -> None:
    counted(tree, counts(demo={"1.0": 7, "1.1": 1200}, gone={"1": 5}))
    assert twin(tree, "")["downloads"] == {"count": 1212, "first": "2026-11-20", "until": "2026-11-21"}
    assert "<dd>1,212</dd>" in text(tree, "")
    page = twin(tree, "project/demo")
    assert page["downloads"] == {"count": 1207, "first": "2026-11-20", "until": "2026-11-21"}
    rows = page["rows"]
    assert isinstance(rows, list)
    assert [(row["version"], row["downloads"]) for row in rows] == [("1.1", 1200), ("1.0", 7)]
    assert '<td class="number">1,200</td>' in text(tree, "project/demo/1.0")
    # Of what nobody downloaded, no page says 0.
    assert twin(tree, "project/other")["downloads"] is None
    assert "Downloads" not in text(tree, "project/other")
    statistics = twin(tree, "statistics")
    assert statistics["days"] == [
        {"day": "2026-11-20", "downloads": 0, "share": 0.0},
        {"day": "2026-11-21", "downloads": 1212, "share": 1.0},
    ]
    assert statistics["projects"] == [
        {"project": "demo", "path": "project/demo/", "downloads": 1207, "share": 0.9959},
        {"project": "gone", "path": "", "downloads": 5, "share": 0.0041},
    ]
    assert statistics["pythons"] == [{"name": "3.13", "downloads": 1212, "share": 1.0}]
    assert "pip 26.3" in text(tree, "statistics")


def test_only_what_has_other_numbers_is_made_anew_and_it_equals_a_full_build(tree: IndexTree) -> None:
    counted(tree, counts(demo={"1.0": 7}))
    changed = counted(tree, counts(demo={"1.0": 8}), projects=set())
    assert {"index.html", "statistics/index.html", "project/demo/index.html"} <= changed
    assert not [path for path in changed if path.startswith("project/other/")]
    assert build_site(tree) == frozenset()


def test_where_nothing_is_counted_any_more_the_pages_forget_it(tree: IndexTree) -> None:
    before = text(tree, "project/demo")
    counted(tree, counts(demo={"1.0": 7}))
    (tree.root / RECENT).unlink()
    changed = build_site(tree, projects=set())
    assert {"statistics/index.html", "statistics/index.json"} <= changed, "what is gone is told"
    assert text(tree, "project/demo") == before
    # The folder stays: what is sent to the index host are folders, with all that they lack.
    assert not list((tree.root / "statistics").iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        counts().replace(b"2026-11-21", b"yesterday"),
        counts(demo={"1.0": -1}),
        counts().replace(b'"2026-11-20": 0, "2026-11-21": 0', b""),
    ],
)
def test_what_makes_no_sense_is_told_by_who_reads_it_and_stops_no_page(tree: IndexTree, data: bytes) -> None:
    with pytest.raises(UpstreamError, match=r"recent\.json: no counts of downloads") as caught:
        read_counted(data, "http://index.test/stats/recent.json")
    assert "farm provision" in caught.value.hint
    assert counted(tree, data) == frozenset()


def test_spellings_of_a_version_are_one() -> None:
    found = read_counted(counts(demo={"1.0": 1, "1.0.0": 2, "1!1": 4, "<b>": 8}), "it").by_version("demo")
    assert found == {Version("1.0"): 3, Version("1!1"): 4}
