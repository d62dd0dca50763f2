"""How much work a build is likely to be, before it was ever run."""

from __future__ import annotations

import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Final

SECONDS_PER_MIB: Final = 60.0
# Crates come on top of the sdist: the smallest PyO3 project compiles some twenty of them. Measured here under
# qemu-user: textual-speedups (11 KB of sdist) took as long as cffi, msgspec, httptools and pyyaml together.
RUST_SECONDS: Final = 300.0


@lru_cache(maxsize=4096)
def expected_work(sdist: Path) -> float:
    """Return a guess in seconds on a slow board; only its order among jobs is used."""
    rust = any(Path(name).name == "Cargo.toml" for name in _names(sdist))
    return sdist.stat().st_size / 2**20 * SECONDS_PER_MIB + (RUST_SECONDS if rust else 0.0)


def _names(sdist: Path) -> list[str]:
    """Return what the archive holds; nothing for one that can't be read, which its build will say."""
    try:
        if sdist.suffix == ".zip":
            with zipfile.ZipFile(sdist) as archive:
                return archive.namelist()
        with tarfile.open(sdist) as archive:
            return archive.getnames()
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError):
        return []
