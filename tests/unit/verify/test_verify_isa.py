from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.verify.isa import RV64GC, Arch, beyond_rv64gc, format_arch, parse_arch

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
