"""Installing the newest wheel of each project in the clean room, as a user does, and importing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.utils import canonicalize_name

from farm.cleanroom import CleanRoom, NoPythonError, RoomError
from farm.cleanroom.install import installed, refusal
from farm.cleanroom.modules import modules_of
from farm.cleanroom.room import BASELINE
from farm.cleanroom.stage import Stage, trial_folder
from farm.cleanroom.trial import one_line
from farm.errors import FarmError, InputError
from farm.hosted import hosted_projects
from farm.index import IndexTree
from farm.recipe import Recipe
from farm.recipe_file import load_recipe
from farm.tryout.pips import Pip
from farm.verify.wheel import read_archive
from farm.wheel_name import WheelName, parse_name

_WITNESSES = 3


class Fate(StrEnum):
    """What became of one project with one pip."""

    WELL = "well"
    NOT_INSTALLED = "not installed"
    NOT_IMPORTED = "not imported"
    UNTRIED = "untried"
    """The room or the index is at fault: nothing is known."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One project with one pip."""

    project: str
    version: str
    python: str
    asked: str
    """Which pip was asked for: ``newest``, or a version."""
    pip: str
    fate: Fate
    evidence: str
    hint: str = ""

    @property
    def broken(self) -> bool:
        """Whether a user can't use it."""
        return self.fate in {Fate.NOT_INSTALLED, Fate.NOT_IMPORTED}


def newest_wheels(tree: IndexTree, projects: Iterable[str] = ()) -> dict[str, list[Path]]:
    """Return all wheels of the newest version of each project, or of those named; higher build tags first.

    What is yanked or in quarantine is left out: users don't get it.

    Raises:
        InputError: one that is named is not hosted.
    """
    hosted = {it.name: it.wheels for it in hosted_projects(tree) if it.offered}
    asked = [str(canonicalize_name(project)) for project in projects]
    for project in asked:
        if project not in hosted:
            raise InputError(
                f"{project}: not hosted", hint="it has no wheel here, is yanked, or in quarantine"
            )
    found = {}
    for project in asked or hosted:
        wheels = hosted[project]
        names = {wheel: parse_name(wheel.name) for wheel in wheels}
        newest = max(name.version for name in names.values())
        chosen = [wheel for wheel in wheels if names[wheel].version == newest]
        found[project] = sorted(chosen, key=lambda wheel: names[wheel].build_number, reverse=True)
    return found


def tries(
    wheels: dict[str, list[Path]],
    pips: Sequence[Pip],
    room: CleanRoom,
    index_url: str,
    recipes: Path,
    logs: Path,
) -> Iterator[Tried]:
    """Try each project with each pip; logs are ``PROJECT.PIP.log``, with what was asked for as PIP.

    Raises:
        RoomError: the room can't be used at all.
        InputError: a recipe, or the folder for logs, is wrong.
    """
    room.check()
    logs.mkdir(parents=True, exist_ok=True)
    for project, found in wheels.items():
        recipe = load_recipe(recipes, project)
        try:
            wheel, tag, python = _chosen(found, room)
        except NoPythonError as error:
            name = parse_name(found[-1].name)
            for pip in pips:
                yield Tried(
                    *(project, str(name.version), name.python_abi, pip.asked, pip.version),
                    *(Fate.UNTRIED, error.message, error.hint),
                )
            continue
        for pip in pips:
            subject = _Subject(wheel, parse_name(wheel.name), tag, python, pip)
            yield _tried(subject, room, index_url, recipe, logs / f"{project}.{pip.asked}.log")


@dataclass(frozen=True, slots=True)
class _Subject:
    wheel: Path
    name: WheelName
    tag: str
    python: str
    pip: Pip

    def tried(self, fate: Fate, evidence: str, hint: str = "") -> Tried:
        name, pip = self.name, self.pip
        return Tried(name.project, str(name.version), self.tag, pip.asked, pip.version, fate, evidence, hint)


def _chosen(wheels: Sequence[Path], room: CleanRoom) -> tuple[Path, str, str]:
    """Return the wheel for the newest Python of the room, and that Python."""
    pythons = list(room.pythons())
    found = []
    for wheel in wheels:
        try:
            found.append((wheel, *room.python_for(parse_name(wheel.name))))
        except NoPythonError as error:
            lacking = error
    if not found:
        raise lacking
    return min(found, key=lambda item: pythons.index(item[1]))


def _tried(subject: _Subject, room: CleanRoom, index_url: str, recipe: Recipe, log: Path) -> Tried:
    try:
        with log.open("wb") as output, trial_folder(room, []) as folder:
            return _try(subject, Stage(room, folder, output), index_url, recipe, log)
    except FarmError as error:  # the room's, or of a wheel that is no longer whole
        fate = Fate.UNTRIED if isinstance(error, RoomError) else Fate.NOT_INSTALLED
        return subject.tried(fate, error.message, error.hint)


def _try(subject: _Subject, stage: Stage, index_url: str, recipe: Recipe, log: Path) -> Tried:
    wanted = f"{subject.name.project}=={subject.name.version}"
    ended = stage.install("venv", subject.python, subject.pip.command(wanted, index_url))
    if not ended.ok:
        if ended.stop is not None:
            return subject.tried(
                Fate.UNTRIED, f"pip was stopped; see {log}", "try again when less goes on here"
            )
        refused = refusal(ended.tail, index_url)
        fate = Fate.UNTRIED if refused.room else Fate.NOT_INSTALLED
        return subject.tried(fate, f"{refused.evidence}; log {log}", refused.hint)
    modules = [
        module
        for module in modules_of(read_archive(subject.wheel), subject.tag)
        if module not in recipe.import_skip
    ]
    outcomes, imported = stage.imports(modules, BASELINE)
    errors = [f"{it.module}: {one_line(it.error or 'it crashed')}" for it in outcomes if it.error != ""]
    if errors or not imported.ok:
        said = "; ".join(errors[:_WITNESSES]) or "Python crashed"
        return subject.tried(Fate.NOT_IMPORTED, f"{said}; log {log}", f"farm verify --run {subject.wheel}")
    seconds = ended.seconds + imported.seconds
    return subject.tried(Fate.WELL, f"{installed(ended.tail)}; {len(modules)} modules, {seconds:.1f} s")
