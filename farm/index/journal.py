"""What was lately done to an index, so that it can be undone: ``records/journal/log.json``, never served."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from farm.errors import InputError, PublishError
from farm.index.scan import moment
from farm.index.write import write_changed

KEPT: Final = 50
_HINT: Final = "`farm index journal` shows what there is"


class Kind(StrEnum):
    """What was done."""

    PUBLISH = "publish"
    YANK = "yank"
    STATUS = "status"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of the index."""

    number: int
    at: str
    """ISO 8601, UTC."""
    kind: Kind
    files: Mapping[str, Sequence[str]]
    """Names of the files it was about, by project."""
    yanked: Mapping[str, str | None] = field(default_factory=dict)
    """Of a yank: what was said of each file before (PEP 592)."""
    status: tuple[str, str] = ("", "")
    """Of a change of status: the one before, and its reason."""


def read_journal(records: Path) -> tuple[Entry, ...]:
    """Return the last changes, the newest last. Raises PublishError."""
    path = _path(records)
    try:
        return tuple(_entry(said) for said in json.loads(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError) as error:
        hint = "move it away: nothing before now can be undone then"
        raise PublishError(f"{path}: can't be read: {error}", hint=hint) from error


def note(records: Path, entry: Entry) -> Entry:
    """Write down a change before it is made; return it with its number and time. Raises PublishError."""
    held = read_journal(records)
    number = held[-1].number + 1 if held else 1
    entry = replace(entry, number=number, at=moment(time.time()))
    _write(records, (*held, entry)[-KEPT:])
    return entry


def forget(records: Path, entries: Sequence[Entry]) -> None:
    """Strike out changes that were undone. Raises PublishError."""
    numbers = {entry.number for entry in entries}
    _write(records, [entry for entry in read_journal(records) if entry.number not in numbers])


def since(entries: Sequence[Entry], number: int | None) -> tuple[Entry, ...]:
    """Return what has to be undone for the state before a change, the newest first.

    ``number`` is that change's; None: the last publication's. Raises InputError if it can't be undone.
    """
    if number is None:
        number = next((entry.number for entry in reversed(entries) if entry.kind is Kind.PUBLISH), None)
        if number is None:
            raise InputError("there is no publication to undo", hint=_HINT)
    later = tuple(entry for entry in reversed(entries) if entry.number >= number)
    if not later or later[-1].number != number:
        raise InputError(f"no change {number} in the journal", hint=_HINT)
    for entry in later:
        if entry.kind is Kind.PRUNE:
            hint = "go back to a later one, or publish what was removed again"
            raise InputError(f"change {entry.number} removed files, which can't be undone", hint=hint)
    return later


def _path(records: Path) -> Path:
    return records / "journal" / "log.json"


def _write(records: Path, entries: Sequence[Entry]) -> None:
    content = [
        {
            "number": entry.number,
            "at": entry.at,
            "kind": entry.kind.value,
            "files": {project: list(names) for project, names in entry.files.items()},
            "yanked": dict(entry.yanked),
            "status": list(entry.status),
        }
        for entry in entries
    ]
    write_changed(_path(records), json.dumps(content, indent=1).encode())


def _entry(said: Mapping[str, Any]) -> Entry:
    return Entry(
        number=int(said["number"]),
        at=str(said["at"]),
        kind=Kind(said["kind"]),
        files={str(project): tuple(names) for project, names in said["files"].items()},
        yanked=said["yanked"],
        status=(str(said["status"][0]), str(said["status"][1])),
    )
