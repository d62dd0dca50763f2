"""`farm index try` in the real clean room: what installs and imports, what no longer does, what is new."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import cli
from farm.cleanroom import CleanRoom
from farm.cli import care
from farm.errors import ExitCode, InputError, UpstreamError
from farm.index import IndexTree, add_wheel, build_index
from farm.nodes import Address, Fleet, IndexHost
from farm.tryout import Fate, Tried, load, pip_of
from farm.upstream import Upstream, sha256_of
from tests.httpkit import serving_folder
from tests.integration import trapkit
from tests.integration.trapkit import SUFFIX

pytestmark = pytest.mark.integration


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    """An index of a native wheel, a pure one, and one that needs what nobody has."""
    found = IndexTree(tmp_path / "state" / "index")
    native = {"good/__init__.py": b"", f"good/_native{SUFFIX}": trapkit.extension(tmp_path, "_native")}
    add_wheel(found, trapkit.wheel(tmp_path, "good", native))
    add_wheel(found, trapkit.wheel(tmp_path, "lonely", {"lonely.py": b""}, needs="nowhere"))
    build_index(found)
    return found


@pytest.fixture
def served(tree: IndexTree, room: CleanRoom) -> Iterator[str]:
    """Where the index is served; an upstream that has the room's own pip is below /upstream/simple/."""
    (wheel,) = (room.userland / "usr/share/python-wheels").glob("pip-*.whl")
    page = tree.root / "upstream" / "simple" / "pip" / "index.html"
    page.parent.mkdir(parents=True)
    shutil.copy(wheel, page.parent)
    page.write_text(f'<!DOCTYPE html><a href="{wheel.name}#sha256={sha256_of(wheel)}">{wheel.name}</a>')
    with serving_folder(tree.root) as url:
        yield url


def test_a_night_after_another(
    tree: IndexTree,
    served: str,
    room: CleanRoom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    address = Address("wheels", "127.0.0.1", 22, "u", tmp_path, tmp_path)
    monkeypatch.setattr(care, "read_fleet", lambda _: Fleet((), IndexHost(address, "/srv", served)))
    monkeypatch.setattr(CleanRoom, "at", lambda: room)

    def farm(*arguments: str) -> tuple[int, dict[str, object], dict[str, Tried]]:
        common = ["farm", "index", "try", "--pip", "newest", "--upstream", f"{served}/upstream/simple/"]
        monkeypatch.setattr(sys, "argv", [*common, "--json", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        report = load(tmp_path / "state" / "tried.json")
        assert report is not None
        return int(caught.value.code or 0), json.loads(out), {it.project: it for it in report.results}

    code, said, found = farm()
    assert (code, said["new"]) == (ExitCode.FAILED, ["lonely newest"])
    assert found["good"].fate is Fate.WELL
    assert found["good"].evidence.startswith("good-1.0; 2 modules")
    assert found["lonely"].fate is Fate.NOT_INSTALLED
    assert "no wheel for nowhere" in found["lonely"].evidence
    # The next night what was missing is there, and a rebuild of what was well is broken.
    add_wheel(tree, trapkit.wheel(tmp_path, "nowhere", {"nowhere.py": b""}))
    broken = {"good.py": b"raise OSError('moved away')\n"}
    add_wheel(tree, trapkit.wheel(tmp_path, "good", broken, tags=f"1-{trapkit.PLATFORM}"))
    build_index(tree)
    code, said, found = farm("lonely", "good")
    assert (code, said["new"], said["mended"]) == (ExitCode.FAILED, ["good newest"], ["lonely newest"])
    assert found["good"].fate is Fate.NOT_IMPORTED
    assert "good: OSError: moved away" in found["good"].evidence
    assert "farm verify --run" in found["good"].hint


def test_a_pip_that_is_none(served: str, room: CleanRoom, tmp_path: Path) -> None:
    upstream = Upstream(f"{served}/upstream/simple/")
    with pytest.raises(UpstreamError, match=r"pip 1\.0: no such wheel"):
        pip_of("1.0", upstream, tmp_path, room)
    with pytest.raises(InputError, match="no version of pip"):
        pip_of("oldest of all", upstream, tmp_path, room)
