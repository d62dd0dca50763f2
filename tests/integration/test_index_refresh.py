"""Merged pages: what upstream offers besides our wheels, with a second index of ours as PyPI's stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.index import build_index
from farm.index.refresh import Refreshed, refresh, upstream_pages, write_merged
from farm.index.upstream_pages import Answer
from tests.integration.indexkit import JSON, Site
from tests.integration.nginxkit import REPOSITORY

pytestmark = pytest.mark.integration
OURS = "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
THEIRS = "demo-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"
NEWER = "demo-1.1-py3-none-any.whl"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    pypi = Site(tmp_path_factory.mktemp("pypi"))
    ours = Site(tmp_path_factory.mktemp("ours"))
    pypi.start()
    ours.start(index_server_fallback_url=pypi.simple)
    yield ours, pypi
    ours.stop()
    pypi.stop()


@pytest.fixture
def sites(servers: tuple[Site, Site]) -> tuple[Site, Site]:
    """An index host and upstream: both have demo, each something of its own."""
    for site in servers:
        site.clear()
    ours, pypi = servers
    ours.publish(OURS, "own-1.0-py3-none-any.whl")
    pypi.publish(OURS, THEIRS, NEWER, "elsewhere-1.0-py3-none-any.whl")
    return servers


def run(sites: tuple[Site, Site], *projects: str, private: tuple[str, ...] = ()) -> Refreshed:
    ours, pypi = sites
    return refresh(ours.tree, pypi.simple, projects or None, private)


def listed(site: Site, root: str = "/simple/", project: str = "demo") -> dict[str, str]:
    """Return the files that a page lists, and where they are."""
    page = site.get(f"{root}{project}/", Accept=JSON)
    assert page.status_code == 200, page.text
    return {file["filename"]: file["url"] for file in page.json()["files"]}


def test_a_hosted_project_keeps_what_upstream_has_of_it(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    assert listed(ours).keys() == {OURS}
    done = run(sites)
    assert {asked.project: asked.answer for asked in done.asked} == {"demo": Answer.NEW, "own": Answer.SAME}
    assert done.changed == {f"merged/demo/{name}" for name in ("index.html", "index.json", "index.json.gz")}
    files = listed(ours)
    assert files.keys() == {OURS, THEIRS, NEWER}
    assert files[OURS] == f"../../packages/demo/{OURS}", "ours is the one"
    assert files[THEIRS] == f"{pypi.url}/packages/demo/{THEIRS}"
    assert listed(ours, "/ours/simple/").keys() == {OURS}
    assert listed(ours, project="own").keys() == {"own-1.0-py3-none-any.whl"}
    html = ours.get("/simple/demo/").text
    assert f'href="{pypi.url}/packages/demo/{THEIRS}#sha256=' in html
    assert 'data-requires-python="&gt;=3.9"' in html
    assert ours.get("/simple/elsewhere/").status_code == 302


def test_what_did_not_change_is_neither_sent_nor_written(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    run(sites)
    before = {path: path.stat().st_mtime_ns for path in ours.root.rglob("*") if path.is_file()}
    mark = pypi.mark()
    done = run(sites)
    assert {asked.answer for asked in done.asked} == {Answer.SAME}
    assert not done.changed
    assert {path: path.stat().st_mtime_ns for path in ours.root.rglob("*") if path.is_file()} == before
    assert {(line.uri, line.status) for line in pypi.lines(mark)} == {
        ("/simple/own/", 404),
        ("/simple/demo/", 304),
    }


def test_what_upstream_adds_and_removes_is_followed(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    run(sites)
    pypi.publish("demo-2.0-py3-none-any.whl")
    assert run(sites, "Demo").changed
    assert "demo-2.0-py3-none-any.whl" in listed(ours)
    pypi.withdraw(NEWER)
    assert run(sites).changed
    assert NEWER not in listed(ours)
    for name in (OURS, THEIRS, "demo-2.0-py3-none-any.whl"):
        pypi.withdraw(name)
    done = run(sites)
    assert {asked.project: asked.answer for asked in done.asked}["demo"] is Answer.NOTHING
    assert not (ours.root / "merged/demo").exists()
    assert not upstream_pages(ours.tree).projects()
    assert listed(ours).keys() == {OURS}


def test_upstream_being_away_changes_nothing_and_is_said(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    run(sites)
    done = refresh(ours.tree, "http://127.0.0.1:9/simple", tries=0)
    assert {asked.project for asked in done.failed} == {"demo", "own"}
    assert not done.changed
    assert listed(ours).keys() == {OURS, THEIRS, NEWER}
    for bad in ("<html>busy</html>", "{", '{"name": "other", "files": []}', "[" * 100_000):
        pypi.write("simple/demo/index.json", bad, compressed=True)
        (failed,) = run(sites).failed
        assert failed.project == "demo"
        assert failed.cause.startswith(f"{pypi.url}/simple/demo/: ")
        assert listed(ours).keys() == {OURS, THEIRS, NEWER}


def test_a_page_without_end_is_not_read_to_its_end(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.index.upstream_pages.MOST_BYTES", 1 << 20)
    sites[1].write("simple/demo/index.json", b" " * (2 << 20), compressed=True)
    (failed,) = run(sites).failed
    assert "more than 1 MiB" in failed.cause


def test_a_project_that_we_drop_loses_its_merged_page(sites: tuple[Site, Site]) -> None:
    ours, _ = sites
    run(sites)
    ours.withdraw(OURS)
    write_merged(ours.tree, ["demo"])
    assert not (ours.root / "merged/demo").exists()
    assert not (ours.root / "upstream/demo.json").exists()
    assert ours.get("/simple/demo/").status_code == 302, "from now on it is upstream's alone"


def test_what_we_publish_is_merged_without_asking_anybody(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    run(sites)
    rebuilt = OURS.replace("-1.0-", "-1.0-1-")
    ours.publish(rebuilt)
    mark = pypi.mark()
    assert write_merged(ours.tree, ["demo"]) == {
        f"merged/demo/index.{end}" for end in ("html", "json", "json.gz")
    }
    assert not write_merged(ours.tree)
    assert not pypi.lines(mark)
    assert listed(ours).keys() == {OURS, rebuilt, THEIRS, NEWER}


def test_private_names_are_never_asked_for_and_never_merged(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    run(sites)
    mark = pypi.mark()
    done = run(sites, private=("DEM*",))
    assert [asked.project for asked in done.asked] == ["own"]
    assert "demo" not in str(pypi.lines(mark))
    assert not (ours.root / "merged/demo").exists()
    assert listed(ours).keys() == {OURS}


def test_upstreams_quarantine_is_ours_as_well(sites: tuple[Site, Site]) -> None:
    ours, pypi = sites
    page = {"meta": {"api-version": "1.4"}, "name": "demo", "files": []}
    status = {"status": "quarantined", "reason": "malware"}
    pypi.write("simple/demo/index.json", json.dumps({**page, "project-status": status}), compressed=True)
    assert run(sites).quarantined == ("demo",)
    said = ours.get("/simple/demo/", Accept=JSON).json()
    assert not said["files"]
    assert said["project-status"] == {"status": "quarantined", "reason": "upstream: malware"}
    assert listed(ours, "/ours/simple/").keys() == {OURS}


def farm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from farm.cli import main; main()", "index", "refresh", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)


def test_the_command(sites: tuple[Site, Site], tmp_path: Path) -> None:
    ours, pypi = sites
    done = farm("--directory", str(ours.root), "--upstream", pypi.simple)
    assert (done.returncode, done.stdout) == (0, "2 projects asked for, 3 files changed, 0 failed\n")
    done = farm("--directory", str(ours.root), "--upstream", pypi.simple, "--private", "demo", "--json")
    assert json.loads(done.stdout)["asked"] == {"own": "same"}
    pypi.write("simple/demo/index.json", "{", compressed=True)
    done = farm("--directory", str(ours.root), "--upstream", pypi.simple, "demo")
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: demo: {pypi.url}/simple/demo/: not a page of the Simple API")
    assert "fix: what was known stays" in done.stderr
    for wrong in (
        ["--directory", str(tmp_path)],
        ["--directory", str(ours.root), "no-such", "--upstream", pypi.simple],
    ):
        done = farm(*wrong)
        assert "Traceback" not in done.stderr
        assert done.returncode == 3, done.stderr
    kept = ours.root / "upstream/own.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("nonsense")
    done = farm("--directory", str(ours.root), "--upstream", "http://127.0.0.1:9/", "own")
    assert done.returncode == 3
    assert "remove it; `farm index refresh` fetches it again" in done.stderr
    build_index(ours.tree)
