"""A clean room for dispatches on this machine: no pip and no emulation, but it asks what pip would ask."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.metadata import parse_email
from packaging.requirements import Requirement

from farm.cleanroom import NO_WHEEL, RoomError
from farm.requires import marker_environment
from farm.store import Job
from farm.verify import Gate, Report, Verdict
from farm.verify.wheel import read_file


@dataclass
class Room:
    """Proves wheels of a farm: all that one needs must lie beside it, be published or be `elsewhere`.

    A proof goes on for as long as there is a file `hold-PROJECT`.
    """

    directory: Path
    says: Mapping[str, Verdict | RoomError] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, job: Job, wheel: Path, report: Report, beside: Iterable[Path]) -> Report:
        project = job.spec.project
        self.tried.append(project)
        there = {path.name.partition("-")[0]: path for path in beside}
        self.beside[project] = sorted(there)
        (self.directory / f"proof-{project}").touch()
        while self._hold(project).exists():
            time.sleep(0.05)
        answer = self.says.get(project) or self._installed(wheel, there)
        if isinstance(answer, RoomError):
            raise answer
        return replace(report, verdicts=(*report.verdicts, answer))

    def _hold(self, project: str) -> Path:
        return self.directory / f"hold-{project}"

    def hold(self, project: str) -> None:
        self._hold(project).touch()

    def let_go(self, project: str) -> None:
        self._hold(project).unlink()

    def began(self, project: str) -> bool:
        return (self.directory / f"proof-{project}").exists()

    def _installed(self, wheel: Path, beside: Mapping[str, Path]) -> Verdict:
        published = self.directory / "published"
        index = (
            {name.partition("-")[0] for name in published.read_text().split()}
            if published.exists()
            else set()
        )
        todo, seen = [wheel.name.partition("-")[0]], set[str]()
        files = {todo[0]: wheel, **beside}
        while todo:
            name = todo.pop()
            seen.add(name)
            for text in requires(files[name]) if name in files else self.elsewhere.get(name, ()):
                wanted = Requirement(text)
                if wanted.marker and not wanted.marker.evaluate(marker_environment("cp313")):
                    continue
                if wanted.name not in files.keys() | index | self.elsewhere.keys():
                    return Verdict(Gate.IMPORT, False, text, f"pip: no wheel for {text}", verdict=NO_WHEEL)
                todo += {wanted.name} - seen
        return Verdict(Gate.IMPORT, True, wheel.name, f"pip installed {' '.join(sorted(seen))}")


def requires(wheel: Path) -> Sequence[str]:
    """What a wheel's METADATA says it needs."""
    return parse_email(read_file(wheel, "METADATA"))[0].get("requires_dist", [])
