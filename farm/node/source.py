"""The source of a build: an sdist, unpacked, and its time."""

from __future__ import annotations

import calendar
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from farm.node.failure import StepError

# ZIP files know no time before 1980, and wheels are ZIP files.
OLDEST_EPOCH = 315532800


def unpack(sdist: Path, target: Path, call: Callable[[list[str]], None]) -> Path:
    """Unpack an sdist into the folder ``target``; returns its one top-level folder.

    GNU tar is fast on a board, and refuses names that lead out of ``target``.

    Raises:
        StepError: the archive is damaged, has such names, or not one top-level folder.
    """
    if sdist.suffix == ".zip":
        _unzip(sdist, target)
    else:
        command = ["/usr/bin/tar", "--extract", "--no-same-owner", "--no-same-permissions"]
        call([*command, "--file", str(sdist), "--directory", str(target)])
    roots = [path for path in target.iterdir() if path.is_dir() and not path.is_symlink()]
    if len(roots) != 1:
        raise StepError("source", f"the sdist holds {len(roots)} top-level folders, not one (PEP 517)")
    return roots[0]


def _unzip(sdist: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(sdist) as archive:
            for member in archive.infolist():
                path = Path(archive.extract(member, target))  # drops absolute names and ".." itself
                # zipfile leaves the time of unpacking, and two builds would differ.
                moment = calendar.timegm((*member.date_time, 0, 0, 0))
                os.utime(path, (moment, moment))
    except (zipfile.BadZipFile, EOFError, ValueError, zlib.error) as error:
        raise StepError("source", f"the sdist can't be unpacked: {error}") from error


def source_epoch(source: Path) -> int:
    """Return SOURCE_DATE_EPOCH: the newest time stamp in the unpacked sdist, in seconds."""
    times = [path.lstat().st_mtime for path in source.rglob("*") if not path.is_dir()]
    return max(OLDEST_EPOCH, int(max(times, default=0)))


def manifests(source: Path) -> Iterator[Path]:
    """Return the Cargo.toml files whose crates a build may want: the topmost, and those with a lock."""
    above: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        here = Path(folder)
        # cargo marks what was vendored: that is no project.
        if "Cargo.toml" not in names or ".cargo-checksum.json" in names:
            continue
        if "Cargo.lock" in names or not any(top in here.parents for top in above):
            above.append(here)
            yield here / "Cargo.toml"
