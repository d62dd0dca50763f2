from __future__ import annotations

from pathlib import Path

import pytest

from farm.node.failure import StepError
from farm.node.farm_index import FarmIndex, Link, NoAnswerError, read_links

URL = "http://192.0.2.30/simple/"


def anchor(name: str, sha256: str = "ab", **attributes: str) -> str:
    text = "".join(f' data-{key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f'<a href="../../packages/x/{name}#sha256={sha256}"{text}>{name}</a><br>\n'


class Pages:
    """An index without a network; a number is an HTTP status, 0 no answer at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **pages: str | int) -> None:
        self.pages: dict[str, str | int] = {URL: 404}
        self.asked: list[str] = []
        self.said: list[str] = []
        for name, content in pages.items():
            self.pages[f"{URL}{name}/" if name != "root" else URL] = content
        monkeypatch.setattr(FarmIndex, "_links", lambda _, url: self.links(url))

    def links(self, url: str) -> list[Link]:
        self.asked.append(url.removeprefix(URL))
        content = self.pages.get(url, 404)
        if isinstance(content, int):
            raise NoAnswerError(f"HTTP {content}", content or None)
        return read_links(content, url)

    def index(self, directory: Path, url: str = URL) -> FarmIndex:
        return FarmIndex(url, directory / "view", self.said.append)


def listed(*names: str) -> str:
    return "".join(f'<a href="{name}/">{name}</a>' for name in names)


def test_anchors_become_absolute_and_stay_what_they_say() -> None:
    text = (
        '<!DOCTYPE html><body>text <a href="../../packages/x/x-1%2B2.whl#sha256=ab" '
        'data-requires-python="&gt;=3.9,&lt;4" data-core-metadata>\n x-1+2.whl </a></body>'
    )
    (link,) = read_links(text, f"{URL}x/")
    assert (link.text, link.sha256) == ("x-1+2.whl", "ab")
    (again,) = read_links(link.to_html(), "http://elsewhere.test/")
    assert (again.text, again.url, again.attributes) == (
        link.text,
        link.url,
        {**link.attributes, "href": link.url},
    )
    assert link.url == "http://192.0.2.30/packages/x/x-1%2B2.whl#sha256=ab"
    assert link.attributes == {
        "href": "../../packages/x/x-1%2B2.whl#sha256=ab",
        "data-requires-python": ">=3.9,<4",
        "data-core-metadata": None,
    }


@pytest.mark.parametrize(
    "tag", ['<a href="x.whl">', "<A HREF='x.whl'>", '<a data-x="a > b" href = "x.whl">', '<a\nhref="x.whl" >']
)
def test_anchors_may_be_written_in_many_ways(tag: str) -> None:
    assert [link.url for link in read_links(f"<abbr>{tag}x.whl</a>", URL)] == [f"{URL}x.whl"]


def test_the_view_has_what_this_python_can_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (
        anchor("x-1.0-py3-none-any.whl", "aa", requires_python="&gt;=3.9")
        + anchor("x-2.0-py3-none-any.whl", "bb", requires_python="&gt;=3.99")
        + anchor("x-3.0-cp39-cp39-linux_riscv64.whl", "cc")
        + anchor("x-3.1-cp39.cp38-none-any.whl", "c1")
        + anchor("x-4.0-py3-none-any.whl", "dd", yanked="it crashes")
        + anchor("x-5.0.tar.gz", "ee")
        + anchor("x-6.0-py3-none-any.whl", "ff", requires_python="three")
    )
    pages = Pages(monkeypatch, root=listed("x", "y"), x=page, y=anchor("y-1.0-cp39-cp39-linux_riscv64.whl"))
    index = pages.index(tmp_path)
    view = tmp_path / "view"
    assert index.variables() == {"UV_INDEX": view.as_uri(), "UV_INDEX_STRATEGY": "unsafe-first-match"}
    index.read_all()
    assert [path.name for path in view.iterdir()] == ["x"], "without a page, uv looks elsewhere for y"
    (link,) = read_links((view / "x/index.html").read_text(), "http://elsewhere.test/")
    assert link.url == "http://192.0.2.30/packages/x/x-1.0-py3-none-any.whl#sha256=aa"
    lock = tmp_path / "lock.txt"
    lock.write_text("x==1.0 \\\n    --hash=sha256:aa\nz==1.0 \\\n    --hash=sha256:cc\n")
    assert index.taken(lock) == ["x-1.0-py3-none-any.whl"]


def test_the_state_is_that_of_the_projects_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = listed("x", "y")
    pages = Pages(monkeypatch, root=root, x=anchor("x-1.0-py3-none-any.whl"))
    before = pages.index(tmp_path).state(["x", "setuptools"])
    assert set(before) == {"x"}
    assert pages.asked == ["", "x/"], "one page for each project of the farm, none for others"
    pages.pages[f"{URL}y/"] = anchor("y-1.0-py3-none-any.whl")
    assert pages.index(tmp_path).state(["x"]) == before
    pages.pages[f"{URL}x/"] = anchor("x-1.0-py3-none-any.whl", "cd")
    assert pages.index(tmp_path).state(["x"]) != before
    pages.pages[f"{URL}x/"] = 302
    assert pages.index(tmp_path).state(["x"]) == {}


def test_what_is_no_longer_listed_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(monkeypatch, root=listed("x"), x=anchor("x-1.0-py3-none-any.whl"))
    for expected in (["x"], []):
        index = pages.index(tmp_path)
        index.variables()
        index.read_all()
        assert [path.name for path in (tmp_path / "view").iterdir()] == expected
        pages.pages[URL] = listed()


@pytest.mark.parametrize(
    ("answer", "why"), [(404, "has nothing yet"), (302, "has nothing yet"), (0, "answer")]
)
def test_an_index_that_is_not_there_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, why: str
) -> None:
    pages = Pages(monkeypatch, root=answer)
    index = pages.index(tmp_path)
    assert (index.url, index.variables(), index.state(["x"])) == ("", {}, {})
    index.read_all()
    (said,) = pages.said
    assert why in said
    assert not list(tmp_path.iterdir())


def test_no_address_is_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(monkeypatch)
    assert pages.index(tmp_path, "").variables() == {}
    assert (pages.asked, pages.said) == ([], [])


def test_an_index_lost_on_the_way_is_the_node_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(monkeypatch, root=listed("x"), x=500)
    with pytest.raises(StepError) as caught:
        pages.index(tmp_path).state(["x"])
    assert caught.value.failure == "node"


def test_a_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(monkeypatch, root=listed("..", "a/b", "Name", ".hidden", "", "x"))
    index = pages.index(tmp_path)
    index.variables()
    index.read_all()
    assert pages.asked == ["", "x/"]


def test_the_tags_are_those_of_the_python_that_is_built_for(tmp_path: Path) -> None:
    other = FarmIndex("", tmp_path, print, "3.9.2")
    assert other._fits(["cp39", "cp39", "linux_x86_64"]) or other._fits(["cp39", "none", "any"])
    assert other._fits(["py3", "none", "any"])
    assert not other._fits(["cp313", "cp313", "any"])
    assert other._accepts(">=3.9,<3.10")
    assert not other._accepts(">=3.10")
