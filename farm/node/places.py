"""The folders of a build: its own, which goes at its end, and its project's cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from farm.node import tokens
from farm.node.facts import output

WRAPPERS = Path(__file__).with_name("wrappers")
CACHE_AGE_S = 60 * 24 * 3600
COMPILERS = tuple(
    f"{prefix}{name}"
    for prefix in ("", f"{os.uname().machine}-linux-gnu-")
    for name in ("gcc", "g++", "gcc-14", "g++-14", "cc", "c++")
)


@dataclass(frozen=True)
class Places:
    """Folders of one build."""

    work: Path
    """Removed at the end; constant for a project, so that rebuilds see the same paths."""
    cache: Path
    """Kept, and used by this project only: no project can leave anything for another to find."""
    tools: Path
    """The environment of the farm's own tools: uv, auditwheel, pyproject_hooks."""

    def search_path(self, environment: Path) -> str:
        """Return PATH for a build in ``environment``: wrapped compilers come first."""
        return f"{self.wrappers}:{self.unwrapped_path(environment)}"

    def unwrapped_path(self, environment: Path) -> str:
        """Return the same without what stands in front of programs."""
        return f"{environment}/bin:{self.tools}/bin:/usr/local/bin:/usr/bin:/bin"

    @property
    def fetched(self) -> tuple[Path, ...]:
        """What downloads are kept in; builds read it."""
        return (self.cache / "uv",)

    @property
    def reused(self) -> tuple[Path, ...]:
        """What builds, too, write into."""
        names = ("environments", "cargo", "ccache", "sccache")
        return tuple(self.cache / name for name in names)

    @property
    def wrappers(self) -> Path:
        """What stands in front of the compilers."""
        return self.work / "wrappers"

    @property
    def setuptools_config(self) -> Path:
        """What setuptools is told; other programs do not read it."""
        return self.work / "setuptools.cfg"

    @property
    def objects(self) -> Path:
        """What setuptools compiled, as the compilers' wrapper notes it."""
        return self.work / "objects"

    @property
    def sccache(self) -> Path:
        """Socket of the build's own sccache server."""
        return self.work / "sccache"

    @property
    def compiled(self) -> Path:
        """Touched when the first compiler starts."""
        return self.work / "compiled"


def make_folders(places: Places) -> None:
    """Make the folders of a build and the names under which compilers are wrapped."""
    for folder in ("tmp", "home", "source", "dist", "wrappers", "distcc"):
        (places.work / folder).mkdir(parents=True)
    for kept in (*places.fetched, *places.reused):
        kept.mkdir(parents=True, exist_ok=True)
    for name in COMPILERS:
        if Path("/usr/bin", name).exists():
            (places.wrappers / name).symlink_to(WRAPPERS / "compiler")


def wrap_ninja(places: Places, environment: Path, width: int, *, jobserver: bool) -> dict[str, str]:
    """Stand in front of ninja, if a build in ``environment`` has one; returns the variables for that.

    A project that looks for ninja and finds none must not find the wrapper. Where there is no ``jobserver``,
    or it is older than that, it is told how many tasks it may run.
    """
    wrapper = places.wrappers / "ninja"
    wrapper.unlink(missing_ok=True)
    ninja = shutil.which("ninja", path=places.unwrapped_path(environment))
    if ninja is None:
        return {}
    wrapper.symlink_to(WRAPPERS / "ninja")
    follows = jobserver and tokens.at_least(tokens.NINJA, _version_of_ninja(Path(ninja), environment))
    return {"FARM_NINJA": ninja, "FARM_NINJA_JOBS": "" if follows else f"-j{width}"}


def _version_of_ninja(ninja: Path, environment: Path) -> str:
    """Return what tells a ninja's version; one that strangers made is not run out of the sandbox for it."""
    if not ninja.is_relative_to(environment):
        return output(str(ninja), "--version")
    folders = environment.glob("lib/python3*/site-packages/ninja-*.dist-info")
    return next((folder.name for folder in folders), "")


def forget_old_caches(folder: Path) -> None:
    """Remove the caches of projects that were not built for long."""
    for cache in folder.glob("*"):
        if time.time() - cache.stat().st_mtime > CACHE_AGE_S:
            shutil.rmtree(cache, ignore_errors=True)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim(folder: Path, name: str) -> tuple[Path, TextIO]:
    """Return a working folder that nobody else uses, and the open file that holds it.

    The first choice is always the same one, so that rebuilds of a project see the same paths; what a killed
    build left there is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        work = folder / (f"{name}.{number}" if number else name)
        lock = work.with_name(f".{work.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
            continue
        shutil.rmtree(work, ignore_errors=True)
        return work, lock
