"""What has changed among a project's files since they were recorded, by size and mtime."""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.errors import PublishError
from farm.files import PART, sync_folder
from farm.index.filename import normalised, parse
from farm.index.read import read_wheel
from farm.index.record import Record, read_record
from farm.index.write import remove, write_changed, writing
from farm.provenance.names import BESIDE, PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.index.model import PublishedFile

METADATA: Final = ".metadata"
"""Suffix of a wheel's METADATA beside it (PEP 658)."""
_SUFFIXES: Final = (METADATA, *BESIDE)


@dataclass(frozen=True, slots=True)
class Scan:
    """A project's record as its files now are, and how it differs from the one that was kept."""

    record: Record
    lost: tuple[PublishedFile, ...]
    """Recorded files that are no more."""
    differs: bool
    wrote: tuple[str, ...]
    """Names of the METADATA files that were written or removed beside wheels."""


def scan_project(packages: Path, records: Path, project: str, *, full: bool = False) -> Scan:
    """Compare a project's files with its record, and bring the METADATA files beside them up to date.

    Only files whose size or mtime differ from the record are read; with ``full``, all are. A file that no
    record has is taken over: its upload time is what its provenance says, else its mtime.

    Raises PublishError at a file that does not belong here, or whose content is not the one recorded;
    WheelError at a wheel that can't be read.
    """
    folder = packages / project
    known = read_record(records, project) or Record.empty(normalised(project))
    entries = _entries(folder)
    wheels = sorted(name for name in entries if name.endswith(".whl") and not name.startswith("."))
    wrote = _sweep(folder, entries, set(wheels))
    held = {file.filename: file for file in known.index.files}
    files: dict[str, PublishedFile] = {}
    mtimes = {}
    for name in wheels:
        status = entries[name].stat(follow_symlinks=False)
        file, mtimes[name] = held.get(name), status.st_mtime_ns
        beside = name + METADATA in entries, name + PROVENANCE in entries
        if (
            file is None
            or full
            or beside != (True, file.has_provenance)
            or ((file.size, known.mtimes[name]) != (status.st_size, status.st_mtime_ns))
        ):
            if not stat.S_ISREG(status.st_mode):
                raise _foreign(folder, name)
            new, metadata = _read(folder / name, project, status.st_mtime)
            if write_changed(folder / (name + METADATA), metadata, folder_too=False):
                wrote.append(name + METADATA)
            file = _carried(new, file)
        files[name] = file
    if wrote and wheels:
        with writing(folder):
            sync_folder(folder)
    record = known
    if files != held:
        _refuse_doubles(project, list(files.values()))
        ordered = tuple(sorted(files.values(), key=lambda file: file.sort_key))
        record = known.with_index(replace(known.index, files=ordered))
    if mtimes != known.mtimes:
        record = replace(record, mtimes=mtimes)
    lost = tuple(file for name, file in held.items() if name not in files)
    return Scan(record, lost, record is not known, tuple(wrote))


def _entries(folder: Path) -> Mapping[str, os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries}
    except FileNotFoundError:
        return {}
    except OSError as error:
        hint = "check the index directory's permissions"
        raise PublishError(f"{folder}: {error.strerror}", hint=hint) from error


def _sweep(folder: Path, entries: Mapping[str, os.DirEntry[str]], wheels: set[str]) -> list[str]:
    """Remove what a removed wheel or a killed build left; return the names of the former.

    Raises PublishError at what is nobody's.
    """
    swept = []
    for name in entries:
        if name in wheels:
            continue
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), None)
        if base in wheels:
            continue
        left = base is not None and base.endswith(".whl")
        if not left and not (name.startswith(".") and name.endswith(PART)):
            raise _foreign(folder, name)
        remove(folder / name)
        if left:
            swept.append(name)
    return swept


def _foreign(folder: Path, name: str) -> PublishError:
    return PublishError(
        f"packages/{folder.name}/{name} does not belong into the index",
        hint="move it away: there are wheels and what the farm writes beside them, and nothing else",
    )


def _read(path: Path, project: str, mtime: float) -> tuple[PublishedFile, bytes]:
    file, metadata = read_wheel(path)
    if file.project != project:
        hint = f"move it to packages/{file.project}"
        raise PublishError(f"packages/{project}/{file.filename} is a wheel of {file.project}", hint=hint)
    published = _built_at(path) if file.has_provenance else None
    return replace(file, upload_time=published or moment(mtime)), metadata


def _carried(new: PublishedFile, old: PublishedFile | None) -> PublishedFile:
    """Return a file that was read again, with what was recorded. Raises PublishError if its bytes changed."""
    if old is None:
        return new
    if old.sha256 != new.sha256:
        raise PublishError(
            f"packages/{old.project}/{old.filename} is no longer what was published"
            f" ({new.sha256[:12]}, not {old.sha256[:12]})",
            hint="put the published wheel back; publish a rebuild by `farm publish`, under another build tag",
        )
    return replace(new, upload_time=old.upload_time, yanked=old.yanked)


def _refuse_doubles(project: str, files: list[PublishedFile]) -> None:
    seen: dict[object, str] = {}
    for file in files:
        other = seen.setdefault(parse(file.filename).identity, file.filename)
        if other != file.filename:
            raise PublishError(
                f"packages/{project} has {other} and {file.filename}: two spellings of one wheel",
                hint="remove the one that was published later",
            )


def _built_at(wheel: Path) -> str | None:
    """Return when a wheel was built, as its provenance says it; None if that can't be read.

    An index of an earlier version of the farm did not record when it was published, which was right after.
    Whether the provenance holds is for the crawl to say.
    """
    try:
        provenance = json.loads(wheel.with_name(wheel.name + PROVENANCE).read_bytes())
        envelope = provenance["attestation_bundles"][0]["attestations"][0]["envelope"]
        said = json.loads(base64.b64decode(envelope["statement"]))
        finished = str(said["predicate"]["runDetails"]["metadata"]["finishedOn"])
        return moment(datetime.fromisoformat(finished).timestamp())
    except (OSError, ValueError, LookupError, TypeError):
        return None


def moment(seconds: float) -> str:
    """Return a time as PEP 700 writes it, in UTC and whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
