"""A wheel's file name, parsed (PEP 427, PEP 425; pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from packaging.utils import NormalizedName, is_normalized_name, parse_wheel_filename

from farm.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.tags import Tag
    from packaging.version import Version

_HINT: Final = "a wheel is named NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl (PEP 427)"
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._+!-]+")
_DIGITS: Final = re.compile(r"\d*")


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's file name; ``build`` is the build tag without leading zeros, or empty."""

    filename: str
    project: NormalizedName
    version: Version
    build: str
    tags: frozenset[Tag]

    @property
    def identity(self) -> tuple[Version, str, frozenset[Tag]]:
        """What two files of a project can't have in common, however each spells it."""
        return (self.version, self.build.lower(), self.tags)

    @property
    def build_number(self) -> int:
        """The number that its build tag begins with; 0 if it has none."""
        return build_order(self.build)[0]

    @property
    def is_pure(self) -> bool:
        """True when it says that it runs on any platform."""
        return any(tag.platform == "any" for tag in self.tags)

    @property
    def is_riscv64(self) -> bool:
        """True when every platform it names is a riscv64 one."""
        return all(tag.platform.endswith("_riscv64") for tag in self.tags)

    @property
    def platforms(self) -> str:
        """Its platform tags, compressed as in the file name."""
        return ".".join(sorted({tag.platform for tag in self.tags}))

    @property
    def python_abi(self) -> str:
        """Its Python and ABI tags, compressed as in the file name."""
        pythons = ".".join(sorted({tag.interpreter for tag in self.tags}))
        return f"{pythons}-{'.'.join(sorted({tag.abi for tag in self.tags}))}"


@lru_cache(maxsize=1024)  # an index asks for each name of a project several times
def parse_name(filename: str) -> WheelName:
    """Parse a wheel's file name. Raises WheelError if it is not one.

    Stricter than packaging's: a character that PEP 427 does not have would need quoting in a URL or a page.
    """
    if not _CHARACTERS.fullmatch(filename):
        raise WheelError(f"{filename}: not a wheel's file name", hint=_HINT)
    try:
        project, version, build, tags = parse_wheel_filename(filename)
    except ValueError as error:  # the root of packaging's InvalidWheelFilename, InvalidVersion, InvalidTag
        raise WheelError(f"{filename}: not a wheel's file name", hint=_HINT) from error
    if not is_normalized_name(project):  # it begins or ends with a dot or the like
        raise WheelError(f"{filename}: {project} is not a project's name (PEP 508)", hint=_HINT)
    written = f"{build[0]}{build[1]}" if build else ""
    return WheelName(filename, project, version, written, tags)


def build_order(build: str) -> tuple[int, str]:
    """Order build tags (PEP 427): by the number they begin with, then as text; none is lowest."""
    digits = _DIGITS.match(build)
    number = digits[0] if digits else ""
    return (int(number or 0), build[len(number) :])


def next_build_tag(name: WheelName, present: Iterable[WheelName]) -> int:
    """Return the lowest build tag above those of the same version (PEP 427: higher wins, none is lowest)."""
    return max((other.build_number for other in present if other.version == name.version), default=0) + 1


def rebuild_hint(name: WheelName, present: Iterable[WheelName]) -> str:
    """Return what to do about a name that is taken (F06): the next build tag, and the name with it."""
    free = next_build_tag(name, present)
    parts = name.filename.split("-")
    retagged = "-".join([*parts[:2], str(free), *parts[-3:]])
    return f"publish the rebuild with build tag {free} (PEP 427): {retagged}"
