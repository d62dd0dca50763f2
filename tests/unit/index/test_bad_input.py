"""What can't be in an index is named and refused, and nothing is half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.errors import FarmError, InputError, PublishError, WheelError
from farm.index import IndexTree, add_wheel, build_index, read_project
from farm.index.storage import REFUSE_BELOW, WARN_BELOW, Room
from tests.unit.index.test_incremental import everything
from tests.unit.verify.wheelkit import NATIVE, wheel_members, write_wheel, zip_bytes

PURE = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    """A good index of one wheel."""
    tree = IndexTree(tmp_path / "index")
    add_wheel(tree, write_wheel(tmp_path, NATIVE))
    build_index(tree)
    return tree


def other_metadata(tree: IndexTree) -> None:
    write_wheel(tree.packages / "demo", PURE, metadata="Name: other\nVersion: 1.0\n")


def other_version(tree: IndexTree) -> None:
    write_wheel(tree.packages / "demo", PURE, metadata="Name: demo\nVersion: 1.0.1\n")


def two_spellings(tree: IndexTree) -> None:
    (tree.packages / "Demo").mkdir()
    write_wheel(tree.packages / "Demo", PURE)


def two_spellings_of_a_wheel(tree: IndexTree) -> None:
    (tree.packages / "a-b").mkdir()
    write_wheel(tree.packages / "a-b", "a_b-1.0-py3-none-any.whl")
    write_wheel(tree.packages / "a-b", "A.b-1.0.0-py3-none-any.whl")


def corrupt_zip(tree: IndexTree) -> None:
    (tree.packages / "demo" / PURE).write_bytes(zip_bytes(wheel_members(PURE))[:-40])


def no_zip(tree: IndexTree) -> None:
    (tree.packages / "demo" / PURE).write_bytes(b"<html>404</html>")


def spoilt_member(tree: IndexTree) -> None:
    data = bytearray(zip_bytes(wheel_members(PURE)))
    at = data.index(b"METADATA") + len("METADATA")
    data[at + 3] ^= 0xFF
    (tree.packages / "demo" / PURE).write_bytes(data)


def no_name(tree: IndexTree) -> None:
    (tree.packages / "-demo").mkdir()
    write_wheel(tree.packages / "-demo", PURE)


def foreign_file(tree: IndexTree) -> None:
    (tree.packages / "demo" / "notes.txt").write_text("remember")


def foreign_file_at_the_top(tree: IndexTree) -> None:
    (tree.packages / "demo-1.0.tar.gz").write_bytes(b"an sdist")


def folder_named_like_a_wheel(tree: IndexTree) -> None:
    (tree.packages / "demo" / PURE).mkdir()


def link_out_of_the_tree(tree: IndexTree) -> None:
    outside = write_wheel(tree.root.parent, PURE)
    (tree.packages / "demo" / PURE).symlink_to(outside)


def other_bytes(tree: IndexTree) -> None:
    write_wheel(tree.packages / "demo", NATIVE, {"demo/__init__.py": b"x = 2\n"})


def wrong_name(tree: IndexTree) -> None:
    (tree.packages / "demo" / "demo.whl").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_metadata, "METADATA is of other 1.0"),
        (other_version, "METADATA is of demo 1.0.1"),
        (two_spellings, "packages/Demo and packages/demo are two spellings"),
        (two_spellings_of_a_wheel, "two spellings of one wheel"),
        (corrupt_zip, "truncated or not a zip"),
        (no_zip, "truncated or not a zip"),
        (spoilt_member, "truncated or not a zip"),
        (no_name, "packages/-demo is not a project's name"),
        (foreign_file, "packages/demo/notes.txt does not belong"),
        (foreign_file_at_the_top, "packages/demo-1.0.tar.gz does not belong"),
        (folder_named_like_a_wheel, "does not belong"),
        (link_out_of_the_tree, "does not belong"),
        (other_bytes, "is not what was published"),
        (wrong_name, "not a wheel's file name"),
    ],
)
def test_it_is_named_and_no_page_changes(
    tree: IndexTree, spoil: Callable[[IndexTree], None], said: str
) -> None:
    def pages() -> dict[str, bytes]:
        return {name: data for name, data in everything(tree).items() if not name.startswith("packages/")}

    before = pages()
    add_wheel(tree, write_wheel(tree.root.parent, "zoo-1.0-py3-none-any.whl"))
    spoil(tree)
    with pytest.raises((PublishError, WheelError), match=said) as caught:
        build_index(tree)
    assert caught.value.hint
    assert pages() == before


def test_what_a_killed_build_left_is_swept(tree: IndexTree) -> None:
    before = everything(tree)
    (tree.packages / "demo" / ".0123abcd.part").write_bytes(b"half a wheel")
    (tree.packages / "demo" / "demo-0.9-py3-none-any.whl.metadata").write_bytes(b"of a wheel that is gone")
    build_index(tree)
    assert everything(tree) == before


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"files": 3}'])
def test_a_record_that_makes_no_sense_is_not_overwritten(tree: IndexTree, content: bytes) -> None:
    record = tree.records / "demo.json"
    record.write_bytes(content)
    for act in (lambda: build_index(tree), lambda: read_project(tree, "demo")):
        with pytest.raises(PublishError, match="not a record of the index"):
            act()
    assert record.read_bytes() == content


def test_half_a_record_is_refused(tree: IndexTree) -> None:
    record = tree.records / "demo.json"
    head, _, files = record.read_bytes().partition(b"\n")
    for half in (head, head + b"\n", files, head + b"\n" + files[:-1]):
        record.write_bytes(half)
        with pytest.raises(PublishError, match="not a record of the index"):
            read_project(tree, "demo")


def test_a_record_of_an_earlier_version_in_one_line_is_read(tree: IndexTree) -> None:
    record = tree.records / "demo.json"
    before, index = everything(tree), read_project(tree, "demo")
    head, files = map(json.loads, record.read_bytes().splitlines())
    record.write_text(json.dumps({**head, "files": files}))
    assert read_project(tree, "demo") == index
    build_index(tree)
    assert everything(tree) == before


def test_an_unknown_project(tree: IndexTree) -> None:
    with pytest.raises(InputError, match="no such project"):
        read_project(tree, "nosuch")


def test_a_name_of_a_removed_wheel_stays_taken(tree: IndexTree, tmp_path: Path) -> None:
    shutil.rmtree(tree.packages / "demo")
    build_index(tree)
    (tmp_path / "new").mkdir()
    other = write_wheel(tmp_path / "new", NATIVE, {"demo/__init__.py": b"x = 2\n"})
    with pytest.raises(PublishError, match="published with other content") as caught:
        add_wheel(tree, other)
    assert "build tag 1" in caught.value.hint
    (tree.packages / "demo").mkdir()
    shutil.copy(other, tree.packages / "demo")
    with pytest.raises(FarmError, match="is not what was published"):
        build_index(tree)
    assert not list(tree.packages.glob("demo/*.metadata")), "nothing is served of it"
    shutil.rmtree(tree.packages / "demo")
    add_wheel(tree, tmp_path / NATIVE)
    assert build_index(tree)


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    assert Room(WARN_BELOW + 10).require(10, tmp_path) == ""
    assert "farm index prune" in Room(WARN_BELOW + 10).require(11, tmp_path)
    assert Room(REFUSE_BELOW + 10).require(10, tmp_path)
    with pytest.raises(PublishError, match="must stay") as caught:
        Room(REFUSE_BELOW + 10).require(11, tmp_path)
    assert "prune" in caught.value.hint
    assert Room.of(tmp_path / "not" / "yet").free > 0
