"""Which files were published once and are there no more: their names stay taken (F06).

``records/gone/<project>.json`` maps each file's name to its sha256. Caches, mirrors and lock files still know
these bytes; the same bytes may come back under their name, other ones may not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from farm.errors import PublishError
from farm.index.model import PublishedFile
from farm.index.write import write_changed


def read_gone(records: Path, project: str) -> dict[str, str]:
    """Return a project's removed files, sha256 by name. Raises PublishError."""
    path = records / "gone" / f"{project}.json"
    try:
        said: Mapping[object, object] = json.loads(path.read_bytes())
        return {str(name): str(sha256) for name, sha256 in said.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        hint = "restore it from a backup: it keeps published names from getting other content"
        raise PublishError(f"{path}: can't be read: {error}", hint=hint) from error


def add_gone(records: Path, project: str, files: Iterable[PublishedFile]) -> bool:
    """Remember removed files; say whether there was something new. Raises PublishError."""
    new = {file.filename: file.sha256 for file in files}
    if not new:
        return False
    content = dict(sorted({**new, **read_gone(records, project)}.items()))
    return write_changed(records / "gone" / f"{project}.json", json.dumps(content).encode())


def all_gone(records: Path) -> list[tuple[str, str]]:
    """Return project and name of every removed file, sorted."""
    projects = sorted(path.stem for path in (records / "gone").glob("*.json"))
    return [(project, filename) for project in projects for filename in read_gone(records, project)]
