"""What must be built, and why or why not. Pure: plain data in, plain data out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from farm.errors import InputError, UpstreamError
from farm.recipe import Recipe

if TYPE_CHECKING:
    # It brings 10 MiB of what talks to PyPI, which whoever only reads jobs can do without.
    from farm.upstream import UpstreamFile, UpstreamProject


class Reason(StrEnum):
    """Why a project is built or left alone."""

    NO_RISCV64_WHEEL = "upstream ships no riscv64 wheel for this Python"
    FORCED = "asked for although upstream ships a wheel"
    PURE = "upstream's wheel is pure Python and runs everywhere (F26)"
    UPSTREAM_RISCV64 = "upstream ships a riscv64 wheel for this Python"


@dataclass(frozen=True, slots=True)
class Python:
    """A CPython ABI to build for, by its PEP 425 interpreter tag (``cp313``)."""

    tag: str

    @property
    def version(self) -> str:
        """The language version, ``3.13`` for ``cp313``."""
        return f"{self.tag[2]}.{self.tag[3:]}"

    @classmethod
    def parse(cls, text: str) -> Python:
        """Read ``cp313`` or ``3.13``.

        Raises:
            InputError: it is neither.
        """
        match = re.fullmatch(r"(?:3\.|cp3)([0-9]{1,2})", text)
        if match is None:
            raise InputError(f"{text}: not a CPython version", hint="write it as 3.13 or cp313")
        return cls(f"cp3{match[1]}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One project at one version for one Python: build it or not, and why."""

    project: str
    version: Version
    python: Python
    build: bool
    reason: Reason
    sdist: UpstreamFile | None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """All that goes into a build; :attr:`digest` identifies the job."""

    project: str
    version: str
    python: str
    sdist_filename: str
    sdist_url: str
    sdist_sha256: str
    recipe: Recipe
    build_tag: str = ""
    """PEP 427's, which the wheel must have; empty: none. It is chosen late (:mod:`farm.build_tag`), and no
    part of the job's identity."""

    @property
    def digest(self) -> str:
        """Return the sha256 over sdist, recipe (its constraints included) and Python ABI."""
        return job_digest(self.project, self.version, self.python, self.sdist_sha256, self.recipe.digest())

    @property
    def job_id(self) -> str:
        """Return the name people and directories know the job by."""
        return f"{self.project}-{self.version}-{self.python}-{self.digest[:8]}"


def job_digest(project: str, version: str, python: str, sdist_sha256: str, recipe_digest: str) -> str:
    """Return what identifies a job, from all that goes into it."""
    parts = [project, version, python, sdist_sha256, recipe_digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def parse_requirements(texts: Iterable[str]) -> list[Requirement]:
    """Parse what a user asks for: ``name`` or ``name==version`` (any PEP 440 specifier).

    Raises:
        InputError: one is no PEP 508 requirement, or has a URL, an extra or a marker.
    """
    requirements: list[Requirement] = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise InputError(f"{text!r} is not a requirement", hint="write NAME or NAME==VERSION") from error
        if requirement.url or requirement.extras or requirement.marker:
            raise InputError(
                f"{text!r}: only a name and versions can be built, no URL, extra or marker",
                hint=f"write {requirement.name} or {requirement.name}==VERSION",
            )
        requirements.append(requirement)
    return requirements


def choose(
    requirement: Requirement, upstream: UpstreamProject, python: Python, *, force: bool = False
) -> Choice:
    """Decide which version to build for ``python``, and whether to build it at all.

    The newest final version that fits is taken, as pip would (PEP 440, PEP 592). F26: a project whose
    upstream wheel is pure is never built, not even when forced.

    Raises:
        UpstreamError: nothing fits the requirement, or the version to build has no sdist.
    """
    name = canonicalize_name(requirement.name)
    version = _newest(requirement, upstream, python)
    files = [file for file in upstream.files if file.version == version]
    tags = [frozenset(parse_wheel_filename(file.filename)[3]) for file in files if file.is_wheel]
    sdist = next((file for file in files if not file.is_wheel), None)
    if any(tag.platform == "any" and runs_on(tag, python) for group in tags for tag in group):
        return Choice(name, version, python, build=False, reason=Reason.PURE, sdist=sdist)
    if not force and any(_is_riscv64(tag, python) for group in tags for tag in group):
        return Choice(name, version, python, build=False, reason=Reason.UPSTREAM_RISCV64, sdist=sdist)
    if sdist is None:
        raise UpstreamError(
            f"{name} {version}: upstream has no sdist of it",
            hint=f"ask for a version that has one, or name its source in recipes/{name}.yml, key sdists",
        )
    reason = Reason.FORCED if force else Reason.NO_RISCV64_WHEEL
    return Choice(name, version, python, build=True, reason=reason, sdist=sdist)


def job_spec(choice: Choice, recipe: Recipe) -> JobSpec:
    """Return the job that builds ``choice`` by ``recipe``."""
    if choice.sdist is None or choice.sdist.sha256 is None:
        raise UpstreamError(
            f"{choice.project} {choice.version}: the index promises no sha256 for its sdist",
            hint="use an index that does",
        )
    return JobSpec(
        project=choice.project,
        version=str(choice.version),
        python=choice.python.tag,
        sdist_filename=choice.sdist.filename,
        sdist_url=choice.sdist.url,
        sdist_sha256=choice.sdist.sha256,
        recipe=recipe,
    )


def _newest(requirement: Requirement, upstream: UpstreamProject, python: Python) -> Version:
    # PEP 592: only a full version is a pin; "==1.*" is a range.
    exact = any(
        spec.operator in {"==", "==="} and not spec.version.endswith(".*") for spec in requirement.specifier
    )
    usable = {
        file.version
        for file in upstream.files
        if _allows(file.requires_python, python)
        and (exact or not file.yanked)
        # F02: pip would prefer the final release to a development build of it.
        and not (file.version.is_devrelease or file.version.local)
    }
    fitting = sorted(requirement.specifier.filter(usable))
    if not fitting:
        newest = max((version for version in usable if not version.is_prerelease), default=None)
        raise UpstreamError(
            f"{requirement}: no version on the index fits it and Python {python.version}",
            hint=f"the newest one is {newest}" if newest else "the project has no usable release",
        )
    return fitting[-1]


def _allows(requires_python: str | None, python: Python) -> bool:
    if not requires_python:
        return True
    try:
        # ".99": requires-python is about the release; the board's patch level is never the obstacle.
        return SpecifierSet(requires_python).contains(f"{python.version}.99", prereleases=True)
    except InvalidSpecifier:
        return True


def runs_on(tag: Tag, python: Python) -> bool:
    """Return whether the tag's interpreter and ABI fit ``python`` (PEP 425, PEP 384)."""
    minor = int(python.tag[3:])
    if tag.abi == "abi3" and tag.interpreter.startswith("cp3"):
        return int(tag.interpreter[3:] or 0) <= minor
    if tag.abi == "none":
        older = tag.interpreter.removeprefix("py3")
        return tag.interpreter in {"py3", python.tag} or (older.isdigit() and int(older) <= minor)
    return tag.interpreter == python.tag and tag.abi == python.tag


def _is_riscv64(tag: Tag, python: Python) -> bool:
    return (
        tag.platform.endswith("riscv64")
        and tag.platform.startswith(("manylinux", "linux"))
        and runs_on(tag, python)
    )
