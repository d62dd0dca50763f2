from __future__ import annotations

import re

import capstone
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farm.verify.code_rv64gc import ENCODINGS, ends_flow, foreign, halfwords, is_rv64gc
from farm.verify.code_scan import Scan, scan_code
from farm.verify.image import read_image
from tests.unit.verify.wheelkit import Sym, make_elf

MACHINE = capstone.Cs(
    capstone.CS_ARCH_RISCV,
    capstone.CS_MODE_RISCV64
    | capstone.CS_MODE_RISCV_C
    | capstone.CS_MODE_RISCV_FD
    | capstone.CS_MODE_RISCV_A,
)
# As the manual lists them, and the pseudo-instructions that capstone writes instead of some.
BASE = re.compile(
    r"lui|auipc|jalr?|b(eq|ne|lt|ge|ltu|geu)|l[bhw]u?|ld|s[bhwd]|(add|xor|or|and)i?|slti?u?|s(ll|rl|ra)i?w?|sub|addi?w"
    r"|subw|fence(\.i)?|ecall|ebreak|mul|mulh(s?u)?|divu?w?|remu?w?|mulw|f[ls][wd]|amo(add|swap|xor|and|or|minu?|maxu?)"
    r"\.[wd](\.aq|\.rl|\.aqrl)?|(lr|sc)\.[wd](\.aq|\.rl|\.aqrl)?|li|mv|not|negw?|sext\.w|s(eq|ne|lt|gt)z|b(eq|ne|le|ge|lt|gt)z"
    r"|j|jr|ret|nop|rdtime|f(add|sub|mul|div|sqrt|sgnj|sgnjn|sgnjx|min|max|eq|lt|le|class|madd|msub|nmadd|nmsub|mv|neg|abs)"
    r"\.[sd]|fcvt\.(wu?|lu?)\.[sd]|fcvt\.[sd]\.(wu?|lu?)|fcvt\.(s\.d|d\.s)|fmv\.(x\.[wd]|[wd]\.x)"
)
OBJECT, FUNC = 1, 2
VADD, RET, NOP, J = (bytes.fromhex(text) for text in ("d7802102", "8280", "0100", "01a0"))
XTHEAD = bytes.fromhex("0b95c502")  # th.addsl, custom-0
CUSTOM = bytes.fromhex("0b00a900")  # custom-0 that nobody is known to have

KNOWN = st.sampled_from(ENCODINGS)
WORDS = st.one_of(
    st.integers(0, 2**32 - 1),
    # Close to real encodings, where a mistake in a mask would show.
    st.builds(lambda e, noise: e.match | (noise & ~e.mask), KNOWN, st.integers(0, 2**32 - 1)),
    st.builds(
        lambda e, noise, bit: (e.match | (noise & ~e.mask)) ^ 1 << bit,
        KNOWN,
        st.integers(0, 2**32 - 1),
        st.integers(0, 31),
    ),
)


def instruction(word: int) -> bytes:
    size = 4 if word & 3 == 3 else 2
    return (word & (1 << 8 * size) - 1).to_bytes(size, "little")


def decoded(word: int) -> str:
    """What capstone, told of rv64gc only, reads; empty if nothing, or nothing of that length."""
    found = next(MACHINE.disasm_lite(instruction(word), 0, count=1), None)
    return f"{found[2]} {found[3]}".strip() if found and found[1] == len(instruction(word)) else ""


@settings(max_examples=2000)
@given(WORDS)
def test_what_is_on_the_list_capstone_knows_as_rv64gc(word: int) -> None:
    fence = word & 0x7F == 0x0F  # fields that a core must ignore are zero for capstone
    if is_rv64gc(word) and not fence:
        assert decoded(word), f"{word:#010x}"


@settings(max_examples=2000)
@given(WORDS.map(lambda word: word | 3))
def test_what_capstone_knows_as_rv64gc_is_on_the_list(word: int) -> None:
    if BASE.fullmatch(decoded(word).split(" ")[0]):
        assert is_rv64gc(word), f"{word:#010x} {decoded(word)}"


def test_of_compressed_instructions_capstone_knows_no_more_than_zcb_and_zcmop() -> None:
    more = {decoded(w).split(" ")[0] for w in range(1 << 16) if w & 3 != 3 and not is_rv64gc(w)} - {""}
    zcb = {
        "lbu",
        "lhu",
        "lh",
        "sb",
        "sh",
        "mul",
        "not",
        "andi",
        "zext.b",
        "zext.h",
        "sext.b",
        "sext.h",
        "zext.w",
    }
    reserved = {"lui", "c.lui"}  # with an immediate of zero
    assert more <= zcb | reserved | {f"cmop.{n}" for n in range(1, 16, 2)}
    assert {"lbu", "mul", "cmop.1"} <= more


@pytest.mark.parametrize(
    ("word", "fine"),
    [
        (0x0100000F, True),  # pause
        (0x00200033, True),  # ntl.p1
        (0x00106013, True),  # prefetch.r
        (0x00000017, True),  # lpad
        (0xC0102573, True),  # rdtime
        (0xC0002573, False),  # rdcycle: SIGILL since Linux 6.6
        (0xC2202573, False),  # csrr a0, vlenb
        (0x81C04073, False),  # mop.r.0
        (0x6081, False),  # c.mop.1
        (0x10500073, False),  # wfi
        (0x00000000, True),  # compilers' trap
        (0xC0001073, True),  # the same
        (0xFFFFFFFF, False),
        (0x0000001F, False),  # 48 bits
    ],
)
def test_hints_run_everywhere_and_what_may_trap_does_not_pass(word: int, fine: bool) -> None:
    assert is_rv64gc(word) is fine


@given(st.lists(st.one_of(WORDS.map(instruction), st.binary(min_size=2, max_size=6)), max_size=40))
@example([VADD, RET])
def test_the_walk_agrees_with_one_word_at_a_time(parts: list[bytes]) -> None:
    code = b"".join(parts)
    code = code[: len(code) // 2 * 2]
    expected, at = [], 0
    while at < len(code):
        word = int.from_bytes(code[at : at + 4], "little")
        size = 4 if word & 3 == 3 else 2
        if at + size > len(code) or not is_rv64gc(word):
            expected.append(at // 2)
        at += size
    text = halfwords(code)
    assert list(foreign(text, 0, len(text))) == expected


def scan(code: bytes, *symbols: Sym) -> Scan:
    return scan_code(read_image(make_elf(code=code, symbols=symbols)))


def test_extended_code_is_named_by_function_address_and_instruction() -> None:
    found = scan(NOP + VADD + XTHEAD + RET + VADD, Sym("first", 0, FUNC, 12), Sym("second", 12, FUNC, 4))
    assert [(p.name, p.first, p.count, p.may_be_data) for p in found.places] == [
        ("first", 0x1002, 2, False),
        ("second", 0x100C, 1, False),
    ]
    assert found.places[0].names == ("vadd.vv", "th.addsl")
    assert found.whole


def test_stripped_code_is_named_by_section() -> None:
    (place,) = scan(RET + CUSTOM).places
    assert (place.name, place.first, place.names) == (
        ".text",
        0x1002,
        ("unknown 32-bit instruction 0x00a9000b",),
    )
    assert place.may_be_data


@pytest.mark.parametrize("foreign_code", [VADD, XTHEAD, CUSTOM])
def test_instructions_written_as_data_are_code_where_execution_runs_into_them(foreign_code: bytes) -> None:
    (place,) = scan(NOP * 2 + foreign_code + RET, Sym("$x"), Sym("$d", 4), Sym("$x", 8)).places
    assert place.first == 0x1004
    (place,) = scan(NOP * 2 + foreign_code + RET, Sym("table", 4, OBJECT, 4)).places
    assert place.first == 0x1004
    assert scan(foreign_code + RET, Sym("$d"), Sym("$x", 4)).count == 1


@pytest.mark.parametrize(
    "jump", [RET, J, b"\0\0", bytes.fromhex("6f00a000"), bytes.fromhex("73001000"), RET + NOP]
)
def test_data_behind_a_jump_counts_only_if_it_is_an_instruction(jump: bytes) -> None:
    at = len(jump)
    assert scan(jump + CUSTOM, Sym("$d", at)).count == 0
    (place,) = scan(jump + CUSTOM + VADD, Sym("$d", at)).places
    assert (place.first, place.names, place.may_be_data) == (0x1004 + at, ("vadd.vv",), True)


def test_data_marked_inside_a_function_is_code() -> None:
    (place,) = scan(RET + CUSTOM + RET, Sym("f", 2, FUNC, 6), Sym("$d", 2), Sym("$x", 6)).places
    assert (place.name, place.first) == ("f", 0x1002)


def test_a_table_behind_a_return_is_data() -> None:
    nop = bytes.fromhex("13000000")
    assert scan(RET + NOP + nop + VADD + CUSTOM, Sym("table", 8, OBJECT, 8)).count == 0
    assert scan(RET + NOP + nop + VADD + CUSTOM, Sym("table", 8, OBJECT, 4)).count == 1


def test_data_that_looks_like_half_an_instruction_hides_none() -> None:
    half = b"\x13\0"
    (place,) = scan(RET + half + VADD, Sym("$d", 2), Sym("$x", 4)).places
    assert place.first == 0x1004


@given(
    st.binary(min_size=1, max_size=64),
    st.lists(
        st.builds(
            Sym,
            st.sampled_from(["$x", "$d", "f", ""]),
            st.integers(0, 70),
            st.integers(0, 4),
            st.integers(0, 2**60),
        ),
        max_size=6,
    ),
)
def test_any_bytes_and_symbols_give_a_scan(code: bytes, symbols: list[Sym]) -> None:
    assert scan(code, *symbols).size == len(code)


def test_the_beginning_of_a_file_is_nobodys_end() -> None:
    assert not ends_flow("", 0)
