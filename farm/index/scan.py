"""What has changed among a project's files since they were recorded, by size and mtime."""

from __future__ import annotations

import binascii
import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from farm.errors import PublishError
from farm.files import PART, sync_folder
from farm.index.gone import read_gone
from farm.index.listing import METADATA, sweep
from farm.index.read import read_in
from farm.index.record import Record, read_record
from farm.index.write import write_changed, writing
from farm.provenance.names import PROVENANCE
from farm.wheel_name import parse_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.index.listing import Listing
    from farm.index.model import PublishedFile


@dataclass(frozen=True, slots=True)
class Scan:
    """A project's record as its files now are."""

    record: Record
    lost: tuple[PublishedFile, ...]
    """Recorded files that are no more."""
    changed: frozenset[str]
    """Names of files beside wheels that were written or removed."""


def scan_project(listing: Listing, records: Path, *, full: bool = False) -> Scan:
    """Compare a project's files with its record, and bring the METADATA files beside them up to date.

    Only files whose size or mtime differ from the record are read; with ``full``, all are. A file that no
    record has is taken over: its upload time is what its provenance says, else its mtime.

    Raises PublishError at a file that does not belong here, or whose content is not the one recorded;
    WheelError at a wheel that can't be read.
    """
    project = listing.folder.name
    known = read_record(records, project) or Record.empty(canonicalize_name(project))
    swept = {name for name in sweep(listing) if not name.endswith(PART)}
    held = {file.filename: file for file in known.index.files}
    files, written = _files(listing, records, known, held, full=full)
    record = known
    if files != held:
        _refuse_doubles(project, files)
        ordered = tuple(sorted(files.values(), key=lambda file: file.sort_key))
        record = known.with_index(replace(known.index, files=ordered))
    mtimes = {name: mtime_ns for name, (_, mtime_ns) in listing.wheels.items()}
    kept = {name for name in listing.others if not name.endswith(PART)} - swept
    seen = replace(listing, others=frozenset(kept | {name + METADATA for name in files})).digest()
    lost = tuple(file for name, file in held.items() if name not in files)
    return Scan(replace(record, mtimes=mtimes, seen=seen), lost, frozenset(swept | written))


def _files(
    listing: Listing, records: Path, known: Record, held: Mapping[str, PublishedFile], *, full: bool
) -> tuple[dict[str, PublishedFile], set[str]]:
    """Return a project's files by name, those read that changed, and the names of METADATA files written."""
    files: dict[str, PublishedFile] = {}
    written = set()
    gone = read_gone(records, listing.folder.name)
    folder = str(listing.folder)
    for name, (size, mtime_ns) in listing.wheels.items():
        if name in known.doomed:
            continue
        file, metadata_name = held.get(name), name + METADATA
        beside = metadata_name in listing.others, name + PROVENANCE in listing.others
        same = file is not None and (file.size, known.mtimes[name]) == (size, mtime_ns)
        if file is None or not same or full or beside != (True, file.has_provenance):
            new, metadata = _read(listing, name, file, gone, has_provenance=beside[1])
            if write_changed(f"{folder}/{metadata_name}", metadata, folder_too=False):
                written.add(metadata_name)
            file = new
        files[name] = file
    if written:
        with writing(listing.folder):
            sync_folder(listing.folder)
    return files, written


def _read(
    listing: Listing,
    name: str,
    known: PublishedFile | None,
    gone: Mapping[str, str],
    *,
    has_provenance: bool,
) -> tuple[PublishedFile, bytes]:
    """Read a wheel; what its content doesn't tell is as recorded.

    Without a record (an index of an earlier version, or a wheel put there by hand), it was published when its
    provenance says that it was built, else at its mtime.
    """
    folder = listing.folder
    if known:
        upload_time = known.upload_time
    else:
        built = _built_at(folder / name) if has_provenance else None
        upload_time = built or moment(listing.wheels[name][1] / 1e9)
    new, metadata = read_in(
        str(folder),
        name,
        has_provenance=has_provenance,
        upload_time=upload_time,
        yanked=known.yanked if known else None,
    )
    if new.project != folder.name:
        hint = f"move it to packages/{new.project}"
        raise PublishError(f"packages/{folder.name}/{name} is a wheel of {new.project}", hint=hint)
    _refuse_other_bytes(new, known.sha256 if known else gone.get(name))
    return new, metadata


def _refuse_other_bytes(new: PublishedFile, sha256: str | None) -> None:
    """Raise PublishError if other bytes have or had a file's name (F06); ``sha256``: None if none had."""
    if sha256 not in {None, new.sha256}:
        raise PublishError(
            f"packages/{new.project}/{new.filename} is not what was published"
            f" ({new.sha256[:12]}, not {sha256[:12]})",
            hint="put the published wheel back; publish a rebuild by `farm publish`, under another build tag",
        )


def _refuse_doubles(project: str, files: Mapping[str, PublishedFile]) -> None:
    seen: dict[object, str] = {}
    for file in files.values():
        other = seen.setdefault(parse_name(file.filename).identity, file.filename)
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
        said = json.loads(binascii.a2b_base64(envelope["statement"]))
        finished = str(said["predicate"]["runDetails"]["metadata"]["finishedOn"])
        return moment(datetime.fromisoformat(finished).timestamp())
    except (OSError, ValueError, LookupError, TypeError):
        return None


def moment(seconds: float) -> str:
    """Return a time as PEP 700 writes it, in UTC and whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))
