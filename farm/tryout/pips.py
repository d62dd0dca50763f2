"""pips of several versions, put into the clean room: each is a folder that the room's Python runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from farm.cleanroom import CleanRoom, RoomError
from farm.cleanroom.install import CACHE, VENV
from farm.errors import InputError, UpstreamError
from farm.upstream import Upstream

OLDEST: Final = "24.1"
"""The oldest pip whose users the index is made for; it is tried beside the newest."""

NEWEST: Final = "newest"
_FOLDER: Final = "pips"


@dataclass(frozen=True, slots=True)
class Pip:
    """One pip. ``asked`` is how it was asked for; ``program`` is its path inside the clean room."""

    asked: str
    version: str
    program: str

    def command(self, requirement: str, index_url: str) -> list[str]:
        """Return how a user of the index installs something: from wheels, and with nothing remembered."""
        index = urlsplit(index_url)
        trusted = ["--trusted-host", index.hostname] if index.scheme == "http" and index.hostname else []
        return [
            f"{VENV}/bin/python",
            self.program,
            "--disable-pip-version-check",
            "--no-input",
            "--no-color",
            "install",
            "--progress-bar=off",
            "--only-binary=:all:",
            "--no-cache-dir",
            f"--index-url={index_url}",
            *trusted,
            requirement,
        ]


def pip_of(version: str, upstream: Upstream, downloads: Path, room: CleanRoom) -> Pip:
    """Return pip of a version, or the newest one (``newest``); fetched and unpacked the first time.

    Its modules are compiled as the room's Python first needs them. Nothing but pip itself ever runs where its
    folder can be written.

    Raises:
        InputError: it is no version.
        UpstreamError: there is no such version, or it can't be fetched.
        RoomError: the room's folder can't be written.
    """
    specifier = "" if version == NEWEST else f"=={version}"
    wheels = [
        file for file in upstream.project("pip").files if file.is_wheel and not file.yanked and file.sha256
    ]
    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise InputError(f"{version}: no version of pip", hint=f"name one such as {OLDEST}") from error
    fitting = set(wanted.filter(file.version for file in wheels))
    if not fitting:
        raise UpstreamError(f"pip {version}: no such wheel", hint=f"name a version of pip, such as {OLDEST}")
    found = max((file for file in wheels if file.version in fitting), key=lambda file: file.version)
    sha256 = str(found.sha256)
    name = f"{found.version}-{sha256[:12]}"
    folder = room.work / "cache" / _FOLDER / name
    if not folder.is_dir():
        _unpack(upstream.fetch(found.url, found.filename, sha256, downloads), folder, room)
    return Pip(version, str(found.version), f"{CACHE}/{_FOLDER}/{name}/pip")


def _unpack(wheel: Path, folder: Path, room: CleanRoom) -> None:
    try:
        cache = folder.parent.parent
        cache.mkdir(exist_ok=True)
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            with zipfile.ZipFile(wheel) as archive:
                # Without its .dist-info, pip does not take itself for installed.
                archive.extractall(made, [name for name in archive.namelist() if name.startswith("pip/")])
            new = Path(made) / "whole"
            new.mkdir()
            (Path(made) / "pip").rename(new / "pip")
            room.own(cache, folder.parent, *_all(new))
            new.rename(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise RoomError(f"{folder}: pip can't be put there: {error}", hint="free some space there") from error


def _all(folder: Path) -> Sequence[Path]:
    return [folder, *(Path(top) / name for top, below, files in os.walk(folder) for name in below + files)]


def remove_others(pips: Sequence[Pip], room: CleanRoom) -> None:
    """Remove pips that are no longer tried, so that not each newest one stays for ever."""
    kept = {Path(pip.program).parent.name for pip in pips}
    for folder in (room.work / "cache" / _FOLDER).glob("[0-9]*-*"):
        if folder.name not in kept:
            with suppress(FileNotFoundError):  # another try removes it, too
                shutil.rmtree(folder)
