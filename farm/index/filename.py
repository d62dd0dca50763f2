"""A wheel's file name as the index needs it: project, version, build tag (PEP 427, PEP 503; pure).

:mod:`farm.verify.name` judges tags as well; that takes longer to import than one more wheel may take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, cast

from packaging.version import InvalidVersion, Version

from farm.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

_WHEEL: Final = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?)-(?P<version>[A-Za-z0-9._+!]+)"
    r"(?:-(?P<build>[0-9][A-Za-z0-9._]*))?-(?P<tags>[A-Za-z0-9._]+-[A-Za-z0-9._]+-[A-Za-z0-9._]+)\.whl"
)
_SEPARATORS: Final = re.compile(r"[-_.]+")
_NORMALISED: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_HINT: Final = "a wheel is named NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl (PEP 427)"


class Tagged(Protocol):
    """What a build tag belongs to."""

    @property
    def version(self) -> Version: ...
    @property
    def build(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FileName:
    """The parts of a wheel's file name; ``build`` is the build tag as written, or empty."""

    project: NormalizedName
    version: Version
    build: str
    tags: str
    """Python, ABI and platform, in lower case; compressed sets are sorted."""

    @property
    def identity(self) -> tuple[Version, str, str]:
        """What two files of a project can't have in common, however each spells it."""
        return (self.version, self.build.lower(), self.tags)


def parse(filename: str) -> FileName:
    """Parse a wheel's file name. Raises WheelError if it is not one."""
    match = _WHEEL.fullmatch(filename)
    if match is None:
        raise WheelError(f"{filename}: not a wheel's file name", hint=_HINT)
    name, version, build, tags = match.groups()
    try:
        return FileName(normalised(name), version_of(version), build or "", _sorted_tags(tags))
    except InvalidVersion as error:
        raise WheelError(f"{filename}: {version} is not a version (PEP 440)", hint=_HINT) from error


@lru_cache(maxsize=1024)
def normalised(name: str) -> NormalizedName:
    """Return a project's normalised name (PEP 503).

    packaging's own function comes with tags and all that they import: one more wheel would wait for it.
    """
    return cast("NormalizedName", _SEPARATORS.sub("-", name).lower())


@lru_cache(maxsize=1024)
def version_of(text: str) -> Version:
    """Return a version. Raises packaging's InvalidVersion."""
    return Version(text)


@lru_cache(maxsize=1024)
def _sorted_tags(tags: str) -> str:
    return "-".join(".".join(sorted(part.split("."))) for part in tags.lower().split("-"))


def is_normalised(name: str) -> bool:
    """Whether this is a project's name as an index writes it (PEP 503)."""
    return _NORMALISED.fullmatch(name) is not None


def build_order(build: str) -> tuple[int, str]:
    """Order build tags (PEP 427): by the number they begin with, then as text; none is lowest."""
    digits = len(build) - len(build.lstrip("0123456789"))
    return (int(build[:digits] or 0), build[digits:])


def next_build_tag(name: Tagged, present: Iterable[Tagged]) -> int:
    """Return the lowest build tag above those of the same version (PEP 427: higher wins, none is lowest)."""
    return (
        max((build_order(other.build)[0] for other in present if other.version == name.version), default=0)
        + 1
    )


def retagged(filename: str, build: int) -> str:
    """Return the wheel's file name with another build tag."""
    parts = filename.split("-")
    return "-".join([*parts[:2], str(build), *parts[-3:]])
