"""What the index itself recorded of a project's files: ``records/<project>.json``, never served.

A record is the truth of what a wheel does not say: when it was published, whether it is yanked, the project's
status. It is also how a build knows what has not changed: by size and mtime of the wheels and of the pages
that were made from it. It is written after these pages; a build that was killed before begins them again.
Two lines of JSON: what a build without changes needs to know, and the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name

from farm.errors import PublishError
from farm.index.listing import Stat
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.write import write_changed

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_FIELDS: Final = (
    "version",
    "sha256",
    "size",
    "requires_python",
    "has_provenance",
    "metadata_sha256",
    "upload_time",
    "yanked",
)


@dataclass(frozen=True, slots=True)
class Record:
    """A project's index, the mtime of its files, and the pages that were made of it."""

    index: ProjectIndex
    mtimes: Mapping[str, int]
    """Of each file, in nanoseconds, by its name."""
    pages: Mapping[str, Stat] = field(default_factory=dict)
    """Pages by their path in the tree; empty: they are yet to be made."""
    made_by: str = ""
    """What else the pages depend on: the renderer, and the index's address."""
    doomed: tuple[str, ...] = ()
    """Files that are to go: their links first, then themselves."""
    seen: str = ""
    """A digest of the folder's listing; while that is the same, nothing else need be looked at."""

    @classmethod
    def empty(cls, project: NormalizedName) -> Record:
        """Return the record of a project that has no files yet."""
        return cls(ProjectIndex(project, ()), {})

    def with_index(self, index: ProjectIndex) -> Record:
        """Return it with another index, whose pages are yet to be made."""
        return replace(self, index=index, pages={}, seen="")


def read_record(folder: Path, project: str) -> Record | None:
    """Read a project's record; None if there is none. Raises PublishError at one that makes no sense."""
    path = folder / f"{project}.json"
    try:
        head, *rest = (json.loads(line) for line in path.read_bytes().splitlines())
        # Indexes of an earlier version have all in one line.
        (files,) = rest or (head["files"],)
        return _record(canonicalize_name(project), head, files)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(
            f"{path}: {error.strerror}", hint="check the index directory's permissions"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "restore it from a backup; without it, upload times are made anew and yanks are lost"
        raise PublishError(f"{path}: not a record of the index", hint=hint) from error


def made_of(folder: str, project: str, seen: str, made_by: str) -> Mapping[str, Stat]:
    """Return the pages that were made of a listing of a project's folder; none if another one was recorded.

    It is what a build asks about each project where nothing changed, so it takes no time for the rest of a
    record: that is in another line.
    """
    try:
        with open(f"{folder}/{project}.json", "rb") as stream:  # noqa: PTH123 - there are many
            content = json.loads(stream.readline())
        return content["pages"] if (content["seen"], content["made_by"]) == (seen, made_by) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}  # read_record tells why


def write_record(folder: Path, record: Record) -> bool:
    """Write a project's record; say whether it changed. Raises PublishError."""
    index = record.index
    files = {
        file.filename: {
            **{name: value for name in _FIELDS if (value := getattr(file, name)) not in {None, False}},
            "mtime_ns": record.mtimes[file.filename],
        }
        for file in index.files
    }
    head = {
        "status": index.status.value,
        "status_reason": index.status_reason,
        "made_by": record.made_by,
        "seen": record.seen,
        "doomed": record.doomed,
        "pages": record.pages,
    }
    data = "\n".join(json.dumps(part, separators=(",", ":")) for part in (head, files)).encode()
    return write_changed(folder / f"{index.project}.json", data)


def _record(project: NormalizedName, content: dict[str, Any], held: dict[str, dict[str, Any]]) -> Record:
    files, mtimes = [], {}
    for filename, said in held.items():
        mtimes[filename] = int(str(said.pop("mtime_ns")))
        said.setdefault("requires_python", None)
        files.append(PublishedFile(filename=filename, project=project, **said))
    return Record(
        index=ProjectIndex(
            project, tuple(files), ProjectStatus(content["status"]), str(content["status_reason"])
        ),
        mtimes=mtimes,
        pages={name: (int(str(size)), int(str(at))) for name, (size, at) in content["pages"].items()},
        made_by=str(content["made_by"]),
        doomed=tuple(str(name) for name in content["doomed"]),
        seen=str(content["seen"]),
    )
