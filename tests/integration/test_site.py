"""The web pages in a real browser: what a reader sees, with mouse or keyboard, with and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from farm.index import IndexTree, build_index
from farm.site import build_site
from tests.integration.browserkit import Watched, chromium, served
from tests.integration.sitekit import Site, make_site
from tests.integration.siteprojects import PROJECTS

pytestmark = pytest.mark.integration

PHONE, DESK = 360, 1440


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = make_site(tmp_path_factory.mktemp("farm"))
    build_site(made.tree, made.store, made.paths, made.nodes)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def base(site: Site) -> Iterator[str]:
    with served(site.tree.root) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def watched(browser: Browser, base: str) -> Iterator[Watched]:
    page = browser.new_page(viewport={"width": DESK, "height": 900})
    watched = Watched.of(page, base)
    yield watched
    page.close()
    assert watched.faults == []


def pages(root: Path) -> list[str]:
    """One page of each kind, and those whose content is out of the ordinary."""
    failed = next(path.name for path in (root / "build").iterdir() if path.name.startswith("pymssql"))
    hostile = next(path.name for path in (root / "build").iterdir() if path.name.startswith("hostile-1.0"))
    return [
        "",
        "project/numpy/",
        "project/lxml/6.1.2/",
        "project/hostile/",
        "project/opentelemetry-instrumentation-system-metrics-native-collector/",
        f"build/{failed}/",
        f"build/{hostile}/",
        "boards/",
        "status/",
        "statistics/",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_sound_in_every_form(browser: Browser, base: str, site: Site, scheme: str) -> None:
    """No error, no violation of the CSP, no request elsewhere, nothing wider than the window, axe content."""
    # The width only changes the layout, so axe looks once at each: contrast in both schemes.
    looked = {"light": DESK, "dark": PHONE}[scheme]
    page = browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
    watched = Watched.of(page, base)
    for path in pages(site.tree.root):
        watched.open(path)
        page.evaluate("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")
        for width in (PHONE, DESK):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            if width == looked:
                assert watched.axe() == [], path
    page.close()
    assert watched.faults == []


def test_axe_would_find_what_is_wrong(browser: Browser, base: str) -> None:
    """The test above is worth something only if it can fail."""
    page = browser.new_page()
    watched = Watched.of(page, base)
    watched.open("")
    page.evaluate("document.querySelector('#search').previousElementSibling.remove()")
    page.evaluate("document.querySelector('#search').removeAttribute('placeholder')")
    assert "label" in {fault.partition(":")[0] for fault in watched.axe()}
    page.close()


def test_the_two_schemes_differ_by_the_readers_wish_alone(browser: Browser, base: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
        page.goto(base)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    brightness = [sum(map(int, re.findall(r"\d+", ground)[:3])) for ground in grounds]
    assert brightness[0] > 600
    assert brightness[1] < 150


def shown(page: Page) -> list[str]:
    return [link.inner_text() for link in page.locator("#list tr:not([hidden]) th a").all()]


def test_search_by_the_keyboard_alone(watched: Watched) -> None:
    page = watched.open("")
    assert len(shown(page)) == len(PROJECTS)
    page.keyboard.press("/")
    page.keyboard.type("zope.int")
    assert shown(page) == ["zope-interface"]
    expect(page.get_by_role("search").get_by_role("status")).to_have_text(f"1 of {len(PROJECTS)} projects")
    page.keyboard.press("Escape")
    assert len(shown(page)) == len(PROJECTS)
    page.keyboard.type("xml")
    # What is called so comes before what is said to be so.
    assert shown(page) == ["lxml", "markupsafe"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="markupsafe", exact=True).last).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/project/lxml/")
    expect(page.get_by_role("heading", level=1)).to_have_text("lxml 6.1.3")


def test_a_search_that_finds_nothing_says_so(watched: Watched) -> None:
    page = watched.open("")
    page.get_by_role("searchbox").fill("<img src=x onerror=alert(2)>")
    expect(page.get_by_role("search").get_by_role("status")).to_have_text("1 of 12 projects")
    page.get_by_role("searchbox").fill("nothing of that name")
    expect(page.get_by_role("search").get_by_role("status")).to_have_text("0 of 12 projects")
    page.keyboard.press("Enter")
    assert page.url == watched.base


def test_lines_are_copied(browser: Browser, base: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    watched = Watched.of(page, base)
    watched.open("")
    page.get_by_role("button", name="Copy the lines for pip, always").click()
    expect(page.get_by_role("button", name="Copied the lines for pip, always")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "[global]\nindex-url = https://wheels.example.org/simple/"
    context.close()
    assert watched.faults == []


def test_everything_is_there_without_scripts(browser: Browser, base: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    watched = Watched.of(page, base)
    watched.page.goto(base)
    assert [row.name for row in sorted(PROJECTS, key=lambda made: made.name)] == shown(page)
    expect(page.get_by_role("searchbox")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
    page.get_by_role("link", name="pyyaml", exact=True).last.click()
    page.get_by_text("gates: what was checked").first.click()
    expect(page.get_by_text("CRCs match").first).to_be_visible()
    page.get_by_role("link", name="build", exact=True).first.click()
    expect(page.get_by_role("heading", level=2, name="Log")).to_be_visible()
    context.close()
    assert watched.faults == []


def test_an_index_that_does_not_know_its_address_takes_the_browsers(browser: Browser, tmp_path: Path) -> None:
    made = make_bare(tmp_path)
    with served(made) as base:
        page = browser.new_page()
        watched = Watched.of(page, base)
        watched.open("")
        expect(page.locator("#pip-1")).to_contain_text(f"--index-url {base}simple/ NAME")
        page.close()
    assert watched.faults == []


def make_bare(folder: Path) -> Path:
    tree = IndexTree(folder / "index")
    build_index(tree)
    build_site(tree)
    return tree.root


def test_the_keyboard_reaches_the_content_first(watched: Watched) -> None:
    page = watched.open("project/numpy/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["y"] >= 0  # type: ignore[index]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_a_screen_reader_finds_its_way(watched: Watched) -> None:
    page = watched.open("project/lxml/6.1.2/")
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("navigation", name="Site")).to_be_visible()
    assert page.locator("table th:not([scope])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    row = page.get_by_role("row", name="6.1.2").first
    expect(row.get_by_role("cell").first).to_have_text("yanked")


def test_it_prints_what_a_reader_of_paper_needs(watched: Watched) -> None:
    page = watched.open("project/pyyaml/")
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation", name="Site")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    # What is folded away on a screen can't be unfolded on paper.
    assert page.locator("details table").first.bounding_box()["height"] > 100  # type: ignore[index]


def test_strangers_texts_do_nothing(watched: Watched, site: Site) -> None:
    """What a hostile project says is shown as text; Watched fails at a dialog, a request or an error."""
    for path in ("", "project/hostile/", *(p for p in pages(site.tree.root) if p.startswith("build/host"))):
        page = watched.open(path)
        assert page.locator("script:not([src]), img, iframe, [onerror], [style]").count() == 0
        links = [link.get_attribute("href") or "" for link in page.locator("a").all()]
        assert [link for link in links if re.match(r"(?i)\s*(javascript|data|vbscript):", link)] == []
    expect(page.locator("pre.log")).to_contain_text("<script>alert(1)</script>")
