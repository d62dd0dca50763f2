"""Upstream projects and jobs without an index."""

from __future__ import annotations

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from farm.plan import Choice, JobSpec, Python, choose
from farm.recipe import DEFAULT, Recipe
from farm.upstream import UpstreamFile, UpstreamProject

CP313 = Python("cp313")


def offered(
    filename: str,
    *,
    requires_python: str | None = None,
    yanked: bool = False,
    sha256: str | None = "ab" * 32,
) -> UpstreamFile:
    is_wheel = filename.endswith(".whl")
    version = parse_wheel_filename(filename)[1] if is_wheel else parse_sdist_filename(filename)[1]
    return UpstreamFile(
        filename, version, f"https://files.test/{filename}", sha256, requires_python, yanked, is_wheel
    )


def project(*files: UpstreamFile | str, name: str = "demo") -> UpstreamProject:
    return UpstreamProject(
        canonicalize_name(name), tuple(offered(file) if isinstance(file, str) else file for file in files)
    )


def choice(wanted: str, *files: UpstreamFile | str, force: bool = False, python: Python = CP313) -> Choice:
    return choose(Requirement(wanted), project(*files), python, force=force)


def spec(
    name: str = "demo", version: str = "1.0", python: str = "cp313", recipe: Recipe = DEFAULT
) -> JobSpec:
    filename = f"{name}-{version}.tar.gz"
    return JobSpec(name, version, python, filename, f"https://files.test/{filename}", "ab" * 32, recipe)
