from __future__ import annotations

from pathlib import Path

import pytest

from farm.node.environment import LEGACY, BuildSystem, ProjectError, build_system, pinned


def project(directory: Path, text: str) -> Path:
    (directory / "pyproject.toml").write_text(text)
    return directory


@pytest.mark.parametrize("text", [None, "", "[project]\nname = 'x'\n"], ids=["no file", "empty", "no table"])
def test_without_a_table_it_is_setuptools_as_pep_517_says(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        project(tmp_path, text)
    assert build_system(tmp_path) == LEGACY


def test_what_a_table_says_holds(tmp_path: Path) -> None:
    text = "[build-system]\nrequires = ['a>=1']\nbuild-backend = 'a.b'\nbackend-path = ['in_tree']\n"
    assert build_system(project(tmp_path, text)) == BuildSystem(("a>=1",), "a.b", ("in_tree",))


def test_a_table_without_a_backend_means_setuptools(tmp_path: Path) -> None:
    assert build_system(project(tmp_path, "[build-system]\nrequires = []\n")) == BuildSystem(
        (), LEGACY.backend, ()
    )


@pytest.mark.parametrize(
    "text",
    [
        "[build-system",
        "build-system = 3",
        "[build-system]\nbuild-backend = 'a'",
        "[build-system]\nrequires = 'a'",
        "[build-system]\nrequires = [1]",
        "[build-system]\nrequires = []\nbuild-backend = 1",
        "[build-system]\nrequires = []\nbackend-path = '.'",
    ],
)
def test_a_malformed_table_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProjectError, match=r"pyproject\.toml"):
        build_system(project(tmp_path, text))


def test_a_lock_s_versions(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "# made by uv\ncython==3.1 \\\n    --hash=sha256:ab==\nsetuptools==81.0.0 \\\n    --hash=sha256:cd\n"
    )
    assert pinned(lock) == ["cython==3.1", "setuptools==81.0.0"]
