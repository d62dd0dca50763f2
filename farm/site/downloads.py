"""How often what was downloaded lately: what the index host counted (:mod:`farm.index.stats`), for pages.

The counter is our own, but what it counts is what strangers ask for; so its names are strangers' texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Final

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import UpstreamError
from farm.site.farm_model import DayCount, ProjectCount, Share, StatisticsPage
from farm.site.model import Downloads
from farm.site.text import clean

RECENT: Final = "stats/recent.json"
"""Where the counter writes it, below the root of the index; the controller keeps a copy in that place."""
LONGEST_NAME: Final = 200
Number = Annotated[int, Field(ge=0)]


class _Recent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    days: Annotated[dict[date, Number], Field(min_length=1)]
    downloads: Number
    projects: dict[str, dict[str, Number]]
    pythons: dict[str, Number]
    installers: dict[str, Number]
    machines: dict[str, Number]


@dataclass(frozen=True, slots=True)
class Counted:
    """Downloads on some whole days (UTC), in what they were counted by."""

    first: date
    until: date
    days: Mapping[date, int]
    downloads: int
    projects: Mapping[str, Mapping[str, int]]
    pythons: Mapping[str, int]
    installers: Mapping[str, int]
    machines: Mapping[str, int]

    def of_all(self) -> Downloads:
        """Return the downloads of everything."""
        return self._downloads(self.downloads)

    def of(self, project: str) -> Downloads | None:
        """Return those of a project; None where there were none."""
        number = sum(self.projects.get(project, {}).values())
        return self._downloads(number) if number else None

    def by_version(self, project: str) -> dict[Version, int]:
        """Return those of a project's versions: file names spell one in several ways."""
        found: dict[Version, int] = {}
        for text, number in self.projects.get(project, {}).items():
            try:
                version = Version(text)
            except InvalidVersion:
                continue
            found[version] = found.get(version, 0) + number
        return found

    def _downloads(self, number: int) -> Downloads:
        return Downloads(number, self.first.isoformat(), self.until.isoformat())


def read_counted(data: bytes, source: str) -> Counted:
    """Read what the counter wrote.

    Raises:
        UpstreamError: it makes no sense.
    """
    try:
        said = _Recent.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UpstreamError(
            f"{source}: no counts of downloads: {where}: {first['msg']}",
            hint="`farm provision` brings the index host the counter of this version",
        ) from error
    return Counted(min(said.days), max(said.days), **said.model_dump())


def kept_counts(root: Path) -> Counted | None:
    """Return what lies in a tree; None where the index host counts nothing.

    It was read before it was kept (:mod:`farm.downloads`): what makes no sense now is of another version of
    the farm, and replaced by the next refresh, which says what is wrong. No publication fails for it.
    """
    path = root / RECENT
    try:
        return read_counted(path.read_bytes(), str(path))
    except (FileNotFoundError, UpstreamError):
        return None


def statistics_page(counted: Counted, paths: Mapping[str, str]) -> StatisticsPage:
    """Return the page of all downloads; ``paths`` are those of the pages of projects that are hosted now."""
    whole = counted.downloads or 1
    most = max(counted.days.values()) or 1
    projects = [
        ProjectCount(clean(name, LONGEST_NAME), paths.get(name, ""), number, round(number / whole, 4))
        for name, versions in counted.projects.items()
        if (number := sum(versions.values()))
    ]
    return StatisticsPage(
        first=counted.first.isoformat(),
        until=counted.until.isoformat(),
        downloads=counted.downloads,
        days=tuple(
            DayCount(day.isoformat(), number, round(number / most, 4))
            for day, number in sorted(counted.days.items())
        ),
        projects=tuple(sorted(projects, key=lambda row: (-row.downloads, row.project))),
        pythons=_shares(counted.pythons, whole),
        installers=_shares(counted.installers, whole),
        machines=_shares(counted.machines, whole),
    )


def _shares(names: Mapping[str, int], whole: int) -> tuple[Share, ...]:
    """Return names with their numbers, the largest first."""
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Share(clean(name, LONGEST_NAME), number, round(number / whole, 4)) for name, number in ordered
    )
