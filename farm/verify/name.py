"""A wheel's file name, parsed (PEP 427, PEP 425; pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName, parse_wheel_filename

from farm.errors import WheelError

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.version import Version


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's file name; ``build`` is the build tag as written, or empty."""

    filename: str
    project: NormalizedName
    version: Version
    build: str
    tags: frozenset[Tag]

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


def parse_name(filename: str) -> WheelName:
    """Parse a wheel's file name. Raises WheelError if it is not one."""
    try:
        project, version, build, tags = parse_wheel_filename(filename)
    except ValueError as error:  # the root of packaging's InvalidWheelFilename, InvalidVersion, InvalidTag
        hint = "a wheel is named NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl (PEP 427)"
        raise WheelError(f"{filename}: not a wheel's file name", hint=hint) from error
    written = f"{build[0]}{build[1]}" if build else ""
    return WheelName(filename, project, version, written, tags)
