from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import InputError, WheelError
from farm.verify.compare import Contents, Kind, Member, compare, compare_wheels, explain
from tests.unit.verify.wheelkit import NATIVE, RV64GC, make_elf, wheel_members, write_wheel, zip_bytes


def wheels(tmp_path: Path, second: dict[str, bytes], name: str = NATIVE) -> tuple[Path, Path]:
    (tmp_path / "other").mkdir()
    first, other = write_wheel(tmp_path), tmp_path / "other" / name
    other.write_bytes(zip_bytes(second))
    return first, other


def test_equal_files_are_identical(tmp_path: Path) -> None:
    found = compare_wheels(*wheels(tmp_path, wheel_members(NATIVE)))
    assert found.identical
    assert found.differences == ()
    assert found.sha256[0] == found.sha256[1]


def test_what_differs_is_named_with_how(tmp_path: Path) -> None:
    members = wheel_members(NATIVE)
    module = next(name for name in members if name.endswith(".so"))
    members[module] = make_elf(RV64GC, needed=("libm.so.6",))
    members["demo-1.0.dist-info/METADATA"] += b"Classifier: x\n"
    members["demo/new.py"] = b""
    del members["demo/__init__.py"]
    found = compare_wheels(*wheels(tmp_path, members))
    assert not found.identical
    kinds = {item.member: item for item in found.differences}
    assert kinds["demo/new.py"].kind is Kind.ONLY_SECOND
    assert kinds["demo/__init__.py"].kind is Kind.ONLY_FIRST
    assert "section .dynstr" in kinds[module].detail
    assert "+Classifier: x" in kinds["demo-1.0.dist-info/METADATA"].detail
    assert not [item for item in found.differences if item.kind is Kind.ORDER]


def test_how_members_lie_in_the_archive_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = write_wheel(tmp_path), tmp_path / "other" / NATIVE
    content = list(reversed(wheel_members(NATIVE).items()))
    with zipfile.ZipFile(second, "w") as archive:
        for name, data in content:
            info = zipfile.ZipInfo(name, (2024, 2, 3, 4, 5, 6))
            info.external_attr = 0o100755 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    found = compare_wheels(first, second)
    assert {item.kind for item in found.differences} == {Kind.TIME, Kind.MODE, Kind.COMPRESSION, Kind.ORDER}
    assert any("then 2024-02-03 04:05:06" in item.detail for item in found.differences)


def test_the_archive_s_own_fields_and_names_count(tmp_path: Path) -> None:
    first, second = wheels(tmp_path, wheel_members(NATIVE))
    with zipfile.ZipFile(second, "a") as archive:
        archive.comment = b"built at noon"
    (only,) = compare_wheels(first, second).differences
    assert only.kind is Kind.CONTAINER
    renamed = first.with_name(NATIVE.replace("-1.0-", "-1.0-1-"))
    renamed.write_bytes(first.read_bytes())
    found = compare_wheels(first, renamed)
    assert not found.identical
    assert [item.kind for item in found.differences] == [Kind.NAME]


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    wheel, junk = write_wheel(tmp_path), tmp_path / "junk.whl"
    junk.write_bytes(b"PK")
    with pytest.raises(WheelError, match="not a whole zip"):
        compare_wheels(wheel, junk)
    with pytest.raises(InputError):
        compare_wheels(wheel, tmp_path / "none.whl")


FILES = st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=6), max_size=4)


def contents(files: dict[str, bytes], order: list[str]) -> Contents:
    members = tuple(
        Member(name, files[name].hex(), len(files[name]), (1980, 1, 1, 0, 0, 0), 0, 8) for name in order
    )
    return Contents("demo.whl", repr([(name, files[name]) for name in order]), members)


@given(FILES, FILES, st.data())
def test_exactly_what_differs_is_reported(
    mine: dict[str, bytes], theirs: dict[str, bytes], data: st.DataObject
) -> None:
    orders = [data.draw(st.permutations(sorted(files))) for files in (mine, theirs)]
    first, second = contents(mine, orders[0]), contents(theirs, orders[1])
    found = compare(first, second, lambda path: (mine[path], theirs[path]))
    told = {(item.kind, item.member) for item in found.differences if item.kind is not Kind.ORDER}
    assert told == {
        *((Kind.ONLY_FIRST, path) for path in mine.keys() - theirs.keys()),
        *((Kind.ONLY_SECOND, path) for path in theirs.keys() - mine.keys()),
        *((Kind.CONTENT, path) for path in mine.keys() & theirs.keys() if mine[path] != theirs[path]),
    }
    common = [[path for path in order if path in mine and path in theirs] for order in orders]
    assert any(item.kind is Kind.ORDER for item in found.differences) == (common[0] != common[1])
    assert found.identical == (not found.differences)


@given(st.binary(max_size=40), st.integers(0, 39), st.integers(1, 255))
def test_the_first_byte_that_differs_is_found(data: bytes, at: int, change: int) -> None:
    mine = b"\0" + data
    at %= len(mine)
    theirs = mine[:at] + bytes([mine[at] ^ change]) + mine[at + 1 :]
    if b"\0" in mine and b"\0" in theirs:
        assert explain("a.bin", mine, theirs) == f"first at byte {at}"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_damaged_elf_files_are_explained_too(mine: bytes, theirs: bytes) -> None:
    assert explain("a.so", b"\x7fELF" + mine, b"\x7fELF" + theirs + b"x")
