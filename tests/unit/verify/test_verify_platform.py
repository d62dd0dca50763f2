"""Gate 4: platform tags that promise no more than the files keep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import UpstreamError
from farm.verify import Allowances, Gate, Report, Verdict
from farm.verify.judge import verify_wheel
from farm.verify.linkage import Linkage
from farm.verify.platform import fitting_tag, judge_platform
from farm.wheel_name import parse_name
from tests.unit.verify.linkkit import make_library
from tests.unit.verify.wheelkit import MODULE, make_elf, write_wheel

OLD, NEW = "manylinux_2_31_riscv64", "manylinux_2_41_riscv64"
GRAFT = Linkage(needed=("libx-1.so",), rpath=("$ORIGIN/../demo.libs",))


def judge(
    platform: str, elves: dict[str, Linkage], packages: Mapping[str, str] | None = None, **known: str
) -> tuple[Verdict, ...]:
    def lookup(names: Collection[str]) -> Mapping[str, str | None]:
        return {name: known.get(name.partition(".")[0]) for name in names}

    name = parse_name(f"demo-1.0-cp313-cp313-{platform}.whl")
    return judge_platform(elves, name, packages or {}, lookup)


def needing(*versions: str, library: str = "libc.so.6") -> dict[str, Linkage]:
    return {"demo/a.so": Linkage(needed=(library,), versions={library: versions})}


def glibc(minor: int) -> str:
    return f"GLIBC_2.{minor}"


def test_a_lying_tag_names_symbol_library_and_the_right_tag(tmp_path: Path) -> None:
    elf = make_library(versions={"libc.so.6": ["GLIBC_2.27", "GLIBC_2.38"]})
    path = write_wheel(tmp_path, f"demo-1.0-cp313-cp313-{OLD}.whl", {MODULE: elf})
    (failure,) = verify_wheel(path).failures
    assert (failure.gate, failure.subject) == (Gate.PLATFORM, MODULE)
    assert failure.evidence == f"needs GLIBC_2.38 of libc.so.6, which {OLD} does not promise"
    assert "manylinux_2_38_riscv64" in failure.hint


@given(st.sampled_from([31, 34, 35, 36, 37, 38, 39, 40, 41, 42]), st.integers(27, 42))
def test_glibc_symbols_fit_the_promised_glibc(promised: int, needed: int) -> None:
    verdicts = judge(f"manylinux_2_{promised}_riscv64", needing(glibc(needed)))
    assert all(verdict.ok for verdict in verdicts) is (needed <= promised)


@given(st.lists(st.integers(27, 41), min_size=1))
def test_the_fitting_tag_is_honest(needed: list[int]) -> None:
    elves = needing(*(glibc(minor) for minor in needed))
    tag = fitting_tag(elves)
    assert all(verdict.ok for verdict in judge(tag, elves))
    assert int(tag.split("_")[2]) >= max(needed)


def test_of_several_tags_the_oldest_counts() -> None:
    both = f"{OLD}.manylinux_2_39_riscv64"
    assert not all(verdict.ok for verdict in judge(both, needing("GLIBC_2.39")))
    assert all(verdict.ok for verdict in judge(both, needing("GLIBC_2.31")))


@pytest.mark.parametrize(
    ("version", "library"),
    [
        ("GLIBCXX_3.4.32", "libstdc++.so.6"),
        ("CXXABI_1.3.14", "libstdc++.so.6"),
        ("GCC_14.0.0", "libgcc_s.so.1"),
        ("GLIBC_PRIVATE", "libc.so.6"),
        ("GLIBC_ABI_DT_RELR", "libc.so.6"),
    ],
)
def test_other_symbol_versions_fit_the_policy(version: str, library: str) -> None:
    (verdict,) = judge(OLD, needing(version, library=library))
    assert not verdict.ok
    assert version in verdict.evidence


def test_versions_of_a_grafted_library_are_its_own_business() -> None:
    elves = {
        "demo/a.so": Linkage(
            needed=("libstdc++-1.so",), rpath=GRAFT.rpath, versions={"libstdc++-1.so": ("GLIBCXX_3.4.99",)}
        ),
        "demo.libs/libstdc++-1.so": Linkage(soname="libstdc++-1.so"),
    }
    assert all(verdict.ok for verdict in judge(OLD, elves))


def test_f07_a_library_outside_the_policy_is_named_with_its_package() -> None:
    elves = {"demo/a.so": Linkage(needed=("libopenblas.so.0", "libnuma.so.1", "libc.so.6"))}
    verdicts = judge(NEW, elves, libopenblas="libopenblas0-pthread")
    assert [verdict.evidence for verdict in verdicts] == [
        f"needs libopenblas.so.0 (Debian package libopenblas0-pthread), which {NEW} does not promise",
        f"needs libnuma.so.1 (in no Debian package), which {NEW} does not promise",
    ]


def test_f07_offline_the_package_is_not_known(tmp_path: Path) -> None:
    def offline(_: Collection[str]) -> Mapping[str, str | None]:
        raise UpstreamError("the mirror does not answer")

    path = write_wheel(tmp_path, files={MODULE: make_elf(needed=("libnuma.so.1",))})
    assert "its Debian package is not known: the mirror does not answer" in only(
        verify_wheel(path, packages=offline)
    )
    assert "libnuma.so.1 (its Debian package is not known)" in only(verify_wheel(path))


def only(report: Report) -> str:
    (failure,) = report.failures
    return failure.evidence


def test_libpython_is_nobodys_to_need() -> None:
    assert (
        "libpython3.13.so.1.0" in judge(NEW, {"a.so": Linkage(needed=("libpython3.13.so.1.0",))})[0].evidence
    )


def test_a_library_in_the_wheel_that_nobody_finds() -> None:
    elves = {"demo/a.so": Linkage(needed=("libx-1.so",)), "demo.libs/libx-1.so": Linkage(soname="libx-1.so")}
    (verdict,) = judge(NEW, elves)
    assert (
        verdict.evidence == "needs libx-1.so, which is in the wheel (demo.libs/libx-1.so) but on no run path"
    )


def test_a_run_path_to_the_builders_home() -> None:
    (verdict,) = judge(NEW, {"a.so": Linkage(runpath=("/home/wheelfarm/lib", "$ORIGIN"))})
    assert "searches libraries in /home/wheelfarm/lib" in verdict.evidence


def test_private_symbols_of_zlib() -> None:
    elves = {"a.so": Linkage(needed=("libz.so.1",), undefined=frozenset({"inflate_fast", "inflate"}))}
    (verdict,) = judge(NEW, elves)
    assert verdict.evidence == "uses inflate_fast, which libz.so.1 keeps to itself"


def test_a_musl_wheel_needs_musl() -> None:
    musl = {"a.so": Linkage(needed=("libc.musl-riscv64.so.1",))}
    assert all(verdict.ok for verdict in judge("musllinux_1_2_riscv64", musl))
    assert all(verdict.ok for verdict in judge("musllinux_1_2_riscv64", {"a": Linkage(needed=("libc.so",))}))
    assert not all(verdict.ok for verdict in judge("musllinux_1_2_riscv64", needing("GLIBC_2.27")))
    assert not all(verdict.ok for verdict in judge(f"{OLD}.musllinux_1_2_riscv64", musl))
    assert all(verdict.ok for verdict in judge(f"{OLD}.musllinux_1_2_riscv64", {"static": Linkage()}))


@pytest.mark.parametrize("platform", ["manylinux2014_riscv64", "weird_riscv64"])
def test_a_tag_that_nobody_knows(platform: str) -> None:
    (verdict,) = judge(platform, needing("GLIBC_2.27"))
    assert not verdict.ok


def test_linux_tag_where_repair_is_possible() -> None:
    (verdict,) = judge("linux_riscv64", needing("GLIBC_2.34"), {"libfoo.so.1": "because"})
    assert not verdict.ok
    assert "would fit manylinux_2_34_riscv64" in verdict.evidence


LINUX = {"demo/a.so": Linkage(needed=("libfoo.so.1", "libc.so.6"))}


def test_linux_tag_fails_without_the_recipes_leave() -> None:
    (verdict,) = judge("linux_riscv64", LINUX, libfoo="libfoo1")
    assert not verdict.ok
    assert "libfoo.so.1 (Debian package libfoo1)" in verdict.evidence
    assert "system_libraries: {libfoo.so.1: why}" in verdict.hint


def test_linux_tag_with_the_recipes_leave_names_what_to_install() -> None:
    leave = {"libfoo.so.1": "a plug-in loader"}
    whole, note = judge("linux_riscv64", LINUX, leave, libfoo="libfoo1 | libfoo1t64")
    assert whole.ok
    assert whole.evidence == "linux_riscv64, for it needs of its user's system: libfoo.so.1"
    assert (note.ok, note.subject, note.verdict) == (True, "demo/a.so", "system-library")
    assert note.evidence == "needs libfoo.so.1 (Debian package libfoo1 | libfoo1t64): a plug-in loader"
    assert note.hint == "apt install libfoo1"
    _, unknown = judge("linux_riscv64", LINUX, leave)
    assert "in no Debian package" in unknown.evidence
    assert "apt" not in unknown.hint


def test_linux_tag_with_leave_for_another_library() -> None:
    (verdict,) = judge("linux_riscv64", LINUX, {"libbar.so.2": "because"}, libfoo="libfoo1")
    assert not verdict.ok
    assert "libfoo.so.1" in verdict.hint


def test_linux_wheel_through_all_gates(tmp_path: Path) -> None:
    elf = make_elf(needed=("libfoo.so.1",))
    path = write_wheel(tmp_path, "demo-1.0-cp313-cp313-linux_riscv64.whl", {MODULE: elf})
    assert not verify_wheel(path).ok
    assert verify_wheel(path, allow=Allowances(system_libraries={"libfoo.so.1": "because"})).ok


def test_grafted_libraries_are_listed(tmp_path: Path) -> None:
    files = {
        MODULE: make_library(needed=("libx-1.so",), rpath="$ORIGIN/../demo.libs"),
        "demo.libs/libx-1.so": make_library(soname="libx-1.so"),
    }
    report = verify_wheel(write_wheel(tmp_path, files=files))
    assert report.ok, report.failures
    (grafted,) = [
        verdict
        for verdict in report.verdicts
        if verdict.subject.startswith("demo.libs/") and verdict.gate is Gate.PLATFORM
    ]
    assert grafted.evidence.startswith("grafted: libx-1.so, ")
