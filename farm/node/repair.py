"""From the wheel that a build made to one that other systems can use: the step ``repair`` of a build."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farm.node.failure import StepError
from farm.node.places import WRAPPERS
from farm.node.sandbox import Room, take


class Run(Protocol):
    """Runs a command in the sandbox; see Build.call."""

    def __call__(
        self,
        command: list[str],
        cwd: Path,
        room: Room,
        extra: Mapping[str, str] | None = None,
        *,
        failure: str = ...,
        message: str = ...,
    ) -> None:
        """Run it; StepError says that it failed."""


@dataclass(frozen=True)
class Repair:
    """How wheels are repaired on this board.

    ``folder`` is this step's own, empty, and the only one that its programs may write to.
    """

    run: Run
    tools: Path
    folder: Path
    readable: tuple[Path, ...]
    search_path: str

    @property
    def room(self) -> Room:
        """Return what the programs of this step may touch."""
        return Room((self.folder,), self.readable)

    def graft(self, wheel: Path, wheelhouse: Path) -> None:
        """Graft what the wheel needs from this board and give it an honest platform tag (F07)."""
        if wheel.name.endswith("-any.whl"):
            shutil.copyfile(wheel, wheelhouse / wheel.name)
            return
        # auditwheel can fail and leave an unrepaired wheel in its output: it gets a folder of its own.
        repaired = self.folder / "repaired"
        command = [str(self.tools / "bin/auditwheel"), "repair", "--strip", "--wheel-dir", str(repaired)]
        own = {"PATH": f"{WRAPPERS}:{self.search_path}", "TMPDIR": str(self.folder)}
        message = f"auditwheel can't repair {wheel.name}"
        self.run([*command, str(wheel)], self.folder, self.room, own, failure="policy", message=message)
        try:
            take(repaired, ".whl", wheelhouse)
        except OSError as error:
            raise StepError("policy", f"auditwheel left no wheel: {error}") from error

    def keep_debug(self, wheel: Path, archive: Path) -> None:
        """Split the debug information off a wheel's ELF files and keep it in one archive."""
        unpacked, split = self.folder / "wheel", self.folder / "debug"
        with zipfile.ZipFile(wheel) as content:
            content.extractall(unpacked)  # noqa: S202  # zipfile drops absolute names and ".." itself
        split.mkdir()
        for path in sorted(unpacked.rglob("*.so*")):
            target = split / f"{path.relative_to(unpacked)}.debug"
            target.parent.mkdir(parents=True, exist_ok=True)
            command = ["/usr/bin/objcopy", "--only-keep-debug", str(path), str(target)]
            self.run(command, self.folder, self.room)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(split, arcname=wheel.stem)
