"""One more change writes what one build of everything would write, byte for byte."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.index import IndexTree, ProjectStatus, add_wheel, build_index, read_project
from farm.index.change import prune, set_status, yank
from tests.unit.verify.wheelkit import write_wheel

NOW = 1_800_000_000
NAMES = [
    f"{project}-{version}-{build}py3-none-any.whl"
    for project in ("demo", "Demo_Two", "a.b")
    for version, build in (("1.0", ""), ("1.0", "2a-"), ("1.9", ""), ("1.10", ""), ("2.0rc1", "10-"))
]
FILES = st.sampled_from(NAMES)
REASONS = st.sampled_from([None, "", 'broken "on" <musl> & 日本'])
STATUSES = st.sampled_from(ProjectStatus)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), FILES),
        st.tuples(st.just("add"), FILES),
        st.tuples(st.just("unlink"), FILES),
        st.tuples(st.just("prune"), FILES),
        st.tuples(st.just("yank"), FILES, REASONS),
        st.tuples(st.just("status"), FILES, STATUSES),
    ),
    max_size=12,
)


def everything(tree: IndexTree) -> dict[str, bytes]:
    """Return all files but what is not served; tests compare them byte for byte."""
    paths = (path for path in tree.root.rglob("*") if path.is_file())
    names = {path.relative_to(tree.root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("records/")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for number, name in enumerate(NAMES):
        write_wheel(folder, name, requires_python=[None, ">=3.9", "<4,!=3.10.*"][number % 3])
    return folder


@dataclass
class Model:
    """What an index should hold, said in the plainest way."""

    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Project and version of each."""
    yanked: dict[str, str] = field(default_factory=dict)
    status: dict[str, ProjectStatus] = field(default_factory=dict)

    def remove(self, name: str) -> None:
        project, _ = self.files.pop(name)
        self.yanked.pop(name, None)
        if project not in {other for other, _ in self.files.values()}:
            self.status.pop(project, None)

    def build(self, root: Path, wheels: Path) -> IndexTree:
        tree = IndexTree(root)
        for name in sorted(self.files, reverse=True):
            add_wheel(tree, wheels / name, NOW)
        build_index(tree)
        for name, reason in self.yanked.items():
            project, version = self.files[name]
            yank(tree, project, version, reason)
        for project, status in self.status.items():
            set_status(tree, project, status, "said so")
        build_index(tree, full=True)
        return tree


def apply(tree: IndexTree, model: Model, wheels: Path, step: Sequence[object]) -> str | None:
    """Do one step in the tree and the model; return the project that it changed."""
    kind, name = step[0], str(step[1])
    if kind == "add":
        file = add_wheel(tree, wheels / name, NOW)
        model.files[name] = (file.project, file.version)
        return file.project
    if name not in model.files:
        return None
    project, version = model.files[name]
    if kind == "unlink":
        (tree.packages / project / name).unlink()
        model.remove(name)
    elif kind == "prune":
        prune(tree, [file for file in read_project(tree, project).files if file.filename == name])
        model.remove(name)
    elif kind == "yank":
        reason = step[2]
        yank(tree, project, version, reason if isinstance(reason, str) else None)
        for other in [other for other, what in model.files.items() if what == (project, version)]:
            model.yanked.pop(other, None)
            if isinstance(reason, str):
                model.yanked[other] = reason
    else:
        model.status[project] = ProjectStatus(str(step[2]))
        set_status(tree, project, model.status[project], "said so")
    return project


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, told=st.booleans())
def test_incremental_equals_full(wheels: Path, steps: list[Sequence[object]], told: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree, model = IndexTree(Path(folder) / "step"), Model()
        build_index(tree)
        for step in steps:
            project = apply(tree, model, wheels, step)
            if project is not None:
                build_index(tree, [project] if told else None)
        served = everything(tree)
        assert build_index(tree) == frozenset(), "a scan finds nothing left to do"
        assert build_index(tree, full=True) == frozenset(), "nor does reading all again"
        assert served == everything(model.build(Path(folder) / "full", wheels))
        for part in ("simple", "pypi"):
            shutil.rmtree(tree.root / part, ignore_errors=True)
        for path in tree.packages.rglob("*.metadata"):
            path.unlink()
        build_index(tree)
        assert everything(tree) == served, "records and wheels are all that is needed"


def changes(tree: IndexTree, act: Callable[[], object]) -> set[str]:
    """Return which files an action wrote or removed."""

    def stats() -> dict[str, tuple[int, int]]:
        paths = [path for path in tree.root.rglob("*") if path.is_file()]
        return {
            path.relative_to(tree.root).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in paths
        }

    before = stats()
    act()
    after = stats()
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_one_more_wheel_writes_the_files_of_its_project_only(wheels: Path, tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    for name in NAMES[:-1]:
        add_wheel(tree, wheels / name, NOW)
    build_index(tree)
    shutil.copy(wheels / NAMES[-1], tree.packages / "a-b")
    for asked in (["a-b"], None):
        wrote = changes(tree, lambda asked=asked: build_index(tree, asked))  # type: ignore[misc]
        if asked:
            assert wrote == {
                f"packages/a-b/{NAMES[-1]}.metadata",
                "records/a-b.json",
                "simple/a-b/index.html",
                "simple/a-b/index.json",
                "simple/a-b/index.json.gz",
                "pypi/a-b.json",
            }
        else:
            assert wrote == set()


def test_pages_that_were_lost_or_spoilt_are_made_again(wheels: Path, tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, wheels / NAMES[0], NOW)
    build_index(tree)
    good = everything(tree)
    (tree.simple / "demo" / "index.json").write_bytes(b"{}")
    (tree.simple / "index.html").unlink()
    assert build_index(tree) == {"simple/demo/index.json", "simple/index.html"}
    assert everything(tree) == good


def test_an_index_of_an_earlier_version_is_taken_over(wheels: Path, tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    folder = tree.packages / "demo"
    folder.mkdir(parents=True)
    shutil.copy(wheels / NAMES[0], folder)
    (tree.simple / "left-over").mkdir(parents=True)
    (tree.simple / "left-over" / "index.html").write_text("a project that is no more")
    build_index(tree, ["other"])
    (file,) = read_project(tree, "demo").files
    first = file.upload_time
    assert first is not None
    (folder / NAMES[0]).touch()
    build_index(tree)
    (file,) = read_project(tree, "demo").files
    assert file.upload_time == first, "mtime counts once"
    assert build_index(tree) == frozenset()
    build_index(tree)
    assert not (tree.simple / "left-over").exists()
