"""Which function a faulting instruction is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.cleanroom.fault import QEMU_PIE_BASE, name_fault
from farm.cleanroom.trace import Spot
from tests.unit.verify import peer
from tests.unit.verify.linkkit import make_library


def test_functions_of_real_libraries_are_found() -> None:
    """pyelftools says where they are."""
    named = 0
    for path in peer.own_libraries():
        for offset, names in list(peer.functions(path).items())[:20]:
            found = name_fault(Spot(0, "/lib/x.so", offset), "/lib/x.so", path)
            assert found is not None
            name, _, inside = found.symbol.partition("+")
            # one function may begin within another: aliases, and entries of hand-written assembly
            assert inside != "0x0" or name in names
            named += inside == "0x0"
    assert named >= 3


def test_an_address_in_the_program_itself(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(make_library())
    found = name_fault(Spot(QEMU_PIE_BASE + 0x40, "", 0), "/bin/program", program)
    assert found is not None
    assert (found.offset, found.symbol) == (0x40, "")
    assert name_fault(Spot(QEMU_PIE_BASE + (1 << 20), "", 0), "/bin/program", program) is None


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh", b"\x7fELF", make_library()[:300]])
def test_what_is_no_whole_elf_file_has_no_place(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.so").write_bytes(data)
    assert name_fault(Spot(0, "/x.so", 64), "/x.so", tmp_path / "x.so") is None
    assert name_fault(Spot(0, "/x.so", 64), "/x.so", tmp_path / "gone.so") is None
