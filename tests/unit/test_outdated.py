"""What is news of hosted projects, and which commands answer it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from farm.errors import UpstreamError
from farm.outdated import Item, News, commands, hosted_by_python, news_of, pythons_in
from farm.plan import Python
from farm.upstream import UpstreamFile
from farm.wheel_name import parse_name
from tests.unit.plankit import CP313, offered, project

CP314 = Python("cp314")


def wheel(version: str, python: str = "cp313", abi: str = "", name: str = "demo") -> str:
    return f"{name}-{version}-{python}-{abi or python}-manylinux_2_39_riscv64.whl"


def news(held: str, *files: str | UpstreamFile, python: Python = CP313) -> list[News]:
    return [item.news for item in news_of("demo", {python: Version(held)}, project(*files))]


@pytest.mark.parametrize(
    ("held", "files", "expected"),
    [
        ("1.0", ["demo-1.0.tar.gz"], []),
        ("1.0", ["demo-1.0.tar.gz", "demo-1.1.tar.gz"], [News.NEWER]),
        ("1.0", ["demo-1.0.tar.gz", "demo-1.1rc1.tar.gz"], []),
        ("1.0", ["demo-1.0.tar.gz", wheel("1.0")], [News.SHIPS]),
        ("1.0", ["demo-1.0.tar.gz", "demo-1.1.tar.gz", wheel("1.1")], [News.SHIPS]),
        ("1.0", ["demo-1.0.tar.gz", "demo-1.1.tar.gz", wheel("1.1", "cp314")], [News.NEWER]),
        ("1.0", ["demo-1.0.tar.gz", "demo-1.1-py3-none-any.whl"], [News.PURE]),
        ("1.0", ["demo-1.1.tar.gz"], [News.WITHDRAWN, News.NEWER]),
        ("1.1", ["demo-1.0.tar.gz", offered("demo-1.1.tar.gz", yanked=True)], [News.WITHDRAWN]),
        ("2.0", ["demo-1.0.tar.gz", "demo-2.0.tar.gz"], []),
    ],
)
def test_news(held: str, files: list[str | UpstreamFile], expected: list[News]) -> None:
    assert news(held, *files) == expected


def test_upstream_ships_for_one_python_only() -> None:
    hosted = {CP313: Version("1.0"), CP314: Version("1.0")}
    found = news_of("demo", hosted, project("demo-1.0.tar.gz", wheel("1.0", "cp314")))
    assert [(item.python, item.news) for item in found] == [(CP314, News.SHIPS)]


def test_a_project_that_upstream_no_longer_has() -> None:
    with pytest.raises(UpstreamError):
        news("1.0")


def test_what_is_hosted() -> None:
    names = [parse_name(wheel("1.0")), parse_name(wheel("1.10")), parse_name(wheel("1.9", "cp314"))]
    names += [parse_name(wheel("2.0", "cp39", "abi3", "stable"))]
    assert pythons_in(names) == [CP313, CP314]
    assert hosted_by_python(names, [CP313, CP314]) == {
        "demo": {CP313: Version("1.10"), CP314: Version("1.9")},
        "stable": {CP313: Version("2.0"), CP314: Version("2.0")},
    }
    assert pythons_in(names[-1:]) == [Python("cp39")]
    assert hosted_by_python(names, [Python("cp38")]) == {}


def item(news: News, python: Python = CP313, name: str = "demo") -> Item:
    return Item(name, python, Version("1.0"), Version("1.1"), news)


def test_commands() -> None:
    assert commands([item(News.NEWER), item(News.NEWER, CP314)]) == [
        "farm dispatch demo --python 3.13 --python 3.14"
    ]
    assert commands([item(News.SHIPS), item(News.PURE, CP314)]) == ["farm index status demo deprecated"]
    assert commands([item(News.SHIPS), item(News.NEWER, CP314)]) == ["farm dispatch demo --python 3.14"]
    assert commands([item(News.WITHDRAWN)]) == ["farm yank demo 1.0"]
    assert commands([]) == []


@given(
    st.lists(
        st.builds(
            item,
            st.sampled_from(News),
            st.sampled_from([CP313, CP314]),
            st.sampled_from(["demo", "other"]),
        ),
        max_size=8,
    )
)
def test_all_news_are_answered_once(items: list[Item]) -> None:
    found = commands(items)
    assert len(found) == len(set(found))
    assert {text.split()[-2 if "index" in text or "yank" in text else 2] for text in found} == {
        it.project for it in items
    }
