"""What ELF files ask of the loader, and where it would look."""

from __future__ import annotations

import contextlib
import re
import string
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.verify.elf import read_elf
from farm.verify.image import read_image
from farm.verify.linkage import Linkage, linkage_of
from farm.verify.loading import Lacking, expanded, installed, leaks, load
from tests.unit.verify import peer
from tests.unit.verify.linkkit import make_library
from tests.unit.verify.wheelkit import make_elf

names = st.text(string.ascii_letters + string.digits + "._+-", min_size=1, max_size=20)
GOOD = make_library(soname="libx.so.1", versions={"libc.so.6": ["GLIBC_2.27"]}, undefined=["Py_Foo"])
HASHED = make_library(versions={"libc.so.6": ["GLIBC_2.27"]}, undefined=["Py_Foo"], gnu_hash=True)
NEEDED, STRTAB, SYMTAB, STRSZ, VERNEED = 1, 5, 6, 10, 0x6FFFFFFE


def read_linkage(data: bytes) -> Linkage:
    return linkage_of(read_image(data))


@settings(max_examples=50)
@given(
    names,
    st.lists(names, max_size=5),
    st.dictionaries(names, st.lists(names, min_size=1, max_size=4), max_size=3),
    st.lists(names, max_size=6, unique=True),
    st.lists(names, max_size=3),
)
def test_all_that_a_library_asks_for_is_read(
    soname: str, needed: list[str], versions: dict[str, list[str]], undefined: list[str], paths: list[str]
) -> None:
    data = make_library(
        soname=soname, needed=needed, versions=versions, undefined=undefined, runpath=":".join(paths)
    )
    read = read_linkage(data)
    assert (read.soname, read.needed, read.runpath) == (soname, tuple(needed), tuple(paths))
    assert read.versions == {library: tuple(found) for library, found in versions.items()}
    assert read.undefined == set(undefined)


def test_weak_symbols_are_not_wanted() -> None:
    assert read_linkage(make_library(undefined=["a"], weak=["b"])).undefined == {"a"}


def test_a_file_of_sections_only() -> None:
    assert read_linkage(make_elf(needed=("liba.so.1", "libc.so.6"))).needed == ("liba.so.1", "libc.so.6")


def test_a_gnu_hash_table_says_how_many_symbols_there_are() -> None:
    assert read_linkage(make_library(undefined=["a", "b"], gnu_hash=True)).undefined == {"a", "b"}


def test_of_a_table_that_is_listed_twice_the_last_counts_as_for_the_loader() -> None:
    strings = GOOD.index(b"\0libc.so.6\0")
    data = make_library(needed=["libc.so.6"], more_tags=[(STRTAB, strings + 2), (STRSZ, 9)])
    assert read_linkage(data).needed == ("bc.so.6",)


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        (NEEDED, 1 << 20, "outside of its string table"),
        (STRSZ, 2, "outside of its string table"),
        (STRTAB, 1 << 40, "in no part that is loaded"),
        (SYMTAB, 1 << 63, "in no part that is loaded"),
        (VERNEED, 8, "truncated or corrupt"),
    ],
)
def test_what_the_loader_would_read_elsewhere_is_not_passed_over(tag: int, value: int, why: str) -> None:
    data = make_library(undefined=["Py_Foo"], more_tags=[(tag, value)])
    with pytest.raises(WheelError, match=why):
        read_linkage(data)
    # and so it fails a gate: nothing else would say that these needs were not judged
    with pytest.raises(WheelError):
        read_elf(data)


def test_needs_without_end() -> None:
    with pytest.raises(WheelError, match="more than 10000 tags"):
        read_linkage(make_library(needed=["a"] * 10_001))


def test_versions_that_lead_back_end() -> None:
    data = bytearray(make_library(versions={"libc.so.6": ["GLIBC_2.27"], "libm.so.6": ["GLIBC_2.29"]}))
    (first,) = [
        found.start() for found in re.finditer(rb"\x01\x00\x01\x00....\x10\x00\x00\x00[^\x00]", bytes(data))
    ]
    struct.pack_into("<I", data, first + 12, 0xFFFF_FFFF)
    with pytest.raises(WheelError):
        read_linkage(bytes(data))
    struct.pack_into("<H", data, first + 2, 0xFFFF)  # of one library, more than there can be
    with pytest.raises(WheelError, match="symbol versions"):
        read_linkage(bytes(data))


def test_a_hash_chain_without_end() -> None:
    good = make_library(undefined=["a"], gnu_hash=True)
    behind = len(good) // 4
    zeros = good.replace(struct.pack("<II", 2, 0x1235), struct.pack("<II", behind, 0)) + bytes(800_000)
    with pytest.raises(WheelError, match="has no end"):
        read_linkage(zeros)


@settings(max_examples=300, deadline=2000)
@given(
    st.sampled_from([GOOD, HASHED]),
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD) // 4 - 2),
            st.one_of(
                st.integers(0, 255).map(lambda value: bytes([value])),
                st.sampled_from([0, 1, 2, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF]).map(struct.Struct("<I").pack),
                st.sampled_from([0, 64, 1 << 63, (1 << 64) - 1]).map(struct.Struct("<Q").pack),
            ),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_corrupt_file_is_a_wheel_error(good: bytes, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(good)
    for word, value in edits:
        data[4 * word : 4 * word + len(value)] = value
    for read in (read_elf, read_linkage):
        with contextlib.suppress(WheelError):
            read(bytes(data))


@pytest.mark.parametrize("size", [4, 63, 64, 200, len(GOOD) - 300])
def test_a_truncated_file_is_a_wheel_error(size: int) -> None:
    with pytest.raises(WheelError, match="truncated or corrupt"):
        read_linkage(GOOD[:size])


def test_another_reader_finds_the_same_in_real_libraries() -> None:
    """pyelftools is the peer: it shares no line with ours."""
    libraries = peer.own_libraries()
    assert len(libraries) >= 3
    for path in libraries:
        assert read_linkage(path.read_bytes()) == peer.read(path), path


def is_libc(library: str) -> bool:
    return library == "libc.so.6"


def lacking(elves: dict[str, Linkage]) -> tuple[Lacking, ...]:
    return load(elves, is_libc).lacking


def test_a_run_path_finds_what_auditwheel_grafted() -> None:
    elves = {
        "demo/_core.so": Linkage(needed=("libx-1.so", "libc.so.6"), rpath=("$ORIGIN/../demo.libs",)),
        "demo.libs/libx-1.so": Linkage(soname="libx-1.so", needed=("liby-2.so",), rpath=("$ORIGIN",)),
        "demo.libs/liby-2.so": Linkage(soname="liby-2.so", needed=("libc.so.6",)),
    }
    found = load(elves, is_libc)
    assert found.lacking == ()
    assert found.inside["demo/_core.so"] == {"libx-1.so"}


def test_the_rpath_of_the_loading_file_serves_but_its_runpath_does_not() -> None:
    libraries = {
        "demo.libs/libx.so": Linkage(soname="libx.so", needed=("liby.so",)),
        "demo.libs/liby.so": Linkage(soname="liby.so"),
    }
    with_rpath = Linkage(needed=("libx.so",), rpath=("$ORIGIN/../demo.libs",))
    with_runpath = Linkage(needed=("libx.so",), runpath=("$ORIGIN/../demo.libs",))
    assert lacking({"demo/a.so": with_rpath, **libraries}) == ()
    wrong = Lacking("demo.libs/libx.so", "liby.so", "demo.libs/liby.so")
    assert lacking({"demo/a.so": with_runpath, **libraries}) == (wrong,)


def test_what_is_loaded_already_is_not_searched() -> None:
    elves = {
        "demo/a.so": Linkage(needed=("libx.so", "liby.so"), runpath=("${ORIGIN}",)),
        "demo/libx.so": Linkage(soname="libx.so", needed=("liby.so",)),
        "demo/liby.so": Linkage(soname="liby.so"),
    }
    # breadth first: liby.so is loaded for a.so before libx.so's own needs are looked at
    assert lacking(elves) == ()


def test_what_is_nowhere_is_lacking() -> None:
    assert lacking({"demo/a.so": Linkage(needed=("libnuma.so.1",))}) == (
        Lacking("demo/a.so", "libnuma.so.1", ""),
    )


def test_libraries_that_need_each_other() -> None:
    elves = {
        "libs/a.so": Linkage(soname="a.so", needed=("b.so",), rpath=("$ORIGIN",)),
        "libs/b.so": Linkage(soname="b.so", needed=("a.so",), rpath=("$ORIGIN",)),
    }
    assert lacking(elves) == ()


@given(
    st.dictionaries(
        st.sampled_from(["p/a.so", "p/b.so", "x.libs/c.so", "x.libs/d.so"]),
        st.builds(
            Linkage,
            needed=st.lists(
                st.sampled_from(["a.so", "b.so", "c.so", "d.so", "libc.so.6", "z.so"]), max_size=4
            ),
            rpath=st.lists(st.sampled_from(["$ORIGIN", "$ORIGIN/../x.libs", "/usr/lib"]), max_size=2),
            runpath=st.lists(st.sampled_from(["$ORIGIN", "$ORIGIN/../p"]), max_size=1),
        ),
    )
)
def test_each_need_is_inside_or_of_the_system_or_lacking(elves: dict[str, Linkage]) -> None:
    found = load(elves, is_libc)
    for path, linkage in elves.items():
        absent = {item.library for item in found.lacking if item.path == path}
        for library in linkage.needed:
            assert library in found.inside[path] or is_libc(library) or library in absent
    assert all(item.elsewhere in {"", *elves} for item in found.lacking)


def test_where_an_installer_puts_things() -> None:
    assert installed("demo-1.data/platlib/demo/a.so") == installed("demo/a.so")
    assert expanded("$ORIGIN/../lib", "demo-1.data/scripts/tool").endswith("/bin/../lib")


@pytest.mark.parametrize(
    ("entry", "bad"),
    [
        ("$ORIGIN", False),
        ("$ORIGIN/../demo.libs", False),
        ("${ORIGIN}/lib", False),
        ("/usr/lib/riscv64-linux-gnu/", False),
        ("/home/builder/lib", True),
        ("lib", True),
        (".", True),
    ],
)
def test_run_paths_that_lead_to_the_builder(entry: str, *, bad: bool) -> None:
    assert leaks(entry) is bad
