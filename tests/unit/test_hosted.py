"""What is yanked, archived or in quarantine is neither tried nor built anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import service
from farm.errors import InputError
from farm.hosted import hosted_projects
from farm.index import IndexTree, add_wheel
from farm.index.change import set_status, yank
from farm.index.model import ProjectStatus
from farm.nodes import Address, IndexHost
from farm.outdated import look
from farm.paths import Paths
from farm.tryout import newest_wheels
from farm.upstream import Upstream, UpstreamProject
from tests.unit.plankit import project
from tests.unit.verify.wheelkit import write_wheel

TAGS = "cp313-cp313-manylinux_2_39_riscv64"


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    found = IndexTree(tmp_path / "state" / "index")
    for name in ("demo-1.0", "demo-1.1", "other-1.0"):
        add_wheel(found, write_wheel(tmp_path, f"{name}-{TAGS}.whl"))
    return found


def tried(tree: IndexTree) -> list[str]:
    return [
        wheel.name.removesuffix(f"-{TAGS}.whl") for wheels in newest_wheels(tree).values() for wheel in wheels
    ]


def test_yanked_versions_are_not_offered(tree: IndexTree) -> None:
    assert tried(tree) == ["demo-1.1", "other-1.0"]
    yank(tree, "demo", "1.1", "broken")
    assert tried(tree) == ["demo-1.0", "other-1.0"]
    yank(tree, "other", "1.0", "")
    assert tried(tree) == ["demo-1.0"]
    with pytest.raises(InputError, match="other: not hosted"):
        newest_wheels(tree, ["other"])


@pytest.mark.parametrize(
    ("status", "offered", "kept_up"),
    [
        (ProjectStatus.ACTIVE, True, True),
        (ProjectStatus.DEPRECATED, True, True),
        (ProjectStatus.ARCHIVED, True, False),
        (ProjectStatus.QUARANTINED, False, False),
    ],
)
def test_status(tree: IndexTree, tmp_path: Path, status: ProjectStatus, offered: bool, kept_up: bool) -> None:
    set_status(tree, "demo", status, "")
    demo = hosted_projects(tree)[0]
    assert (demo.offered, demo.kept_up) == (offered, kept_up)
    host = IndexHost(Address("h", "h", 22, "u", tmp_path, tmp_path), "/srv", "http://index.test")
    assert ("demo" in service.everything(host, tmp_path, Paths(tmp_path / "state"))) == kept_up
    assert ("demo-1.1" in tried(tree)) == offered


def test_what_was_answered_is_no_news(
    tree: IndexTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_: Upstream, name: str, _sdists: object) -> UpstreamProject:
        return project(f"{name}-1.0.tar.gz", f"{name}-1.1.tar.gz", f"{name}-1.1-{TAGS}.whl", name=name)

    monkeypatch.setattr(Upstream, "project", asked)
    items, unknown = look(tree, [], Upstream(), tmp_path)
    assert ({item.project for item in items}, unknown) == ({"demo", "other"}, [])
    set_status(tree, "demo", ProjectStatus.DEPRECATED, "upstream ships riscv64 now")
    assert {item.project for item in look(tree, [], Upstream(), tmp_path)[0]} == {"other"}
    set_status(tree, "other", ProjectStatus.ARCHIVED, "")
    assert look(tree, [], Upstream(), tmp_path) == ([], [])
