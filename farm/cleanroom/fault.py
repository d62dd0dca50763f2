"""Name a faulting instruction: its bytes, its name, and the symbol it is in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.cleanroom.trace import Spot
from farm.errors import WheelError
from farm.verify.code_names import instruction_name
from farm.verify.image import (
    ET_DYN,
    PT_LOAD,
    SHT_DYNSYM,
    SHT_SYMTAB,
    STT_FUNC,
    Image,
    read_image,
    symbols_of,
)

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
        image = read_image(file.read_bytes())
    except (OSError, WheelError):
        return None
    offset = spot.offset if spot.path else _in_program(image, spot.address)
    if offset is None:
        return None
    return Fault(instruction(image.data[offset : offset + 4]), path, offset, _symbol(image, offset))


def instruction(data: bytes) -> str:
    """Write an instruction as its word and, where the disassembler knows it, its name."""
    size = 4 if data[:1] and data[0] & _WIDE == _WIDE else 2
    word = data[:size]
    name = instruction_name(word) or "unknown to the disassembler"
    return f"0x{int.from_bytes(word, 'little'):0{2 * size}x} ({name})"


def _in_program(image: Image, address: int) -> int | None:
    if image.kind == ET_DYN:
        first = min((s.address for s in image.segments if s.kind == PT_LOAD), default=0)
        address -= QEMU_PIE_BASE - (first & ~0xFFF)
    return image.offset_of(address)


def _symbol(image: Image, offset: int) -> str:
    """Return the function that an offset is in, from the full table or the dynamic one."""
    address = image.address_of(offset)
    if address is None:
        return ""
    everywhere = range(len(image.sections))
    for table in (SHT_SYMTAB, SHT_DYNSYM):
        for symbol in symbols_of(image, table, everywhere, (STT_FUNC,)):
            if 0 <= address - symbol.value < symbol.size:
                return f"{symbol.name}+{address - symbol.value:#x}"
    return ""
