"""One published wheel and what lies beside it, read from the tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farm.errors import FarmError
from farm.index import IndexTree, PublishedFile
from farm.index.listing import METADATA
from farm.provenance.dsse import read_public_keys
from farm.provenance.names import PROVENANCE, SBOM, VERDICTS
from farm.site.beside import about_of, gates_of, libraries_of, origin_of
from farm.site.history import build_path
from farm.site.logs import proof_path
from farm.site.model import About, Link, Wheel
from farm.site.text import clean, path_of
from farm.verify.wheel import read_file
from farm.wheel_name import WheelName, parse_name

_BESIDE: Final = ((VERDICTS, "verdicts"), (SBOM, "bill of materials"), (PROVENANCE, "provenance"))
_CPYTHON: Final = re.compile(r"cp3([0-9]{1,2})")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where wheels are, whose signatures count, and which builds have pages."""

    tree: IndexTree
    keys: tuple[Ed25519PublicKey, ...]
    builds: Collection[str]

    @classmethod
    def of(cls, tree: IndexTree, builds: Collection[str]) -> Shelf:
        """Read the tree's keys.

        Raises:
            InputError: they are no keys.
        """
        keys = tree.keys
        found = read_public_keys(keys.read_bytes(), str(keys)) if keys.exists() else ()
        return cls(tree, tuple(found), builds)

    def path(self, file: PublishedFile) -> Path:
        """Return where a wheel is."""
        return self.tree.packages / file.project / file.filename

    def wheel(self, file: PublishedFile) -> Wheel:
        """Return a wheel with all that is known of it."""
        name, path = parse_name(file.filename), self.path(file)
        gates, gates_problem = _read(path, VERDICTS, lambda data: gates_of(data, file.filename, file.sha256))
        libraries, bill_problem = _read(path, SBOM, lambda data: libraries_of(data, file.filename))
        origin, problem = _read(
            path, PROVENANCE, lambda data: origin_of(data, file.filename, file.sha256, self.keys)
        )
        built = build_path(origin.attempt) if origin and origin.attempt in self.builds else ""
        return Wheel(
            filename=file.filename,
            path=file.path,
            version=file.version,
            build_tag=name.build,
            runs_on=runs_on(name),
            python_abi=name.python_abi,
            platforms=name.platforms,
            size=file.size,
            sha256=file.sha256,
            requires_python=file.requires_python or "",
            uploaded=file.upload_time or "",
            yanked=None if file.yanked is None else clean(file.yanked),
            gates=gates or (),
            gates_problem=gates_problem,
            libraries=libraries or (),
            bill_problem=bill_problem,
            origin=origin,
            provenance_problem=problem,
            build=built,
            proof=proof_path(self.tree, file.filename, origin.attempt if origin and built else ""),
            beside=_beside(path, file),
        )

    def about(self, file: PublishedFile) -> About:
        """Return what a wheel's METADATA says of its project."""
        path = self.path(file)
        sidecar = path.with_name(path.name + METADATA)
        return about_of(sidecar.read_bytes() if sidecar.exists() else read_file(path, "METADATA"))


def _read(wheel: Path, suffix: str, parse: Callable[[bytes], T]) -> tuple[T | None, str]:
    """Return what a file beside a wheel says, or why that can't be shown; nothing where there is none."""
    path = wheel.with_name(wheel.name + suffix)
    if not path.exists():
        return None, ""
    try:
        return parse(path.read_bytes()), ""
    except FarmError as error:
        return None, clean(error.message.removeprefix(f"{wheel.name}: "))


def _beside(path: Path, file: PublishedFile) -> tuple[Link, ...]:
    return tuple(
        Link(label, path_of("packages", file.project, file.filename + suffix))
        for suffix, label in _BESIDE
        if path.with_name(path.name + suffix).exists()
    )


# -- which Pythons ------------------------------------------------------------------------------------------


def runs_on(name: WheelName) -> str:
    """Say for which Pythons a wheel is: ``3.13``, ``3.13t`` (free-threaded), ``3.9+`` (abi3), ``any``."""
    words = {_word(tag.interpreter, tag.abi) for tag in name.tags}
    return " ".join(sorted(words, key=python_order))


def _word(interpreter: str, abi: str) -> str:
    cpython = _CPYTHON.fullmatch(interpreter)
    if cpython and abi == "abi3":
        return f"3.{cpython[1]}+"
    if cpython and abi in {interpreter, f"{interpreter}t"}:
        return f"3.{cpython[1]}{abi.removeprefix(interpreter)}"
    if interpreter in {"py3", "py2"}:
        return "any" if abi == "none" else f"{interpreter}-{abi}"
    return f"{interpreter}-{abi}"


def python_order(word: str) -> tuple[int, int, str]:
    """Order such words: by version of Python; a later one is larger, other words come last."""
    match = re.match(r"3\.([0-9]+)", word)
    return (0, int(match[1]), word) if match else (1, 0, word)


def column_of(word: str) -> str:
    """Return in which column of a matrix a wheel stands: all of the stable ABI share one."""
    return "abi3" if word.endswith("+") else word


def pythons_of(files: Sequence[PublishedFile]) -> tuple[str, ...]:
    """Return for which Pythons some files are, in order."""
    words = {word for file in files for word in runs_on(parse_name(file.filename)).split()}
    return tuple(sorted(words, key=python_order))
