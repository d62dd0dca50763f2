from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.verify import elf
from farm.verify.elf import read_elf
from farm.verify.isa import IsaVerdict
from farm.verify.model import Gate, Verdict
from tests.unit.verify.wheelkit import EM_X86_64, RV64GC, Sym, make_elf

VADD = bytes.fromhex("d7802102")  # vadd.vv v1, v2, v3
FUNC = 2
ELF = make_elf(
    symbols=(Sym("$xrv64i2p1_m2p0"), Sym("$d", 4), Sym("table", 4, 1, 4)), code=b"\x82\x80\x01\0" + VADD
)


def judge_elf(data: bytes, subject: str) -> tuple[Verdict, ...]:
    try:
        read: elf.Elf | WheelError = read_elf(data, subject)
    except WheelError as error:
        read = error
    return elf.judge_elf(read, subject)


def isa(data: bytes) -> Verdict:
    *_, last = judge_elf(data, "x.so")
    assert last.gate is Gate.ISA
    return last


def test_facts() -> None:
    read = read_elf(make_elf(needed=("libffi.so.8", "libc.so.6")))
    facts = read.facts
    assert (facts.bits, facts.machine, facts.float_abi) == (64, "EM_RISCV", "double")
    assert facts.arch == RV64GC
    assert read.linkage.needed == ("libffi.so.8", "libc.so.6")


def test_good_file_passes_both_gates() -> None:
    assert [(v.gate, v.ok) for v in judge_elf(ELF, "x.so")] == [(Gate.ELF, True), (Gate.ISA, True)]
    assert isa(ELF).verdict == "baseline"


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
    ("data", "verdict", "why"),
    [
        (make_elf("rv64gcv"), IsaVerdict.EXCEEDS_TAG, "rv64gc has no v "),
        (make_elf("rv64gcv", code=VADD), IsaVerdict.EXCEEDS_TAG, "vadd.vv"),
        (make_elf(None), IsaVerdict.UNKNOWN, "no Tag_RISCV_arch attribute; 2 bytes of code are all rv64gc"),
        (make_elf(None, code=VADD), IsaVerdict.UNKNOWN, "vadd.vv in .text, at 0x1000"),
        (make_elf("nonsense"), IsaVerdict.UNKNOWN, "malformed"),
        (make_elf(section_headers=False), IsaVerdict.UNKNOWN, "no Tag_RISCV_arch"),
        (
            make_elf(symbols=(Sym("$x"), Sym("$xrv64i2p1_v1p0_zve32x1p0"))),
            IsaVerdict.EXTENDED_CODE,
            "mapping symbols name v, zve32x",
        ),
        (make_elf(symbols=(Sym("$xrv64nonsense%"),)), IsaVerdict.EXTENDED_CODE, "rv64nonsense%"),
        (
            make_elf(code=b"\x01\0" + VADD, symbols=(Sym("sum", 2, FUNC, 4),)),
            IsaVerdict.EXTENDED_CODE,
            "1 instruction that rv64gc does not have: vadd.vv in sum, at 0x1002",
        ),
        (
            make_elf(code=bytes.fromhex("0b00a900")),
            IsaVerdict.EXTENDED_CODE,
            "unknown 32-bit instruction 0x00a9000b in .text, at 0x1000 (may be data)",
        ),
        (make_elf(code=VADD * 200_001), IsaVerdict.EXTENDED_CODE, "at least 200000 instructions"),
        (make_elf(code=VADD[:2]), IsaVerdict.EXTENDED_CODE, "unknown 16-bit instruction 0x80d7"),
    ],
)
def test_f05_isa_gate_fails(data: bytes, verdict: IsaVerdict, why: str) -> None:
    found = isa(data)
    assert not found.ok
    assert found.verdict == verdict
    assert found.evidence.startswith(f"{verdict}: ")
    assert why in found.evidence
    assert found.hint


def test_what_is_not_looked_at_to_its_end_does_not_pass() -> None:
    nobodys = bytes.fromhex("0b00a900") * 200_001
    found = isa(make_elf(code=b"\x82\x80" + nobodys, symbols=(Sym("$x"), Sym("$d", 2))))
    assert (found.ok, found.verdict) == (False, IsaVerdict.UNKNOWN)
    assert "too much data among the code" in found.evidence


def test_a_file_without_section_headers_is_looked_through_all_the_same() -> None:
    found = isa(make_elf(code=VADD, section_headers=False))
    assert "without section headers, data and code look alike" in found.evidence


@pytest.mark.parametrize("isa_string", ["rv64i2p1_m2p0_c2p0", "rv64gc_zihintpause", "rv64gc_zicbop.loop"])
def test_mapping_symbols_within_rv64gc_or_of_hints_are_fine(isa_string: str) -> None:
    data = make_elf(symbols=(Sym("$x"), Sym("$d"), Sym(f"$x{isa_string}")))
    assert isa(data).ok


def test_names_in_a_file_do_not_reach_the_terminal_as_they_are() -> None:
    symbols = (Sym("a\n\x1b[2Jb" + "c" * 200, 0, FUNC, 4), Sym("$xrv64gc\n"))
    found = isa(make_elf(code=VADD, symbols=symbols, needed=("lib\n.so",)))
    assert found.evidence.isprintable()
    assert "in a??[2Jbccc" in found.evidence
    assert "c" * 200 not in found.evidence


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
