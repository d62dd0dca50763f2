"""Name a faulting instruction: its bytes, its name, and the symbol it is in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from farm.cleanroom.trace import Spot
from farm.verify.code_names import instruction_name

QEMU_PIE_BASE: Final = 0x5555_5555_6000
"""Where QEMU maps a position-independent program of a 64-bit machine."""

_WIDE: Final = 3  # both low bits are set in all but compressed instructions


@dataclass(frozen=True, slots=True)
class Fault:
    """An instruction that the core refused; ``path`` is the one inside the room, ``symbol`` may be empty."""

    instruction: str
    path: str
    offset: int
    symbol: str

    def __str__(self) -> str:
        where = f"{self.path}, {self.symbol}" if self.symbol else f"{self.path}, file offset {self.offset:#x}"
        return f"{self.instruction} in {where}"


def name_fault(spot: Spot, path: str, file: Path) -> Fault | None:
    """Return what is at a place of a file, which is called ``path`` inside; None if it has no such place.

    A spot without a path is an address in the program itself.
    """
    try:
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            offset = spot.offset if spot.path else _in_program(elf, spot.address)
            if offset is None:
                return None
            symbol = _symbol(elf, offset)
            stream.seek(offset)
            return Fault(instruction(stream.read(4)), path, offset, symbol)
    except Exception:  # noqa: BLE001  # pyelftools leaks struct.error, KeyError and more on bad input
        return None


def instruction(data: bytes) -> str:
    """Write an instruction as its word and, where the disassembler knows it, its name."""
    size = 4 if data[:1] and data[0] & _WIDE == _WIDE else 2
    word = data[:size]
    name = instruction_name(word) or "unknown to the disassembler"
    return f"0x{int.from_bytes(word, 'little'):0{2 * size}x} ({name})"


def _in_program(elf: ELFFile, address: int) -> int | None:
    loads = list(elf.iter_segments("PT_LOAD"))
    if elf["e_type"] == "ET_DYN":
        address -= QEMU_PIE_BASE - (min(load["p_vaddr"] for load in loads) & ~0xFFF)
    return next((at for at in elf.address_offsets(address)), None)


def _symbol(elf: ELFFile, offset: int) -> str:
    """Return the function that an offset is in, from the full table or the dynamic one."""
    load = next(
        (s for s in elf.iter_segments("PT_LOAD") if s["p_offset"] <= offset < s["p_offset"] + s["p_filesz"]),
        None,
    )
    if load is None:
        return ""
    address = offset - load["p_offset"] + load["p_vaddr"]
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if (
                symbol["st_info"]["type"] == "STT_FUNC"
                and 0 <= address - symbol["st_value"] < symbol["st_size"]
            ):
                return f"{symbol.name}+{address - symbol['st_value']:#x}"
    return ""
