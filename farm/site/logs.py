"""Logs as they are published: of builds and of the clean room's proofs; or none, if the operator wants none.

``build/ATTEMPT/log.txt`` and ``proof.txt`` lie beside the page of an attempt. A wheel that no job built has
no such page: what the clean room said of it is ``proof/WHEEL.txt``. What was published stays when the
controller has its own no more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.utils import canonicalize_name

from farm.index import IndexTree
from farm.paths import PROOF_LOG, Paths
from farm.site.text import log_lines, path_of
from farm.site.write import Writer

LOG_HEAD: Final = 256 << 10
LOG_TAIL: Final = 768 << 10
LOG: Final = "log.txt"
PROOF: Final = "proof.txt"
PROOFS: Final = "proof"
"""Folder of the proofs of wheels that no job built."""


@dataclass(frozen=True, slots=True)
class AttemptLogs:
    """What is published of an attempt's logs, by file name; ``withheld``: there are some, and none is."""

    files: Mapping[str, bytes]
    withheld: bool = False

    def text(self, name: str) -> bytes:
        """Return one of them; empty if there is none."""
        return self.files.get(name, b"")


@dataclass(frozen=True, slots=True)
class Logs:
    """Where logs are, and whether they are published; ``paths`` is None where they are not at hand."""

    tree: IndexTree
    paths: Paths | None
    public: bool = True

    def of_attempt(self, name: str) -> AttemptLogs:
        """Read the logs of an attempt. Raises OSError if one can't be read."""
        if not self.public:
            return AttemptLogs({}, withheld=any(map(_size, self._sources(name).values())))
        folder = self.tree.root / "build" / name
        texts = {file: read_log(path) for file, path in self._sources(name).items()}
        texts |= {
            file: (folder / file).read_bytes()
            for file in (LOG, PROOF)
            if not texts.get(file) and (folder / file).is_file()
        }
        return AttemptLogs({file: text for file, text in texts.items() if text})

    def stale(self, name: str) -> bool:
        """Return whether a log is to be published or taken back, however long ago the attempt ended."""
        folder = self.tree.root / "build" / name
        if not self.public:
            return any((folder / file).is_file() for file in (LOG, PROOF))
        return any(
            _size(path) and not (folder / file).is_file() for file, path in self._sources(name).items()
        )

    def _sources(self, name: str) -> dict[str, Path]:
        return {LOG: self.paths.log(name), PROOF: self.paths.proof(name)} if self.paths else {}

    def write_proofs(self, writer: Writer) -> set[str]:
        """Write the proofs of published wheels that no job built; return the projects it is news of."""
        wheels: set[str] = set()
        if self.public and self.paths:
            wheels = {path.name.removesuffix(PROOF_LOG) for path in self.paths.logs.glob(f"*.whl{PROOF_LOG}")}
        if self.public:
            wheels |= {path.stem for path in (self.tree.root / PROOFS).glob("*.whl.txt")}
        wheels = {wheel for wheel in wheels if (self.tree.packages / _project(wheel) / wheel).is_file()}
        for wheel in sorted(wheels):
            if self.paths and (text := read_log(self.paths.proof(wheel))):
                writer.write(f"{PROOFS}/{wheel}.txt", text)
        writer.keep_only(PROOFS, {f"{wheel}.txt" for wheel in wheels})
        return {
            _project(PurePosixPath(path).name) for path in writer.changed if path.startswith(f"{PROOFS}/")
        }


def proof_path(tree: IndexTree, wheel: str, attempt: str) -> str:
    """Return the path of the published proof of a wheel; empty if there is none.

    ``attempt`` is what built it; empty: no job of this farm.
    """
    parts = ("build", attempt, PROOF) if attempt else (PROOFS, f"{wheel}.txt")
    return path_of(*parts) if tree.root.joinpath(*parts).is_file() else ""


def read_log(path: Path) -> bytes:
    """Return a log as it is published: plain text, at most a megabyte of it, its middle left out.

    Empty if there is none. Raises OSError if it can't be read.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            if size <= LOG_HEAD + LOG_TAIL:
                return log_text(stream.read())
            head = stream.read(LOG_HEAD)
            stream.seek(size - LOG_TAIL)
            gap = f"\n\n[{size - LOG_HEAD - LOG_TAIL} bytes are left out here]\n\n".encode()
            return log_text(head + gap + stream.read(LOG_TAIL))
    except FileNotFoundError:
        return b""


def log_text(data: bytes) -> bytes:
    """Return a log without what steers a terminal."""
    return "\n".join(log_lines(data)).encode()


def _project(wheel: str) -> str:
    return str(canonicalize_name(wheel.partition("-")[0]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
