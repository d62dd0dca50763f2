"""What the dispatcher tells the gates of a job: its promise, its sdist, what its recipe allows."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from farm.dispatch.gates import verified
from farm.paths import Paths
from farm.recipe import Recipe
from farm.store import Job, State
from farm.verify import Gate
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import MODULE, NATIVE, make_elf, write_wheel

LICENCE, PLATFORM, CONTENT = {Gate.LICENCE}, {Gate.PLATFORM}, {Gate.CONTENT}


def job(recipe: Recipe) -> Job:
    asked = replace(spec("demo"), project="demo", version="1.0", python="cp313", recipe=recipe)
    return Job(
        "demo", asked, State.BUILT, 1, "f3", 4, None, "", 0.0, None, None, None, None, cancelling=False
    )


def store_sdist(paths: Paths, asked: Job) -> None:
    sdist = paths.sdist(asked.spec.sdist_sha256, asked.spec.sdist_filename)
    sdist.parent.mkdir(parents=True)
    with tarfile.open(sdist, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("demo-1.0/LICENSE"), io.BytesIO())


def failing(asked: Job, wheel: Path, paths: Paths) -> set[Gate]:
    return {verdict.gate for verdict in verified(asked, wheel, paths).failures}


@pytest.mark.parametrize(("reason", "gates"), [("", LICENCE), ("it is in the README", set())])
def test_the_sdists_licence_is_asked_for(tmp_path: Path, reason: str, gates: set[Gate]) -> None:
    asked, paths = job(Recipe(no_licence=reason)), Paths(tmp_path)
    store_sdist(paths, asked)
    assert failing(asked, write_wheel(tmp_path), paths) == gates


def test_without_its_sdist_a_job_is_verified_all_the_same(tmp_path: Path) -> None:
    assert failing(job(Recipe()), write_wheel(tmp_path), Paths(tmp_path)) == set()


@pytest.mark.parametrize(("keep", "gates"), [({}, CONTENT), ({"demo/*.pyc": "its source is lost"}, set())])
def test_the_recipe_keeps_files(tmp_path: Path, keep: dict[str, str], gates: set[Gate]) -> None:
    wheel = write_wheel(tmp_path, files={MODULE: make_elf(), "demo/x.pyc": b""})
    assert failing(job(Recipe(keep_files=keep)), wheel, Paths(tmp_path)) == gates


@pytest.mark.parametrize(("packages", "gates"), [({}, PLATFORM), ({"libnuma1": "loaded late"}, set())])
def test_the_recipe_names_system_packages(tmp_path: Path, packages: dict[str, str], gates: set[Gate]) -> None:
    paths = Paths(tmp_path)
    paths.debian.mkdir()
    (paths.debian / "trixie-libraries").write_text("libnuma.so.1\tlibnuma1\n")
    name = NATIVE.replace("manylinux_2_39", "linux")
    wheel = write_wheel(tmp_path, name, {MODULE: make_elf(needed=("libnuma.so.1",))})
    assert failing(job(Recipe(system_packages=packages)), wheel, paths) == gates
