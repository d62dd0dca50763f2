"""Build environments (PEP 517, PEP 518): resolved once, kept under their lock, used again when it is equal.

uv makes them: on a board it starts in a fraction of pip's time, and a virtual environment by ``venv`` costs
more than a small build (docs/architecture.md has the figures).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farm.node.farm_index import FarmIndex
from farm.node.files import read_json, read_text, sha256_of, write_json

# A new release of a build requirement is seen after this many seconds; until then rebuilds agree.
LOCK_AGE_S = 24 * 3600
KEPT_ENVIRONMENTS = 6


@dataclass(frozen=True)
class BuildSystem:
    """The table ``build-system`` of pyproject.toml."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]


LEGACY = BuildSystem(("setuptools >= 40.8.0",), "setuptools.build_meta:__legacy__", ())


class ProjectError(Exception):
    """The project's pyproject.toml is not what PEP 518 asks for."""


def build_system(source: Path) -> BuildSystem:
    """Read what a project is built with; PEP 517 and 518 say what holds where it is silent.

    Raises:
        ProjectError: the table is malformed.
    """
    try:
        return read_build_system((source / "pyproject.toml").read_bytes())
    except FileNotFoundError:
        return LEGACY


def read_build_system(pyproject: bytes) -> BuildSystem:
    """Read the content of a pyproject.toml; the controller does so, too, before there is a build.

    Raises:
        ProjectError: it is malformed.
    """
    try:
        content = tomllib.loads(pyproject.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"pyproject.toml can't be read: {error}") from error
    table = content.get("build-system")
    if table is None:
        return LEGACY
    if not isinstance(table, dict) or not _texts(table.get("requires")):
        raise ProjectError("pyproject.toml: build-system has no list of texts 'requires' (PEP 518)")
    path = table.get("backend-path", [])
    if not _texts(path) or not isinstance(table.get("build-backend", ""), str):
        raise ProjectError("pyproject.toml: build-backend and backend-path must be text and list (PEP 517)")
    return BuildSystem(
        requires=tuple(table["requires"]),
        backend=table.get("build-backend", LEGACY.backend),
        backend_path=tuple(path),
    )


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class Call(Protocol):
    """Runs a command with network; what it writes goes to ``output``, if that is given."""

    def __call__(self, command: list[str], output: Path | None = None) -> None: ...


class Environments:
    """The build environments of one project on one board, for one Python.

    Builds write into ``folder``, and nowhere else in the cache: locks, and what says that an environment is
    complete, are this class's own.
    """

    def __init__(
        self,
        cache: Path,
        tools: Path,
        constraints: Path | None,
        index: FarmIndex,
        call: Call,
    ) -> None:
        self._cache = cache
        self.folder = cache / "environments"
        self._index = index
        self._uv = str(tools / "bin/uv")
        self._python = str(tools / "bin/python")
        self._constraints = constraints
        self._call = call

    def lock(self, requires: Sequence[str]) -> Path:
        """Return the file of exact versions and hashes that ``requires`` comes to.

        A lock is used again until it is a day old, or until the farm's index has something else of the
        projects in it: who waited for a build requirement to be published is to find it.
        """
        limits = self._constraints.read_text(encoding="utf-8") if self._constraints else ""
        # Without the index, another lock: what was made with it holds again when the index is back.
        key = _digest(sorted(requires), limits, self._python, self._index.url)
        path = self._cache / "locks" / f"{key}.txt"
        state = path.with_suffix(".json")
        if (
            path.exists()
            and time.time() - path.stat().st_mtime < LOCK_AGE_S
            and self._index.state(_projects(path)) == read_json(state)
        ):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._index.read_all()
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        if requires:
            wanted = path.with_suffix(".in")
            wanted.write_text("".join(f"{item}\n" for item in requires), encoding="utf-8")
            self._compile(wanted, partial)
        else:
            partial.touch()
        # In this order: an old lock beside a new state would pass for a new one.
        path.unlink(missing_ok=True)
        write_json(state, {**self._index.state(_projects(partial))})
        partial.replace(path)
        return path

    def _compile(self, wanted: Path, target: Path) -> None:
        command = [self._uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"]
        command += ["--python", self._python, str(wanted)]
        if self._constraints:
            command += ["--constraint", str(self._constraints)]
        self._call(command, target)

    def environment(self, lock: Path) -> Path:
        """Return the virtual environment that holds exactly what ``lock`` says."""
        path = self.folder / _digest(sha256_of(lock), self._python)
        complete = self._cache / "complete" / path.name
        if not (complete.exists() and path.is_dir()):
            self._call([self._uv, "venv", "--quiet", "--clear", "--python", self._python, str(path)])
            if lock.stat().st_size:
                # Copied: a build that writes into its environment must not change what the cache holds.
                command = [self._uv, "pip", "sync", "--quiet", "--link-mode", "copy", "--require-hashes"]
                self._call([*command, "--python", str(path / "bin/python"), str(lock)])
        complete.parent.mkdir(exist_ok=True)
        complete.touch()
        self._forget_old(complete.parent)
        return path

    def _forget_old(self, marks: Path) -> None:
        known = sorted(marks.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for complete in known[KEPT_ENVIRONMENTS:]:
            complete.unlink()
            # It follows no link; what it can't remove, a build made so.
            shutil.rmtree(self.folder / complete.name, ignore_errors=True)


def pinned(lock: Path) -> list[str]:
    """Return ``name==version`` of all that a lock holds."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))]


def _projects(lock: Path) -> list[str]:
    return [item.partition("==")[0] for item in pinned(lock)]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def python_of(environment: Path) -> str:
    """Return the version of a virtual environment's Python (``3.13.5``); empty where it does not say."""
    for line in read_text(environment / "pyvenv.cfg").splitlines():
        key, _, value = line.partition("=")
        if key.strip() in {"version", "version_info"}:
            return value.strip()
    return ""
