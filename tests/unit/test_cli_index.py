"""`farm index …` over a tree that needs no index host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farm.cli import app_for
from farm.errors import InputError
from farm.index import IndexTree, add_wheel, build_index
from farm.index.change import yank
from farm.paths import Paths
from tests.unit.verify.wheelkit import write_wheel


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tree = IndexTree(Paths(tmp_path / "state").tree)
    for version in ("1.0", "1.1", "1.2"):
        add_wheel(tree, write_wheel(tmp_path, f"demo-{version}-py3-none-any.whl"))
    build_index(tree)
    return tmp_path / "state"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app_for(), [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_prune_shows_and_removes_nothing_by_itself(state: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("demo==1.0\n")
    files = json.loads(run("index", "prune", "--keep", 1, "--keep-lock", lock, "--state", state, "--json"))
    assert [file["filename"] for file in files] == ["demo-1.1-py3-none-any.whl"]
    said = run("index", "prune", "--keep", 1, "--state", state)
    assert "2 files" in said
    assert "--remove" in said
    assert len(IndexTree(Paths(state).tree).wheels("demo")) == 3


def test_the_journal_is_shown(state: Path) -> None:
    assert run("index", "journal", "--state", state) == ""
    yank(IndexTree(Paths(state).tree), "demo", "1.1", "broken")
    (entry,) = json.loads(run("index", "journal", "--state", state, "--json"))
    assert (entry["kind"], entry["files"]) == ("yank", {"demo": ["demo-1.1-py3-none-any.whl"]})
    assert "yank  demo: demo-1.1-py3-none-any.whl" in run("index", "journal", "--state", state)


def test_build_of_one_project(state: Path) -> None:
    tree = Paths(state).tree
    run("index", "build", tree)
    assert (tree / "project/demo/index.html").exists(), "the web pages, too"
    assert run("index", "build", tree) == "0 files changed\n"
    write_wheel(tree / "packages" / "demo", "demo-1.3-py3-none-any.whl")
    (tree / "packages" / "other").mkdir()
    write_wheel(tree / "packages" / "other", "other-1.0-py3-none-any.whl")
    assert run("index", "build", tree, "--project", "Demo") != "0 files changed\n"
    assert "demo-1.3" in (tree / "simple/demo/index.html").read_text()
    assert not (tree / "simple/other").exists()
    with pytest.raises(InputError, match="no folder packages"):
        run("index", "build", state)
