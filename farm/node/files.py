"""Files on a board."""

from __future__ import annotations

import json
import os
from pathlib import Path

Json = dict[str, object]


def read_text(path: str | Path) -> str:
    """Return a file's text without the space around it, or an empty string where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def read_json(path: Path) -> Json:
    """Return the object in a file, or an empty one where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Json) -> None:
    """Write durably: to a temporary name, flushed to disk, then renamed."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    import hashlib  # noqa: PLC0415  # polls and starts do without it

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
