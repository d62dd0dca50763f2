"""Build environments take what the farm has published: real farm-node, uv, and nginx with the role's site."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farm.index import IndexTree, add_wheel, build_index
from tests.httpkit import serving
from tests.integration.nginxkit import Nginx
from tests.integration.nodekit import WHEEL, Board, make_environment, make_sdist, make_tar
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration
HERE = f"cp3{sys.version_info.minor}"
BACKEND = f"""
import pathlib
from importlib.metadata import distributions
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    found = sorted(d.name + " " + d.version for d in distributions() if d.name.startswith("kit-"))
    print("built with", ", ".join(found))
    pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
    return "{WHEEL}"
"""


class Pypi:
    """A simple index on loopback that has what a test puts there; it knows what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        (root / "simple").mkdir(parents=True)
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, _code: object = "-", _size: object = "-") -> None:
                asked.append(self.path)

            def log_error(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple/"

    def add(self, filename: str, sdist: bytes = b"") -> None:
        project = filename.partition("-")[0].replace("_", "-")
        files = self.root / "packages" / project
        files.mkdir(parents=True, exist_ok=True)
        if sdist:
            (files / filename).write_bytes(sdist)
        else:
            write_wheel(files, filename, {})
        anchors = [
            f'<a href="../../packages/{project}/{path.name}'
            f'#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in sorted(files.iterdir())
        ]
        page = self.root / "simple" / project / "index.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text("\n".join(anchors))


@dataclass
class Farm:
    """An index host, a board that reads it, and PyPI."""

    board: Board
    index: Nginx
    tree: IndexTree
    pypi: Pypi
    wheels: Path
    attempts: list[str] = field(default_factory=list)

    def publish(self, filename: str, requires_python: str = ">=3.9, <4") -> None:
        add_wheel(self.tree, write_wheel(self.wheels, filename, {}, requires_python=requires_python))
        build_index(self.tree)

    def build(self, *requires: str, failure: str | None = None, **changes: object) -> str:
        """Build a project with these build requirements; returns its log."""
        table = (
            f'[build-system]\nrequires = {list(requires)}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        sdist = make_sdist(BACKEND, "demo-1.0", **{"pyproject.toml": table.encode()})
        self.attempts.append(f"demo.{len(self.attempts) + 1}")
        environment = {"UV_DEFAULT_INDEX": self.pypi.url}
        result = self.board.build(
            sdist, self.attempts[-1], time_s=60, **{"environment": environment, **changes}
        )
        log = self.board.log(self.attempts[-1])
        assert result["failure"] == failure, log
        return log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path_factory.mktemp("index"))
    variables = {
        "farm_index_url": nginx.url,
        "farm_index_root": str(nginx.directory / "root"),
        "farm_index_user": "nobody",
        "farm_ssh_key": "none",
        # Nothing listens there: who is sent there fails.
        "index_server_fallback_url": "http://127.0.0.1:9/simple",
    }
    nginx.configure("index_server", "site.conf.j2", variables)
    nginx.start()
    yield nginx
    nginx.stop()


@pytest.fixture
def farm(tmp_path: Path, site: Nginx, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    settings, wheels, root = tmp_path / "settings", tmp_path / "wheels", tmp_path / "tree"
    for folder in (settings, wheels, root):
        folder.mkdir()
    link = site.directory / "root"
    link.unlink(missing_ok=True)
    link.symlink_to(root)
    (settings / "node.json").write_text(json.dumps({"index": f"{site.url}/simple/"}))
    monkeypatch.setenv("WHEELFARM_SETTINGS", str(settings))
    board = Board(tmp_path / "node", make_environment(tmp_path / "environments"))
    pypi = Pypi(tmp_path / "pypi")
    with serving(pypi.server):
        yield Farm(board, site, IndexTree(root), pypi, wheels)


def test_what_a_build_needs_is_there_once_it_is_published(farm: Farm) -> None:
    log = farm.build("kit-a", failure="build")
    assert "has nothing yet" in log
    assert "kit-a was not found" in log
    farm.publish("kit_a-1.0-py3-none-any.whl")
    log = farm.build("kit-a")
    assert "built with kit-a 1.0\n" in log
    assert "build environment: kit-a==1.0\n" in log
    assert "from the farm's index: kit_a-1.0-py3-none-any.whl\n" in log


def test_a_wheel_of_the_farm_comes_before_what_pypi_has(farm: Farm) -> None:
    farm.publish(f"kit_a-1.0-{HERE}-{HERE}-linux_x86_64.whl")
    farm.publish("kit_b-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-1.0.tar.gz", sdist=make_tar({"kit_a-1.0/PKG-INFO": b"can't be built"}))
    farm.pypi.add("kit_a-1.1.tar.gz", sdist=make_tar({"kit_a-1.1/PKG-INFO": b"can't be built"}))
    farm.pypi.add("kit_b-2.0-py3-none-any.whl")
    farm.pypi.add("kit_c-1.0-py3-none-any.whl")
    log = farm.build("kit-a", "kit-b>=2", "kit-c")
    assert "built with kit-a 1.0, kit-b 2.0, kit-c 1.0\n" in log
    assert f"from the farm's index: kit_a-1.0-{HERE}-{HERE}-linux_x86_64.whl\n" in log
    assert not [path for path in farm.pypi.asked if ".tar.gz" in path]


def test_a_version_built_for_another_python_hides_nothing_of_pypi(farm: Farm) -> None:
    farm.publish("kit_a-1.0-cp39-cp39-linux_x86_64.whl")
    farm.publish("kit_b-1.0-cp39-cp39-linux_x86_64.whl")
    farm.publish("kit_b-0.9-py3-none-any.whl")
    farm.publish("kit_c-1.0-py3-none-any.whl", requires_python=">=3.99")
    for name in "abc":
        farm.pypi.add(f"kit_{name}-1.0-py3-none-any.whl")
    log = farm.build("kit-a", "kit-b==1.0", "kit-c")
    assert "built with kit-a 1.0, kit-b 1.0, kit-c 1.0\n" in log


def test_what_is_listed_and_not_there_comes_from_pypi(farm: Farm) -> None:
    farm.publish("kit_a-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-2.0-py3-none-any.whl")
    (farm.tree.simple / "kit-a/index.html").unlink()
    # nginx sends who asks for it to a place that does not answer: nobody may go there.
    assert "built with kit-a 2.0\n" in farm.build("kit-a")


def test_a_lock_holds_until_something_of_it_is_published(farm: Farm) -> None:
    farm.publish("kit_other-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-2.0-py3-none-any.whl")
    log = farm.build("kit-a")
    assert "built with kit-a 2.0\n" in log
    assert "from the farm's index: nothing of it\n" in log
    farm.publish("kit_other-2.0-py3-none-any.whl")
    assert "/uv " not in farm.build("kit-a"), "nothing of it has changed"
    farm.publish("kit_a-1.0-py3-none-any.whl")
    assert "built with kit-a 1.0\n" in farm.build("kit-a")
    farm.publish("kit_a-1.5-py3-none-any.whl")
    assert "built with kit-a 1.5\n" in farm.build("kit-a")
    farm.publish("kit_a-1.6-cp39-cp39-linux_x86_64.whl")
    log = farm.build("kit-a")
    assert "built with kit-a 1.5\n" in log
    assert "/uv " not in log, "what is for another Python changes nothing"
    assert "from the farm's index: kit_a-1.5-py3-none-any.whl\n" in log
    (farm.tree.packages / "kit-a/kit_a-1.5-py3-none-any.whl").unlink()
    build_index(farm.tree)
    assert "built with kit-a 1.0\n" in farm.build("kit-a")


def test_what_a_requirement_needs_to_be_built_comes_from_the_farm_as_well(farm: Farm) -> None:
    farm.publish("kit_a-1.0-py3-none-any.whl")
    backend = b"""
import importlib.metadata, pathlib, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    importlib.metadata.version("kit-a")
    name = "kit_s-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        info = "kit_s-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: kit-s\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
    table = b'[build-system]\nrequires = ["kit-a"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    table += b'[project]\nname = "kit-s"\nversion = "1.0"\n'
    files = {"kit_s-1.0/pyproject.toml": table, "kit_s-1.0/backend.py": backend}
    farm.pypi.add("kit_s-1.0.tar.gz", sdist=make_tar(files))
    assert "built with kit-s 1.0\n" in farm.build("kit-s")


def test_a_build_goes_on_without_an_index_that_does_not_answer(farm: Farm) -> None:
    farm.publish("kit_a-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-2.0-py3-none-any.whl")
    assert "built with kit-a 1.0\n" in farm.build("kit-a")
    farm.index.stop()
    try:
        log = farm.build("kit-a")
    finally:
        farm.index.start()
    assert "does not answer" in log
    assert "built with kit-a 2.0\n" in log
    log = farm.build("kit-a")
    assert "built with kit-a 1.0\n" in log
    assert "/uv pip compile" not in log, "what was found before holds again"


def test_a_recipe_may_choose_another_index(farm: Farm) -> None:
    farm.publish("kit_a-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-2.0-py3-none-any.whl")
    environment = {"UV_INDEX": farm.pypi.url, "UV_DEFAULT_INDEX": farm.pypi.url}
    assert "built with kit-a 2.0\n" in farm.build("kit-a", environment=environment)


def test_a_board_without_the_setting_uses_pypi_alone(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELFARM_SETTINGS", str(farm.wheels))
    farm.publish("kit_a-1.0-py3-none-any.whl")
    farm.pypi.add("kit_a-2.0-py3-none-any.whl")
    log = farm.build("kit-a")
    assert "built with kit-a 2.0\n" in log
    assert "the farm's index" not in log
