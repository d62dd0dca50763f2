"""Is this wheel what its job asked for? (pure)

Rules F02 (the requested version, never dev or local), F03 (the promised Python), F04 (a job expected to be
native gets native code).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.recipe import Recipe
    from farm.wheel_name import WheelName

_PYTHON_TAG = re.compile(r"cp(3)(\d+)")
_EXTENSION = re.compile(r"\.cpython-(\d+[a-z]*)(?:-[^./]*)?\.so$")


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a recipe puts up with in its wheel, each with the reason why; shown with the verdicts."""

    runtime_guarded: Mapping[str, str] = field(default_factory=dict)
    """Globs of files that may have code beyond rv64gc, once :func:`farm.verify.isa.settle` has the proof."""
    system_libraries: Mapping[str, str] = field(default_factory=dict)
    """SONAMEs that a ``linux_riscv64`` wheel needs of its user's system, because nothing can graft them."""
    libraries_of: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By project, SONAMEs of libraries that its wheel has and this one uses."""
    keep_files: Mapping[str, str] = field(default_factory=dict)
    """Patterns of files that look foreign or left over and belong there."""
    no_licence: str = ""
    """Why the wheel carries no licence file although its sdist has some."""

    @classmethod
    def of(cls, recipe: Recipe) -> Allowances:
        """Return a recipe's."""
        return cls(
            recipe.runtime_guarded,
            recipe.system_libraries,
            recipe.libraries_of,
            recipe.keep_files,
            recipe.no_licence,
        )

    @property
    def borrowed(self) -> frozenset[str]:
        """All libraries of other projects."""
        return frozenset(library for libraries in self.libraries_of.values() for library in libraries)


NOTHING = Allowances()


@dataclass(frozen=True, slots=True)
class JobExpectation:
    """What a job must deliver. ``python_tag`` is ``cp313`` or alike; ``build_tag`` is PEP 427's, or empty."""

    project: str
    version: str
    python_tag: str
    native: bool
    build_tag: str = ""

    def __post_init__(self) -> None:
        """Refuse an expectation that no wheel could meet."""
        if _PYTHON_TAG.fullmatch(self.python_tag) is None:
            raise InputError(
                f"python tag {self.python_tag!r} is not a CPython tag", hint="write cp313 or alike"
            )
        try:
            Version(self.version)
        except InvalidVersion as error:
            raise InputError(f"{self.project}: {error}", hint="write a PEP 440 version") from error


def judge_job(expect: JobExpectation, name: WheelName, elf_members: Sequence[str]) -> tuple[Verdict, ...]:
    """Compare the wheel's name, tags and native members with what the job expects."""
    problems = [*_identity(expect, name), *_tags(expect, name), *_native(expect, name, elf_members)]
    if problems:
        return tuple(Verdict(Gate.JOB, False, name.filename, why, hint) for why, hint in problems)
    what = (
        f"{expect.project} {expect.version} for {expect.python_tag}, {'native' if expect.native else 'pure'}"
    )
    return (Verdict(Gate.JOB, True, name.filename, f"as the job asked: {what}"),)


def _identity(expect: JobExpectation, name: WheelName) -> list[tuple[str, str]]:
    problems = []
    if canonicalize_name(expect.project) != name.project:
        problems.append(
            (f"project is {name.project}, the job is for {expect.project}", "check the job's sdist")
        )
    if name.version.is_devrelease or name.version.local:
        kind = "development" if name.version.is_devrelease else "local"
        hint = "build from the released sdist, with SETUPTOOLS_SCM_PRETEND_VERSION if the project needs it"
        problems.append((f"{name.version} is a {kind} version", hint))
    if name.version != Version(expect.version):
        hint = "build the sdist of the requested version"
        problems.append((f"version is {name.version}, the job is for {expect.version}", hint))
    if name.build != expect.build_tag:
        want, got = expect.build_tag or "none", name.build or "none"
        problems.append(
            (f"build tag is {got}, the job is for {want}", "retag the wheel: wheel tags --build N")
        )
    return problems


def installable(python_tag: str, platforms: list[str]) -> frozenset[Tag]:
    """List the tags that the named CPython installs on these platforms (PEP 425, PEP 384 for abi3)."""
    match = _PYTHON_TAG.fullmatch(python_tag)
    version = (3, int(match.group(2))) if match else (3, 0)
    native = cpython_tags(python_version=version, abis=[python_tag], platforms=platforms)
    general = compatible_tags(python_version=version, interpreter=python_tag, platforms=platforms)
    return frozenset(native) | frozenset(general)


def _tags(expect: JobExpectation, name: WheelName) -> list[tuple[str, str]]:
    platforms = sorted({tag.platform for tag in name.tags})
    if name.tags & installable(expect.python_tag, platforms):
        return []
    found = ", ".join(sorted({f"{tag.interpreter}-{tag.abi}" for tag in name.tags}))
    hint = f"build under {expect.python_tag}, or for the stable ABI of an older CPython (cpXY-abi3)"
    return [(f"{found} can't be installed on {expect.python_tag}", hint)]


def _native(expect: JobExpectation, name: WheelName, elf_members: Sequence[str]) -> list[tuple[str, str]]:
    if not expect.native:
        if name.is_pure:
            return []
        return [(f"{name.platforms} wheel, the job is for a pure one", "mark the project as native")]
    backend = (
        "build with the project's own backend; check the log for a skipped extension or missing -dev package"
    )
    if name.is_pure:
        return [(f"pure wheel ({name.python_abi}-any), the job is for native code", backend)]
    if not elf_members:
        return [("platform wheel without any native file", backend)]
    if not any(tag.platform.startswith(("manylinux", "linux_")) for tag in name.tags):
        return [
            (
                f"{name.platforms} is not a glibc Linux platform",
                "build on a glibc node, repair with auditwheel",
            )
        ]
    return _suffixes(name, elf_members)


def _suffixes(name: WheelName, elf_members: Sequence[str]) -> list[tuple[str, str]]:
    """Find extension modules made for another Python than the tags promise (PEP 3149 file names)."""
    stated = {tag.interpreter if tag.abi == "none" else tag.abi for tag in name.tags}
    promised = {tag.removeprefix("cp") for tag in stated if tag.startswith("cp")}
    problems = []
    for member in elf_members:
        match = _EXTENSION.search(member)
        if match is not None and match.group(1) not in promised:
            why = f"{member} is for cp{match.group(1)}, the wheel is tagged {name.python_abi}"
            problems.append((why, "build under the Python that the tag names"))
    return problems
