"""What became news upstream of the projects that this index hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

from farm.errors import FarmError
from farm.hosted import hosted_projects
from farm.index import IndexTree
from farm.index.model import ProjectStatus
from farm.plan import Python, Reason, choose, runs_on
from farm.recipe_file import load_recipe
from farm.upstream import Upstream, UpstreamProject
from farm.wheel_name import WheelName, parse_name

AT_ONCE: Final = 8

Hosted = Mapping[Python, Version]
"""The newest version that the index has for each CPython."""


class News(StrEnum):
    """What is new."""

    NEWER = "upstream has a newer version"
    SHIPS = "upstream ships riscv64 wheels now"
    PURE = "upstream's wheel is pure now"
    WITHDRAWN = "upstream has yanked or removed it"


@dataclass(frozen=True, slots=True)
class Item:
    """One news of one project, for one CPython."""

    project: str
    python: Python
    hosted: Version
    upstream: Version
    news: News

    def to_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {
            "project": self.project,
            "python": self.python.tag,
            "hosted": str(self.hosted),
            "upstream": str(self.upstream),
            "news": self.news.name.lower(),
        }


@dataclass(frozen=True, slots=True)
class Unknown:
    """A project of which upstream could not be asked, or has nothing."""

    project: str
    error: FarmError


def look(
    tree: IndexTree, pythons: Sequence[Python], upstream: Upstream, recipes: Path
) -> tuple[list[Item], list[Unknown]]:
    """Ask upstream about all hosted projects; without ``pythons``, for those that there are wheels for."""
    projects = [it for it in hosted_projects(tree) if it.kept_up]
    wheels = [parse_name(path.name) for it in projects for path in it.wheels]
    hosted = hosted_by_python(wheels, pythons or pythons_in(wheels))
    answered = {it.name for it in projects if it.status is ProjectStatus.DEPRECATED}

    def ask(project: str) -> list[Item] | Unknown:
        try:
            sdists = load_recipe(recipes, project).sdists
            return news_of(project, hosted[project], upstream.project(project, sdists))
        except FarmError as error:
            return Unknown(project, error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, hosted))
    items = [item for answer in answers if not isinstance(answer, Unknown) for item in answer]
    items = [it for it in items if it.news not in {News.SHIPS, News.PURE} or it.project not in answered]
    return items, [answer for answer in answers if isinstance(answer, Unknown)]


def hosted_by_python(wheels: Iterable[WheelName], pythons: Sequence[Python]) -> dict[str, Hosted]:
    """Return what is hosted for each of ``pythons``, of projects that have something for one of them."""
    found: defaultdict[str, dict[Python, Version]] = defaultdict(dict)
    for wheel in wheels:
        for python in pythons:
            if any(runs_on(tag, python) for tag in wheel.tags):
                held = found[wheel.project]
                held[python] = max(held.get(python, wheel.version), wheel.version)
    return dict(found)


def pythons_in(wheels: Iterable[WheelName]) -> list[Python]:
    """Return the CPythons that wheels were built for, oldest first; abi3 counts where nothing else is."""
    tags = {tag for wheel in wheels for tag in wheel.tags if tag.interpreter.startswith("cp3")}
    exact = {tag.interpreter for tag in tags if tag.abi == tag.interpreter}
    return sorted(
        map(Python, exact or {tag.interpreter for tag in tags}), key=lambda it: int(it.tag[3:] or 0)
    )


def news_of(project: str, hosted: Hosted, upstream: UpstreamProject) -> list[Item]:
    """Compare one project.

    Raises:
        UpstreamError: upstream has nothing that could be built or installed.
    """
    offered = {file.version for file in upstream.files if not file.yanked}
    found = []
    for python, held in hosted.items():
        choice = choose(Requirement(project), upstream, python)

        def item(news: News, held: Version = held, newest: Version = choice.version) -> Item:
            return Item(project, python, held, newest, news)  # noqa: B023  # used in this turn only

        if held not in offered:
            found.append(item(News.WITHDRAWN))
        if choice.reason is Reason.PURE:
            found.append(item(News.PURE))
        elif choice.reason is Reason.UPSTREAM_RISCV64:
            found.append(item(News.SHIPS))
        elif choice.version > held:
            found.append(item(News.NEWER))
    return found


def commands(items: Sequence[Item]) -> list[str]:
    """Return the commands that answer the news of one project or more."""
    found: dict[str, None] = {}
    newer: defaultdict[str, list[str]] = defaultdict(list)
    everywhere: defaultdict[str, set[News]] = defaultdict(set)
    for item in items:
        everywhere[item.project].add(item.news)
        if item.news is News.NEWER:
            newer[item.project].append(item.python.version)
        elif item.news is News.WITHDRAWN:
            found[f"farm yank {item.project} {item.hosted}"] = None
    for project, versions in newer.items():
        found[" ".join(["farm dispatch", project, *(f"--python {version}" for version in versions)])] = None
    for project, news in everywhere.items():
        # Where one Python still needs ours, the project is not done with.
        if news & {News.SHIPS, News.PURE} and News.NEWER not in news:
            found[f"farm index status {project} deprecated"] = None
    return list(found)
