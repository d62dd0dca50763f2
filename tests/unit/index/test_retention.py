"""What `farm index prune` would remove, and what can be undone."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from farm.errors import InputError
from farm.index import IndexTree, ProjectIndex, PublishedFile, add_wheel, build_index, read_project
from farm.index.change import everything, prune, rollback, yank
from farm.index.journal import Entry, Kind, note, read_journal, since
from farm.index.retention import read_lock, superfluous
from tests.unit.verify.wheelkit import write_wheel

PROJECT = canonicalize_name("demo")


def index_of(*versions: str, yanked: frozenset[str] = frozenset()) -> ProjectIndex:
    files = [
        PublishedFile(
            f"demo-{v}-{python}-none-any.whl",
            PROJECT,
            v,
            "0" * 64,
            1,
            None,
            yanked="" if v in yanked else None,
        )
        for v in versions
        for python in ("cp312", "cp313")
    ]
    return ProjectIndex(PROJECT, tuple(sorted(files, key=lambda file: file.sort_key)))


def gone(index: ProjectIndex, keep: int, *locked: tuple[str, str]) -> set[str]:
    return {file.version for file in superfluous([index], keep, locked)}


def test_the_newest_versions_are_kept_and_what_a_lock_names() -> None:
    index = index_of("1.0", "1.9", "1.10", "2.0rc1")
    assert gone(index, 4) == set()
    assert gone(index, 2) == {"1.0", "1.9"}
    assert gone(index, 2, ("demo", "1.0"), ("other", "1.9")) == {"1.9"}
    assert len(superfluous([index], 3, ())) == 2, "all wheels of a version go together"


def test_a_yanked_version_takes_nobodys_place() -> None:
    index = index_of("1.0", "1.1", "1.2", yanked=frozenset({"1.2"}))
    assert gone(index, 1) == {"1.0"}, "1.2 is newer than what is kept, so it is not old"
    assert gone(index_of("1.0", "1.1", "1.2", yanked=frozenset({"1.1"})), 2) == {"1.1"}
    assert gone(index_of("1.0", "1.1", yanked=frozenset({"1.0", "1.1"})), 1) == {"1.0"}


@pytest.mark.parametrize(
    ("name", "text", "pins"),
    [
        (
            "requirements.txt",
            "# all\nDemo_One==1.0 \\\n    --hash=sha256:00\nb[x]==2.0 ; python_version > '3'\nc>=1\n",
            {("demo-one", "1.0"), ("b", "2")},
        ),
        (
            "pylock.toml",
            '[[packages]]\nname = "demo"\nversion = "1.0"\n[[packages]]\nname = "x"\n',
            {("demo", "1.0")},
        ),
        ("uv.lock", '[[package]]\nname = "demo"\nversion = "1.0"\n', {("demo", "1.0")}),
    ],
)
def test_lock_files(tmp_path: Path, name: str, text: str, pins: set[tuple[str, str]]) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = read_lock(path)
    assert {
        (project, version.removesuffix(".0") if project == "b" else version) for project, version in found
    } == pins


@pytest.mark.parametrize("text", ["", "demo>=1\n", "[[package]]\nname ="])
def test_a_lock_file_that_pins_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    path.write_text(text)
    with pytest.raises(InputError):
        read_lock(path)
    with pytest.raises(InputError):
        read_lock(tmp_path / "nosuch")


def test_what_was_pruned_ends_what_can_be_undone(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path / "index")
    for version in ("1.0", "1.1", "1.2"):
        name = f"demo-{version}-py3-none-any.whl"
        note(tree.records, Entry(0, "", Kind.PUBLISH, {"demo": [name]}))
        add_wheel(tree, write_wheel(tmp_path, name))
        build_index(tree)
    build_index(tree, prune(tree, superfluous(everything(tree), 2, ())))
    assert {file.version for file in read_project(tree, "demo").files} == {"1.1", "1.2"}
    with pytest.raises(InputError, match="which can't be undone"):
        rollback(tree)
    yank(tree, "Demo", "1.2", "bad")
    build_index(tree)
    assert read_project(tree, "demo").files[-1].yanked == "bad"
    kinds = [entry.kind for entry in read_journal(tree.records)]
    assert kinds == [Kind.PUBLISH] * 3 + [Kind.PRUNE, Kind.YANK]
    touched, (undone,) = rollback(tree, 5)
    assert (touched, undone.kind) == ({"demo"}, Kind.YANK)
    build_index(tree, touched)
    assert read_project(tree, "demo").files[-1].yanked is None
    with pytest.raises(InputError, match="no change 99"):
        since(read_journal(tree.records), 99)
    with pytest.raises(InputError, match="no publication"):
        since((), None)


@pytest.mark.parametrize(("version", "said"), [("3.0", "has no demo 3.0"), ("x y", "not a version")])
def test_yanking_what_is_not_there(tmp_path: Path, version: str, said: str) -> None:
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, write_wheel(tmp_path, "demo-1.0-py3-none-any.whl"))
    with pytest.raises(InputError, match=said) as caught:
        yank(tree, "demo", version, "")
    assert "1.0" in caught.value.hint
    with pytest.raises(InputError, match="no such project"):
        yank(tree, "nosuch", "1.0", "")
