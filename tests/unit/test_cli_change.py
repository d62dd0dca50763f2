"""Commands that change an index, given what can't be: the message, the fix, and nothing changed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from farm import cli
from farm.cli import common
from farm.errors import ExitCode
from farm.index import IndexTree, add_wheel, build_index
from farm.index.change import everything, prune
from farm.index.journal import Entry, Kind, note
from farm.nodes import Address, Fleet, IndexHost
from farm.paths import Paths
from tests.unit.verify.wheelkit import write_wheel


@dataclass
class Farm:
    """The command, with an index host that nobody may ask for anything."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    tree: IndexTree

    def __call__(self, *arguments: object) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["farm", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = self.capsys.readouterr()
        assert out == ""
        assert isinstance(caught.value.code, int)
        return caught.value.code, err

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.tree.root.rglob("*") if path.is_file()}


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Farm:
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    address = Address("wheels", "127.0.0.1", 9, "nobody", Path("/key"), Path("/hosts"))
    fleet = Fleet((), IndexHost(address, "/nosuch", "http://127.0.0.1:9"))
    monkeypatch.setattr(common, "read_fleet", lambda _path: fleet)
    return Farm(monkeypatch, capsys, IndexTree(Paths(tmp_path / "state").tree))


@pytest.fixture
def filled(farm: Farm, tmp_path: Path) -> Farm:
    for version in ("1.0", "1.1"):
        add_wheel(farm.tree, write_wheel(tmp_path, f"demo-{version}-py3-none-any.whl"))
    build_index(farm.tree)
    return farm


NO_PROJECT = "the index has no such project", "see what it has in its simple/"
NO_VERSION = "the index has no demo 9.9", "it has 1.0, 1.1"
NO_SUCH_CHANGE = "no change 7 in the journal", "`farm index journal` shows what there is"


@pytest.mark.parametrize(
    ("command", "message", "fix"),
    [
        ("yank nosuch 1.0", *NO_PROJECT),
        ("unyank nosuch 1.0", *NO_PROJECT),
        ("yank ../../demo 1.0", *NO_PROJECT),
        ("yank demo 9.9 --reason broken", *NO_VERSION),
        ("unyank demo 9.9", *NO_VERSION),
        ("yank Demo latest", "latest is not a version (PEP 440)", "there is 1.0, 1.1"),
        ("index status nosuch archived", *NO_PROJECT),
        (
            "index rollback",
            "there is no publication to undo",
            "`farm index journal` shows what there is",
        ),
        ("index rollback --to-before 7", *NO_SUCH_CHANGE),
        ("index rollback --to-before 0", "no change 0 in the journal", "`farm index journal`"),
        ("index prune --keep 1 --keep-lock nosuch.lock", "nosuch.lock: ", ""),
    ],
)
def test_what_can_not_be_is_refused_with_the_fix_and_changes_nothing(
    filled: Farm, command: str, message: str, fix: str
) -> None:
    before = filled.files()
    code, err = filled(*command.split())
    lines = err.splitlines()
    assert code == ExitCode.INPUT
    assert len(lines) == 2, err
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[1].startswith(f"  fix: {fix}")
    assert filled.files() == before


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("index status demo asleep", "quarantined"),
        ("index status demo", "STATUS"),
        ("yank demo", "VERSION"),
        ("index rollback --to-before last", "--to-before"),
        ("index prune --keep 0 --remove", "--keep"),
    ],
)
def test_what_no_command_line_can_say(filled: Farm, command: str, named: str) -> None:
    before = filled.files()
    code, err = filled(*command.split())
    assert code == ExitCode.USAGE
    assert named in err
    assert filled.files() == before


def test_removed_files_are_not_brought_back(filled: Farm) -> None:
    note(filled.tree.records, Entry(0, "", Kind.PUBLISH, {"demo": ("demo-1.1-py3-none-any.whl",)}))
    prune(filled.tree, [file for file in everything(filled.tree)[0].files if file.version == "1.0"])
    build_index(filled.tree)
    before = filled.files()
    code, err = filled("index", "rollback")
    assert code == ExitCode.INPUT
    assert "error: change 2 removed files, which can't be undone" in err
    assert "  fix: go back to a later one, or publish what was removed again" in err
    assert filled.files() == before


@pytest.mark.parametrize("command", ["yank demo 1.0", "index status demo archived", "index rollback"])
def test_a_farm_that_has_published_nothing(farm: Farm, command: str) -> None:
    code, err = farm(*command.split())
    assert code == ExitCode.INPUT
    assert len(err.splitlines()) == 2, err
    assert farm.files() == {}
