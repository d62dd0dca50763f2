"""Names of instructions, for people: what a word that is not rv64gc is, as far as a disassembler knows.

One thing depends on it: words that may be data are only counted if they are known instructions.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import capstone


@cache
def _disassembler() -> capstone.Cs:
    import capstone  # noqa: PLC0415  # 10 MiB with the tables of all other machines; most wheels need no names

    # All that it knows beside RV64GC and can tell apart from it.
    modes = (
        capstone.CS_MODE_RISCV64
        | capstone.CS_MODE_RISCV_C
        | capstone.CS_MODE_RISCV_FD
        | capstone.CS_MODE_RISCV_A
        | capstone.CS_MODE_RISCV_V
        | capstone.CS_MODE_RISCV_ZBA
        | capstone.CS_MODE_RISCV_ZBB
        | capstone.CS_MODE_RISCV_ZBC
        | capstone.CS_MODE_RISCV_ZBS
        | capstone.CS_MODE_RISCV_ZBKB
        | capstone.CS_MODE_RISCV_ZBKC
        | capstone.CS_MODE_RISCV_ZBKX
        | capstone.CS_MODE_RISCV_THEAD
        | capstone.CS_MODE_RISCV_SIFIVE
        | capstone.CS_MODE_RISCV_VENTANA
    )
    return capstone.Cs(capstone.CS_ARCH_RISCV, modes)


@lru_cache(maxsize=1 << 16)
def instruction_name(word: bytes) -> str:
    """Return how an instruction of two or four bytes is written in assembly, or an empty string if unknown.

    Operands are left out, but for the control and status register of a ``csrr...``: it is what is foreign.
    """
    found = next(_disassembler().disasm_lite(word, 0, count=1), None)
    if found is None or found[1] != len(word):
        return ""
    _, _, mnemonic, operands = found
    name = str(mnemonic).strip()
    return f"{name} {operands}" if name.startswith("csr") else name
