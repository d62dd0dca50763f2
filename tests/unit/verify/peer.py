"""What pyelftools says of an ELF file, to compare with."""

from __future__ import annotations

import _ctypes
import _ssl
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from farm.verify.linkage import Linkage


def own_libraries() -> list[Path]:
    """What this interpreter has loaded: real files of this machine's linkers."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    extensions = (module.__file__ for module in (_ctypes, _ssl))
    files = {Path(name) for name in (*mapped, *extensions) if name and Path(name).is_file()}
    return sorted(path for path in files if path.stat().st_size < 3_000_000)  # else the peer takes seconds


def read(path: Path) -> Linkage:
    """Read what a file asks of the loader, by sections, which our own reader does not."""
    with path.open("rb") as stream:
        elf: Any = ELFFile(stream)
        tags: dict[str, list[Any]] = {}
        for tag in elf.get_section_by_name(".dynamic").iter_tags():
            tags.setdefault(tag.entry.d_tag, []).append(tag)
        versions: dict[str, tuple[str, ...]] = {}
        needs = elf.get_section_by_name(".gnu.version_r")
        for library, found in needs.iter_versions() if needs else ():
            versions[library.name] = (*versions.get(library.name, ()), *(item.name for item in found))
        symbols = elf.get_section_by_name(".dynsym").iter_symbols()
        return Linkage(
            soname="".join(tag.soname for tag in tags.get("DT_SONAME", [])),
            needed=tuple(tag.needed for tag in tags.get("DT_NEEDED", [])),
            rpath=tuple(part for tag in tags.get("DT_RPATH", []) for part in tag.rpath.split(":") if part),
            runpath=tuple(p for tag in tags.get("DT_RUNPATH", []) for p in tag.runpath.split(":") if p),
            versions=versions,
            undefined=frozenset(
                symbol.name
                for symbol in symbols
                if symbol["st_shndx"] == "SHN_UNDEF"
                and symbol.name
                and symbol["st_info"]["bind"] == "STB_GLOBAL"
            ),
        )


def functions(path: Path) -> dict[int, set[str]]:
    """The names of the functions that begin at each offset of a file."""
    found: dict[int, set[str]] = {}
    with path.open("rb") as stream:
        elf: Any = ELFFile(stream)
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]:
                (offset,) = elf.address_offsets(symbol["st_value"])
                found.setdefault(offset, set()).add(symbol.name)
    return found
