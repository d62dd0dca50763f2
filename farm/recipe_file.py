"""Reads recipes. Unknown keys and wrong values are refused with file and line, so none is without effect.

pydantic, which does it, brings 10 MiB; who runs jobs that were queued is content with :mod:`farm.recipe`.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, get_type_hints

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from farm.errors import InputError
from farm.recipe import DEFAULT, Recipe, runs_pytest


def _requirement(value: str) -> str:
    try:
        return str(Requirement(value))
    except InvalidRequirement as error:
        raise ValueError(f"not a PEP 508 requirement: {value!r}") from error


def _words(value: object) -> object:
    """Split a command as a shell does; it is run without one, so what only a shell understands is refused."""
    if not isinstance(value, str):
        return value
    lexer = shlex.shlex(value, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ValueError(f"{value!r}: {str(error).lower()}") from error
    found = next((word for word in words if set(word) <= _OPERATORS), None)
    if found is not None:
        raise ValueError(
            f"no shell runs it, so {found!r} has no meaning; for more than one command use python -c"
        )
    return words


def _project(value: str) -> str:
    try:
        return canonicalize_name(value, validate=True)
    except InvalidName as error:
        raise ValueError(f"not a project's name: {value!r}") from error


def _versions(value: str) -> str:
    try:
        return str(SpecifierSet(value))
    except InvalidSpecifier as error:
        raise ValueError(f"not a PEP 440 specifier, such as '<2': {value!r}") from error


def _member(value: str) -> str:
    path = PurePosixPath(value)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError(f"not a file or folder inside of the sdist, such as tests: {value!r}")
    return str(path)


_OPERATORS: Final = frozenset("();<>|&")  # what shlex calls punctuation
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Feature = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Project = Annotated[str, AfterValidator(_project)]
FileGlob = Annotated[str, Field(min_length=1, pattern=r"^[^/\\][^\\]*$")]
DebianPackage = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
Soname = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*\.so(\.[A-Za-z0-9_.+-]+)?$")]
Mebibytes = Annotated[int, Field(gt=0)]


def _version(value: str) -> str:
    try:
        return str(Version(value))
    except InvalidVersion as error:
        raise ValueError(f"not a version (PEP 440): {value!r}") from error


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _SourceArchive(_Checked):
    url: Annotated[
        str,
        Field(pattern=r"^https?://[^\s/]+(/[^\s/?#]+)*/[A-Za-z0-9][A-Za-z0-9._+-]*\.(tar\.gz|zip)$"),
    ]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _KnownFailure(_Checked):
    versions: Annotated[str, AfterValidator(_versions)] = ""
    tests: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    reason: Reason


_RULES: Final[Mapping[str, Any]] = {
    "sdists": dict[Annotated[str, AfterValidator(_version)], _SourceArchive],
    "apt_packages": list[DebianPackage],
    "build_constraints": list[Annotated[str, AfterValidator(_requirement)]],
    "timeout_s": Annotated[int, Field(gt=0)],
    "build_network": Annotated[str, Field(pattern=r"^(\S.*)?$")],
    "nodes": list[NodeName],
    "exclude_nodes": list[NodeName],
    "features": list[Feature],
    "needs": list[Project],
    "memory_mib": Mebibytes | None,
    "memory_mib_per_task": Mebibytes | None,
    "runtime_guarded": dict[FileGlob, Reason],
    "system_libraries": dict[Soname, Reason],
    "libraries_of": dict[Project, Annotated[list[Soname], Field(min_length=1)]],
    "keep_files": dict[str, Reason],
    "test_command": Annotated[list[str], BeforeValidator(_words)],
    "test_sources": list[Annotated[str, AfterValidator(_member)]],
    "test_requires": list[Annotated[str, AfterValidator(_requirement)]],
    "test_timeout_s": Annotated[int, Field(gt=0)],
    "known_failures": list[_KnownFailure],
    "import_skip": dict[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], Reason],
}
"""What a value must be like, where its type does not say it all."""


class _Rules(_Checked):
    """What one key says of another."""

    @field_validator("exclude_nodes", check_fields=False)
    @classmethod
    def _not_pinned(cls, excluded: list[str], info: ValidationInfo) -> list[str]:
        """Refuse a node that is pinned as well: no reading of the two makes sense."""
        both = sorted(set(excluded) & set(info.data.get("nodes", ())))
        if both:
            raise ValueError(f"{', '.join(both)}: in nodes as well")
        return excluded

    @field_validator("libraries_of", check_fields=False)
    @classmethod
    def _of_one(cls, libraries_of: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        """Refuse a library that comes from two places."""
        listed = [*info.data.get("system_libraries", ()), *itertools.chain(*libraries_of.values())]
        twice = sorted({library for library in listed if listed.count(library) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: from one project, or from the system, and named once")
        return libraries_of

    @field_validator("test_sources", check_fields=False)
    @classmethod
    def _for_a_command(cls, sources: list[str], info: ValidationInfo) -> list[str]:
        """Refuse tests that nothing would run."""
        if sources and not info.data.get("test_command"):
            raise ValueError("there is no test_command that runs them")
        return sources

    @field_validator("known_failures", check_fields=False)
    @classmethod
    def _by_pytest(cls, known: list[_KnownFailure], info: ValidationInfo) -> list[_KnownFailure]:
        """Refuse known failures where no pytest could leave them out."""
        if known and not runs_pytest(info.data.get("test_command", ())):
            raise ValueError("only pytest can leave tests out, and test_command does not call it")
        return known


def _model() -> type[_Rules]:
    types = get_type_hints(Recipe)
    keys: dict[str, Any] = {
        key.name: (
            _RULES.get(key.name, types[key.name]),
            Field(default_factory=key.default_factory)
            if key.default_factory is not MISSING
            else Field(key.default),
        )
        for key in fields(Recipe)
    }
    return create_model("Recipe", __base__=_Rules, **keys)


_MODEL: Final = _model()


def checked(content: object) -> Recipe:
    """Return the recipe that keys and values say. Raises pydantic's ValidationError."""
    return Recipe.from_plain(_MODEL.model_validate(content).model_dump())


def load_recipe(directory: Path, project: str) -> Recipe:
    """Return the recipe of ``project`` in ``directory``, or the default where there is no file.

    Raises:
        InputError: the file is not valid YAML, or has an unknown key or a wrong value; with its line.
    """
    path = directory / f"{canonicalize_name(project)}.yml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return DEFAULT
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}", hint="save it as UTF-8") from error
    return parse_recipe(text, path)


def parse_recipe(text: str, path: Path) -> Recipe:
    """Parse the text of a recipe; ``path`` is only used in messages."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if content is None:
        return DEFAULT
    if not isinstance(content, dict):
        raise InputError(f"{path}:1: a recipe is a mapping of keys to values")
    _refuse_twice(tree, path)
    try:
        return checked(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(part for part in first["loc"] if isinstance(part, str) and part != "[key]")
        known = ", ".join(sorted(_MODEL.model_fields))
        line = _line_of(tree, first["loc"])
        raise InputError(f"{path}:{line}: {key}: {first['msg']}", hint=f"known keys: {known}") from error


def _refuse_twice(tree: yaml.Node | None, path: Path) -> None:
    """Refuse a key given twice: YAML forbids it, PyYAML silently takes the last."""
    seen: set[str] = set()
    for name, _ in tree.value if isinstance(tree, yaml.MappingNode) else ():
        if name.value in seen:
            raise InputError(f"{path}:{name.start_mark.line + 1}: {name.value}: given twice")
        seen.add(name.value)


def _line_of(node: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """Return the line of what pydantic names, or of what is nearest around it."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == part), None)
            if found is None:
                break
            line, node = int(found[0].start_mark.line) + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = int(node.start_mark.line) + 1
    return line
