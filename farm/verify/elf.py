"""Read what an ELF file asks of the machine it runs on, and judge it against riscv64 lp64d.

Sources: System V gABI (header, dynamic section); RISC-V ELF psABI ("File Header", ``e_flags``;
"Attributes", ``Tag_RISCV_arch``; "Mapping Symbol", ``$x<ISA>``). Parsed by pyelftools; files come from
untrusted builds, so whatever that parser meets becomes a WheelError.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import islice

from elftools.elf.dynamic import DynamicSection, DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import RISCVAttributesSection, SymbolTableSection

from farm.errors import WheelError
from farm.verify.isa import beyond_rv64gc, parse_arch
from farm.verify.model import Gate, Verdict

ELF_MAGIC = b"\x7fELF"

RVC = 0x1
FLOAT_ABI = 0x6
FLOAT_ABI_DOUBLE = 0x4
RVE = 0x8
TSO = 0x10
_FLOAT_NAMES = {0x0: "soft", 0x2: "single", 0x4: "double", 0x6: "quad"}

_MOST_ATTRIBUTES = 256  # real files have under ten; a corrupt one must not keep the parser busy
_REBUILD = "build on a riscv64 node with -march=rv64gc -mabi=lp64d"
_FLAGS = "rebuild without -march=native, -mcpu or RVA23 defaults: pass -march=rv64gc -mabi=lp64d"


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """What an ELF file says of itself. ``arch`` is None without ``Tag_RISCV_arch``."""

    bits: int
    little_endian: bool
    machine: str
    flags: int
    arch: str | None
    needed: tuple[str, ...]
    mapped: frozenset[str]

    @property
    def float_abi(self) -> str:
        """The name of the float ABI in ``e_flags``."""
        return _FLOAT_NAMES[self.flags & FLOAT_ABI]


def read_elf(data: bytes, subject: str = "ELF file") -> ElfFacts:
    """Read an ELF file's facts. Raises WheelError if it is truncated, corrupt or not ELF."""
    if not data.startswith(ELF_MAGIC):
        raise WheelError(f"{subject}: not an ELF file", hint=_REBUILD)
    try:  # pyelftools leaks struct.error, KeyError and more on bad input
        return _read(ELFFile(BytesIO(data)))
    except Exception as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{subject}: truncated or corrupt ELF file ({cause})", hint=_REBUILD) from error


def _read(elf: ELFFile) -> ElfFacts:
    machine = str(elf["e_machine"])
    riscv = machine == "EM_RISCV"
    return ElfFacts(
        bits=elf.elfclass,
        little_endian=elf.little_endian,
        machine=machine,
        flags=int(elf["e_flags"]),
        arch=_arch(elf) if riscv else None,
        needed=_needed(elf),
        mapped=_mapped(elf) if riscv else frozenset(),
    )


def _arch(elf: ELFFile) -> str | None:
    """Return the file's ``Tag_RISCV_arch``: its first file-scope value in the ``riscv`` subsection."""
    for section in elf.iter_sections():
        if not isinstance(section, RISCVAttributesSection):
            continue
        for subsection in islice(section.iter_subsections("riscv"), 1):
            for scope in islice(subsection.iter_subsubsections("TAG_FILE"), 1):
                for attribute in islice(scope.iter_attributes(), _MOST_ATTRIBUTES):
                    if attribute.tag == "TAG_ARCH":
                        return str(attribute.value)
    return None


def _needed(elf: ELFFile) -> tuple[str, ...]:
    """Return the DT_NEEDED names, from the dynamic segment or, in files without segments, the section."""
    parts = (*elf.iter_segments(), *elf.iter_sections())
    for part in parts:
        if isinstance(part, DynamicSegment | DynamicSection):
            return tuple(str(getattr(tag, "needed", "")) for tag in part.iter_tags("DT_NEEDED"))
    return ()


def _mapped(elf: ELFFile) -> frozenset[str]:
    """Return the ISA strings of the ``$x<ISA>`` mapping symbols that GNU as leaves at switched code."""
    found: set[str] = set()
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            names = (symbol.name for symbol in section.iter_symbols())
            found |= {name[2:].partition(".")[0] for name in names if name.startswith("$xrv")}
    return frozenset(found)


def judge_elf(data: bytes, subject: str) -> tuple[Verdict, ...]:
    """Judge one ELF file: the machine and its ABI, then, if those hold, its instruction set."""
    try:
        facts = read_elf(data, subject)
    except WheelError as error:
        evidence = error.message.removeprefix(f"{subject}: ")
        return (Verdict(Gate.ELF, False, subject, evidence, error.hint),)
    abi = judge_abi(facts, subject)
    return (abi, judge_isa(facts, subject)) if abi.ok else (abi,)


def judge_abi(facts: ElfFacts, subject: str) -> Verdict:
    """Judge class, machine and ``e_flags``: 64-bit little-endian RISC-V, float ABI double, nothing exotic."""
    wrong: list[str] = []
    hint = _REBUILD
    if facts.machine != "EM_RISCV":
        wrong.append(f"{facts.machine}, not EM_RISCV")
    elif facts.bits != 64 or not facts.little_endian:  # noqa: PLR2004 - the 64 of ELFCLASS64
        wrong.append(f"ELF{facts.bits} {'LSB' if facts.little_endian else 'MSB'}, not ELF64 LSB")
    else:
        if facts.flags & FLOAT_ABI != FLOAT_ABI_DOUBLE:
            wrong.append(f"float ABI is {facts.float_abi}, not double")
        wrong += [f"e_flags has {name}" for bit, name in ((RVE, "RVE"), (TSO, "TSO")) if facts.flags & bit]
        unknown = facts.flags & ~(RVC | FLOAT_ABI | RVE | TSO)
        if unknown:
            wrong.append(f"e_flags has unknown bits {unknown:#x}")
    if wrong:
        return Verdict(Gate.ELF, False, subject, "; ".join(wrong), hint)
    needed = ", ".join(facts.needed) or "nothing"
    return Verdict(Gate.ELF, True, subject, f"ELF64 RISC-V, float ABI double, needs {needed}")


def judge_isa(facts: ElfFacts, subject: str) -> Verdict:
    """Judge the instruction set by ``Tag_RISCV_arch`` and the mapping symbols (F05).

    No attribute is no proof, hence never a pass; code mapped beyond rv64gc isn't either, even if it is
    guarded at run time: nothing here can tell.
    """
    if facts.arch is None:
        evidence = "unknown: no Tag_RISCV_arch attribute"
        return Verdict(
            Gate.ISA, False, subject, evidence, "keep .riscv.attributes: do not strip section headers"
        )
    try:
        extra = beyond_rv64gc(parse_arch(facts.arch))
        foreign = {name for isa in facts.mapped for name in beyond_rv64gc(parse_arch(isa))}
    except WheelError as error:
        return Verdict(Gate.ISA, False, subject, error.message, error.hint)
    if extra:
        evidence = f"exceeds-tag: rv64gc has no {', '.join(extra)} (Tag_RISCV_arch {facts.arch})"
        return Verdict(Gate.ISA, False, subject, evidence, _FLAGS)
    if foreign:
        evidence = f"contains-extended-code: mapping symbols name {', '.join(sorted(foreign))}"
        return Verdict(Gate.ISA, False, subject, evidence, _FLAGS)
    return Verdict(Gate.ISA, True, subject, f"baseline: {facts.arch}")
