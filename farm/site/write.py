"""Pages as files of the tree: only what changed is written, and what is no more goes."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from farm.errors import PublishError
from farm.files import write_file


@dataclass(slots=True)
class Writer:
    """Writes below ``root`` and keeps the paths, relative to it, of what changed."""

    root: Path
    changed: set[str] = field(default_factory=set)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file unless it has these bytes already (nginx's ETag is mtime and size).

        Raises:
            PublishError: it can't be written.
        """
        target = self.root / path
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        with suppress(FileNotFoundError):
            if target.stat().st_size == len(data) and target.read_bytes() == data:
                return
        try:
            write_file(target, lambda out: out.write(data))
        except OSError as error:
            hint = "check the index directory's permissions and free space"
            raise PublishError(f"{target}: can't be written: {error.strerror}", hint=hint) from error
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
