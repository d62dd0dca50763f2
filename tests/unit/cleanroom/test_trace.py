from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cleanroom.fault import instruction, name_fault
from farm.cleanroom.trace import Spot, Trace

OPENED = b'7 openat(AT_FDCWD,"/x/lib.so",O_RDONLY|O_CLOEXEC) = 3'
MAPPED = b"7 mmap(NULL,8400,PROT_EXEC|PROT_READ,MAP_PRIVATE|MAP_DENYWRITE,3,0) = 0x00007f1044639000"
DATA = b"7 mmap(0x1,8192,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_FIXED,3,0x2000) = 0x00007f104463a000"
SIGILL = b"--- SIGILL {si_signo=SIGILL, si_code=1, si_addr=0x00007f10446393b0} ---"


def _trace(*lines: bytes) -> Trace:
    trace = Trace("/usr/bin/python3")
    for line in lines:
        trace.feed(line)
    return trace


def test_an_address_is_a_place_in_the_file_that_was_mapped_there() -> None:
    assert _trace(OPENED, MAPPED, DATA, SIGILL).spots == [Spot(0x7F10446393B0, "/x/lib.so", 0x3B0)]


def test_a_later_mapping_hides_an_earlier_one() -> None:
    late = SIGILL.replace(b"46393b0", b"463a010")
    assert _trace(OPENED, MAPPED, DATA, late).spots[0].offset == 0x2010


def test_a_file_of_another_process_is_not_taken() -> None:
    assert _trace(OPENED.replace(b"7 ", b"8 ", 1), MAPPED, SIGILL).spots[0].path == ""


def test_lines_that_run_into_each_other_are_read() -> None:
    assert _trace(b"9 futex(0x1,0)" + OPENED, MAPPED, SIGILL).spots[0].path == "/x/lib.so"


def test_the_program_is_the_one_that_was_started_last() -> None:
    trace = _trace(b'2 execve("/room/venv/bin/tool",{"tool"})', SIGILL)
    assert (trace.program, trace.spots[0].path) == ("/room/venv/bin/tool", "")


@given(st.lists(st.binary(max_size=60) | st.sampled_from([OPENED, MAPPED, DATA, SIGILL]), max_size=20))
def test_nothing_that_a_stranger_writes_breaks_it(lines: list[bytes]) -> None:
    _trace(*lines)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("d777000c", "0x0c0077d7 (vsetvli)"),
        ("57858002", "0x02808557 (vadd.vv)"),
        ("07050502", "0x02050507 (vle8.v)"),
        ("3345b520", "0x20b54533 (sh2add)"),  # of Zba
        ("8280d777", "0x8082 (ret)"),
        ("0b000000", "0x0000000b (unknown to the disassembler)"),  # custom-0
        ("", "0x0000 (unknown to the disassembler)"),
    ],
)
def test_an_instruction_is_written_with_its_name(data: str, text: str) -> None:
    assert instruction(bytes.fromhex(data)) == text


@given(data=st.binary(max_size=300), offset=st.integers(0, 400))
def test_a_file_that_is_no_elf_file_has_no_instruction(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "file"
    file.write_bytes(b"\x7fELF" + data)
    name_fault(Spot(1, "/x", offset), "/x", Path(file))
    assert name_fault(Spot(1, "/x", offset), "/x", file.with_name("absent")) is None
