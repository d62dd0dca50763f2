"""From the wheel that a build made to one that other systems can use: the step ``repair`` of a build."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farm.node.failure import NO_LIBRARY, StepError
from farm.node.places import WRAPPERS
from farm.node.sandbox import Room, take

_LIBRARY = (
    "have apt_packages bring it, or, if only the user's system can, name it in system_libraries (recipe)"
)


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

    ``tail`` returns the end of what was printed; ``folder`` is this step's own, empty, and the only one that
    its programs may write to.
    """

    run: Run
    tail: Callable[[], bytes]
    tools: Path
    folder: Path
    readable: tuple[Path, ...]
    search_path: str

    @property
    def room(self) -> Room:
        """Return what the programs of this step may touch."""
        return Room((self.folder,), self.readable)

    def repaired(
        self, wheel: Path, wheelhouse: Path, *, build_tag: str, system_libraries: Sequence[str]
    ) -> None:
        """Leave in ``wheelhouse`` what may be published.

        Where it needs libraries of its user's system (SONAMEs), these are not grafted, and it keeps the
        platform tag that promises nothing. ``build_tag`` is PEP 427's; empty: none.
        """
        tags = ["--build", build_tag] if build_tag else []
        # auditwheel can fail and leave an unrepaired wheel in its output: it gets a folder of its own.
        repaired = self.folder / "repaired"
        repaired.mkdir()
        if wheel.name.endswith("-any.whl"):
            shutil.copyfile(wheel, repaired / wheel.name)
        else:
            self._graft(wheel, repaired, system_libraries)
            if system_libraries:  # auditwheel gives the tag that would fit, were they there
                tags += ["--platform-tag", wheel.stem.rpartition("-")[2]]
        if tags:
            self._tag(repaired, *tags)
        try:
            take(repaired, ".whl", wheelhouse)
        except OSError as error:
            raise StepError("policy", f"auditwheel left no wheel: {error}") from error

    def _graft(self, wheel: Path, repaired: Path, left_out: Sequence[str]) -> None:
        """Graft what the wheel needs from this board and give it an honest platform tag (F07)."""
        command = [str(self.tools / "bin/auditwheel"), "repair", "--strip", "--wheel-dir", str(repaired)]
        own = {"PATH": f"{WRAPPERS}:{self.search_path}", "TMPDIR": str(self.folder)}
        message = f"auditwheel can't repair {wheel.name}"
        command += [part for soname in left_out for part in ("--exclude", soname)]
        try:
            self.run([*command, str(wheel)], self.folder, self.room, own, failure="policy", message=message)
        except StepError as error:
            found = NO_LIBRARY.search(self.tail())
            if error.failure != "policy" or found is None:
                raise
            text = f"{message}: this board has no {found[1].decode()}, which it needs; {_LIBRARY}"
            raise StepError("policy", text) from error

    def _tag(self, folder: Path, *tags: str) -> None:
        """Give the wheels of a folder other tags: file name, WHEEL and RECORD change, nothing else."""
        command = [str(self.tools / "bin/python"), "-m", "wheel", "tags", "--remove", *tags]
        wheels = [str(path) for path in sorted(folder.glob("*.whl"))]
        if wheels:
            message = f"the wheel can't be given the tag {' '.join(tags)}"
            self.run([*command, *wheels], self.folder, self.room, failure="policy", message=message)

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
