from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.verify.elf import judge_elf, read_elf
from farm.verify.model import Gate
from tests.unit.verify.wheelkit import EM_X86_64, RV64GC, make_elf

ELF = make_elf()


def test_facts() -> None:
    facts = read_elf(make_elf(needed=("libffi.so.8", "libc.so.6")))
    assert (facts.bits, facts.machine, facts.float_abi) == (64, "EM_RISCV", "double")
    assert facts.arch == RV64GC
    assert facts.needed == ("libffi.so.8", "libc.so.6")


def test_good_file_passes_both_gates() -> None:
    assert [(v.gate, v.ok) for v in judge_elf(ELF, "x.so")] == [(Gate.ELF, True), (Gate.ISA, True)]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (0x1, "float ABI is soft"),
        (0x3, "float ABI is single"),
        (0x7, "float ABI is quad"),
        (0xD, "RVE"),
        (0x15, "TSO"),
        (0x45, "unknown bits 0x40"),
    ],
)
def test_wrong_abi(flags: int, why: str) -> None:
    (verdict,) = judge_elf(make_elf(flags=flags), "x.so")
    assert verdict.gate is Gate.ELF
    assert not verdict.ok
    assert why in verdict.evidence


def test_wrong_machine_and_class() -> None:
    assert judge_elf(make_elf(machine=EM_X86_64), "x.so")[0].evidence == "EM_X86_64, not EM_RISCV"
    assert judge_elf(make_elf(elf32=True), "x.so")[0].evidence == "ELF32 LSB, not ELF64 LSB"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make_elf("rv64gcv"), "exceeds-tag: rv64gc has no v"),
        (make_elf(None), "no Tag_RISCV_arch"),
        (make_elf("nonsense"), "malformed"),
        (
            make_elf(symbols=("$x", "$xrv64i2p1_v1p0_zve32x1p0")),
            "contains-extended-code: mapping symbols name v, zve32x",
        ),
    ],
)
def test_f05_isa_gate_fails(data: bytes, why: str) -> None:
    verdict = judge_elf(data, "x.so")[-1]
    assert verdict.gate is Gate.ISA
    assert not verdict.ok
    assert why in verdict.evidence
    assert verdict.hint


def test_mapping_symbols_within_rv64gc_are_fine() -> None:
    assert all(v.ok for v in judge_elf(make_elf(symbols=("$x", "$d", "$xrv64i2p1_m2p0_c2p0")), "x.so"))


@given(st.integers(0, len(ELF) - 1))
def test_truncated_file_never_passes(size: int) -> None:
    assert not all(v.ok for v in judge_elf(ELF[:size], "x.so"))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(ELF) - 1), st.integers(0, 255)), max_size=6))
def test_corrupt_file_gives_a_verdict_not_a_traceback(edits: list[tuple[int, int]]) -> None:
    data = bytearray(ELF)
    for at, value in edits:
        data[at] = value
    for verdict in judge_elf(bytes(data), "x.so"):
        assert "\n" not in verdict.evidence


def test_not_elf_is_one_line() -> None:
    with pytest.raises(WheelError, match=r"x\.so: not an ELF file"):
        read_elf(b"#!/bin/sh\n", "x.so")
