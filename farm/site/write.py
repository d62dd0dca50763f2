"""Pages as files of the tree: only what changed is written, and what is no more goes."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from farm.index.write import write_changed


@dataclass(slots=True)
class Writer:
    """Writes below ``root`` and keeps the paths, relative to it, of what changed."""

    root: Path
    changed: set[str] = field(default_factory=set)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file unless it has these bytes already.

        Raises:
            PublishError: it can't be written.
        """
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        if write_changed(self.root / path, data):
            self.changed.add(path)

    def keep_only(self, folder: str, names: Collection[str]) -> None:
        """Remove what lies in a folder of pages and has none of these names."""
        if not (self.root / folder).is_dir():
            return
        for path in sorted((self.root / folder).iterdir()):
            if path.name in names:
                continue
            self.changed |= {
                file.relative_to(self.root).as_posix()
                for file in ([path] if path.is_file() else path.rglob("*"))
                if file.is_file()
            }
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
