"""Recipes: what a project needs beyond the default, one short YAML file per project.

A project without a file gets :data:`DEFAULT`; most projects need none. Unknown keys and wrong values are
refused with file and line, so that a misspelt key can never be silently without effect.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

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
    field_validator,
)

from farm.errors import InputError

UNBUILT: Final = frozenset(
    {
        "reason",
        "sdists",  # the archive's hash is part of a job's identity by itself
        "nodes",
        "exclude_nodes",
        "features",
        "needs",
        "memory_mib",
        "memory_mib_per_task",
        "runtime_guarded",
        "keep_files",
        "no_licence",
        "test_command",
        "test_sources",
        "test_requires",
        "test_timeout_s",
        "known_failures",
        "import_skip",
    }
)
"""Keys that say where, why it is built, what its wheel may be like, how it is tried: not what comes out."""

DEFAULTS: Final = 1
"""Counts the defaults of all other keys: whoever changes one of them raises it, and all is built anew."""


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


class SourceArchive(BaseModel):
    """Where the source of a version is that upstream has no sdist of, or not a good one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[
        str,
        Field(pattern=r"^https?://[^\s/]+(/[^\s/?#]+)*/[A-Za-z0-9][A-Za-z0-9._+-]*\.(tar\.gz|zip)$"),
    ]
    """Of an archive with one top-level folder; its name ends the address."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def filename(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]


class KnownFailure(BaseModel):
    """Tests that fail on every machine (F16), of some versions of a project or of all."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    versions: Annotated[str, AfterValidator(_versions)] = ""
    """Which versions: a PEP 440 specifier; empty: all."""

    tests: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """What pytest leaves out, by node id."""

    reason: Reason
    """Why; shown with the verdicts."""


class Recipe(BaseModel):
    """What one project needs to be built; every field has a default that suits most projects."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sdists: dict[Annotated[str, AfterValidator(_version)], SourceArchive] = {}
    """Versions whose source is somewhere else than on the upstream index."""

    apt_packages: list[DebianPackage] = []
    """Debian packages (development headers, mostly) that must be on the board; provisioning installs them."""

    build_constraints: list[Annotated[str, AfterValidator(_requirement)]] = []
    """Version limits that hold INSIDE the isolated PEP 517 build environment."""

    environment: dict[str, str] = {}
    """Environment variables of the build."""

    native: bool = True
    """Whether the wheel must hold compiled code; a pure wheel is then a failure (F04)."""

    debug: bool = False
    """Whether to compile with debug information, which is then kept, split off, beside the build's log."""

    timeout_s: Annotated[int, Field(gt=0)] = 4 * 3600
    """Seconds after which the node itself ends the build (F30)."""

    build_network: Annotated[str, Field(pattern=r"^(\S.*)?$")] = ""
    """Why the build itself needs the network, in one line, for who installs the wheel; empty: it has none."""

    nodes: list[NodeName] = []
    """The only nodes that may build it; empty: all."""

    exclude_nodes: list[NodeName] = []
    """Nodes that must not build it."""

    features: list[Feature] = []
    """What a node must have to build it, by the names the inventory gives."""

    needs: list[Project] = []
    """Projects that are published before this one is built, where its sdist does not say so by itself."""

    memory_mib: Mebibytes | None = None
    """Memory that a node must have, in MiB."""

    memory_mib_per_task: Mebibytes | None = None
    """Memory that each parallel task of the build takes, in MiB."""

    runtime_guarded: dict[FileGlob, Reason] = {}
    """Files in the wheel that may have code beyond rv64gc if it only runs where the core has it, and why."""

    system_libraries: dict[Soname, Reason] = {}
    """Libraries that can't be grafted, because only the user's own system can have them, and why."""

    libraries_of: dict[Project, Annotated[list[Soname], Field(min_length=1)]] = {}
    """Libraries that the wheel uses out of wheels that it requires, by project; they are not grafted."""

    keep_files: dict[str, Reason] = {}
    """Patterns of files in the wheel that look foreign or left over and belong there, and why."""

    no_licence: str = ""
    """Why the wheel has no licence file although the sdist has one."""

    test_command: Annotated[list[str], BeforeValidator(_words)] = []
    """What tests the installed wheel in the clean room, in an empty folder, by no shell; empty: nothing."""

    test_sources: list[Annotated[str, AfterValidator(_member)]] = []
    """Files and folders of the sdist that hold the tests, where the wheel does not have them.

    They are copied into the folder that ``test_command`` runs in.
    """

    test_requires: list[Annotated[str, AfterValidator(_requirement)]] = []
    """What the tests need besides what the wheel itself needs, as PEP 508 requirements; wheels only."""

    test_timeout_s: Annotated[int, Field(gt=0)] = 600
    """Seconds that the tests may take on a reference core; the clean room, which is emulated, gives more."""

    known_failures: list[KnownFailure] = []
    """Tests that pytest leaves out, by version, with the reasons (F16)."""

    import_skip: dict[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], Reason] = {}
    """Modules that the clean room does not import, each with the reason."""

    reason: str = ""
    """Why the recipe exists; for whoever reads it next."""

    @field_validator("exclude_nodes")
    @classmethod
    def _not_pinned(cls, excluded: list[str], info: ValidationInfo) -> list[str]:
        """Refuse a node that is pinned as well: no reading of the two makes sense."""
        both = sorted(set(excluded) & set(info.data.get("nodes", ())))
        if both:
            raise ValueError(f"{', '.join(both)}: in nodes as well")
        return excluded

    @field_validator("libraries_of")
    @classmethod
    def _of_one(cls, libraries_of: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        """Refuse a library that comes from two places."""
        listed = [*info.data.get("system_libraries", ()), *itertools.chain(*libraries_of.values())]
        twice = sorted({library for library in listed if listed.count(library) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: from one project, or from the system, and named once")
        return libraries_of

    @field_validator("test_sources")
    @classmethod
    def _for_a_command(cls, sources: list[str], info: ValidationInfo) -> list[str]:
        """Refuse tests that nothing would run."""
        if sources and not info.data.get("test_command"):
            raise ValueError("there is no test_command that runs them")
        return sources

    @field_validator("known_failures")
    @classmethod
    def _by_pytest(cls, known: list[KnownFailure], info: ValidationInfo) -> list[KnownFailure]:
        """Refuse known failures where no pytest could leave them out."""
        if known and not runs_pytest(info.data.get("test_command", ())):
            raise ValueError("only pytest can leave tests out, and test_command does not call it")
        return known

    def left_out(self, version: Version) -> dict[str, str]:
        """Return the known failures of one version: tests and reasons."""
        return {
            test: known.reason
            for known in self.known_failures
            if SpecifierSet(known.versions).contains(version, prereleases=True)
            for test in known.tests
        }

    def digest(self) -> str:
        """Return the sha256 of everything that can change what is built.

        What is at its default is left out: a key that is new, or that a recipe states for nothing, makes no
        other job. So a default must not change, unless DEFAULTS is raised.
        """
        content = self.model_dump(exclude=set(UNBUILT), exclude_defaults=True)
        return hashlib.sha256(json.dumps([DEFAULTS, content], sort_keys=True).encode()).hexdigest()


DEFAULT = Recipe()


def runs_pytest(command: Sequence[str]) -> bool:
    """Return whether a command is pytest, called as a program or as a module."""
    return (
        command[:1] == ["pytest"]
        or "pytest" in [after for before, after in itertools.pairwise(command) if before == "-m"][:1]
    )


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
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(part for part in first["loc"] if isinstance(part, str) and part != "[key]")
        known = ", ".join(sorted(Recipe.model_fields))
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
