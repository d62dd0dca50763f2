"""What nobody needs any more on a board (F28)."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from pathlib import Path

DAY_S = 24 * 3600
SDIST_AGE_S = 30 * DAY_S
PARTIAL_AGE_S = DAY_S


def forget_leftovers(root: Path) -> None:
    """Remove what was cut off half way, and sdists that nothing was built from for long."""
    for path in (root / "jobs").glob(".*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(".selftest.*"):
        if _age_s(path) > PARTIAL_AGE_S:
            shutil.rmtree(path, ignore_errors=True)
    for path in (root / "incoming").glob("*/*"):
        if _age_s(path) > (PARTIAL_AGE_S if path.suffix == ".partial" else SDIST_AGE_S):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is another file in it
                path.parent.rmdir()
    for path in (root / "work").glob("[!.]*"):
        _forget_work(path)


def _forget_work(folder: Path) -> None:
    """Remove the working folder of a build whose supervisor was killed: the others hold their lock."""
    with contextlib.suppress(OSError), folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
