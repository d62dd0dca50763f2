from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.verify.isa import (
    RV64GC,
    Arch,
    allow_guarded,
    beyond_rv64gc,
    format_arch,
    needs_proof,
    parse_arch,
    settle,
)
from farm.verify.model import Gate, Report, Verdict

SINGLE = st.sampled_from(list("mafdcvbhqp"))
MULTI = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from("zsx"),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=5),
    st.sampled_from("abcdefghijklmnoqrstuvwxyz"),
)
ARCHES = st.builds(
    lambda xlen, names: Arch(xlen, frozenset({"i", *names})),
    st.sampled_from([32, 64]),
    st.frozensets(st.one_of(SINGLE, MULTI), max_size=12),
)


@given(ARCHES)
def test_parse_undoes_format(arch: Arch) -> None:
    assert parse_arch(format_arch(arch)) == arch


@given(ARCHES, st.integers(0, 9), st.integers(0, 9))
def test_versions_are_dropped(arch: Arch, major: int, minor: int) -> None:
    head, *rest = format_arch(arch).split("_")
    text = "_".join(f"{name}{major}p{minor}" for name in (head, *rest))
    assert parse_arch(text) == arch


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_wheel_error(text: str) -> None:
    try:
        arch = parse_arch(text)
    except WheelError:
        return
    assert parse_arch(str(arch)) == arch


@pytest.mark.parametrize(
    "text",
    [
        "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0",
        "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0",
        "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0",
        "rv64imafdc",
        "rv64gc",
    ],
)
def test_what_toolchains_write_for_rv64gc_is_within(text: str) -> None:
    assert beyond_rv64gc(parse_arch(text)) == ()


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("rv64gcv", ("v",)),
        ("rv64gc_zba_zbb", ("zba", "zbb")),
        ("rv64gc_v1p0_zve64d1p0_zvl128b1p0", ("v", "zve64d", "zvl128b")),
        ("rv64gczba1p0", ("zba",)),
        ("rv64gc_xtheadba1p0", ("xtheadba",)),
        ("rv32gc", ("rv32",)),
        ("rv64e2p0", ("e",)),
        ("rv64gc_zihintpause_zicbom", ("zicbom",)),
    ],
)
def test_f05_more_than_rv64gc_is_named(text: str, extra: tuple[str, ...]) -> None:
    assert beyond_rv64gc(parse_arch(text)) == extra


@pytest.mark.parametrize(
    "text", ["", "rv64", "rv128i", "x86-64", "rv64i__m", "rv64i_", "rv64i_2p0", "rv64i-m"]
)
def test_malformed_is_refused(text: str) -> None:
    with pytest.raises(WheelError, match="malformed RISC-V architecture"):
        parse_arch(text)


def test_g_stands_for_its_parts() -> None:
    assert parse_arch("rv64g").extensions < RV64GC


GUARDED = {"numpy/_core/*.so": "picks its kernels by getauxval"}
CORE = Verdict(
    Gate.ISA, False, "numpy/_core/x.so", "contains-extended-code: vadd", "fix", "contains-extended-code"
)
OTHER = Verdict(Gate.ISA, False, "numpy.libs/blas.so", "exceeds-tag: v", "fix", "exceeds-tag")
FINE = Verdict(Gate.ISA, True, "numpy/_core/y.so", "baseline: rv64gc", verdict="baseline")
ABI = Verdict(Gate.ELF, False, "numpy/_core/x.so", "float ABI is soft")


def report(*verdicts: Verdict) -> Report:
    return Report("numpy.whl", "0" * 64, allow_guarded(verdicts, GUARDED))


def test_a_recipes_leave_alone_does_not_pass() -> None:
    found = report(CORE, FINE)
    assert not found.ok
    (pending,) = needs_proof(found)
    assert pending.verdict == "runtime-guarded (needs proof)"
    assert "picks its kernels by getauxval" in pending.evidence
    assert "vadd" in pending.evidence
    assert pending.hint


def test_a_proof_settles_what_the_recipe_names_and_nothing_else() -> None:
    settled = settle(report(CORE, OTHER, FINE, ABI), proven=True, evidence="pytest, log sha256 12ab")
    core, other, fine, abi = settled.verdicts
    assert (other, fine, abi) == (OTHER, FINE, ABI)
    assert (core.ok, core.verdict) == (True, "runtime-guarded")
    assert core.evidence.startswith(
        "runtime-guarded (exercised paths): pytest, log sha256 12ab; the recipe says:"
    )
    assert needs_proof(settled) == ()


def test_an_illegal_instruction_is_a_proven_failure() -> None:
    (core,) = settle(report(CORE), proven=False, evidence="SIGILL in f+0x4").verdicts
    assert (core.ok, core.verdict) == (False, "fail")
    assert core.evidence.startswith("fail, proven: SIGILL in f+0x4; ")


@pytest.mark.parametrize("proven", [True, False])
def test_without_leave_there_is_nothing_to_settle(proven: bool) -> None:
    bare = Report("numpy.whl", "0" * 64, (CORE, OTHER, FINE))
    assert settle(bare, proven=proven, evidence="") == bare
