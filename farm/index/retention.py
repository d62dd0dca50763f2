"""Which files an index need not keep (pure)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError
from farm.index.model import ProjectIndex, PublishedFile

Pin = tuple[str, str]
"""A normalised project and a version as an index writes it."""
_PIN: Final = re.compile(
    r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([A-Za-z0-9._+!-]+)\s*(?:[;\\#].*|--hash.*)?"
)


def superfluous(indexes: Iterable[ProjectIndex], keep: int, locked: Collection[Pin]) -> list[PublishedFile]:
    """Return the files of versions beyond the newest ``keep`` of each project that no lock file names.

    Versions that are yanked as a whole are not counted: they hold nobody's place.
    """
    found = []
    for index in indexes:
        versions = dict.fromkeys(file.version for file in reversed(index.files))
        counted = [v for v in versions if any(f.yanked is None for f in index.files if f.version == v)]
        kept = {*(counted or list(versions))[:keep]}
        kept |= {version for project, version in locked if project == index.project}
        # What is newer than all that is kept, yanked ones, is not old.
        newest = next((version for version in versions if version in kept), None)
        for version in versions:
            if version == newest:
                break
            kept.add(version)
        found += [file for file in index.files if file.version not in kept]
    return found


def read_lock(path: Path) -> set[Pin]:
    """Return what a lock file pins: requirements with ``==``, pylock.toml (PEP 751), uv.lock or poetry.lock.

    Raises InputError if it can't be read or pins nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        pins = _of_toml(tomllib.loads(text)) if _is_toml(path, text) else _of_requirements(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {cause}", hint="give a lock file") from error
    if not pins:
        raise InputError(f"{path}: pins no version", hint="give NAME==VERSION lines, pylock.toml or uv.lock")
    return pins


def _is_toml(path: Path, text: str) -> bool:
    return path.suffix == ".toml" or "[[package" in text


def _of_toml(content: dict[str, Any]) -> set[Pin]:
    packages = content.get("packages") or content.get("package") or []
    named = [package for package in packages if isinstance(package, dict)]
    return {pin for p in named if (pin := _pin(str(p.get("name", "")), str(p.get("version", ""))))}


def _of_requirements(text: str) -> set[Pin]:
    matches = [_PIN.fullmatch(line) for line in text.splitlines()]
    return {pin for match in matches if match and (pin := _pin(match[1], match[2]))}


def _pin(name: str, version: str) -> Pin | None:
    try:
        return (str(canonicalize_name(name)), str(Version(version)))
    except InvalidVersion:
        return None
