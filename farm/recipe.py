"""Recipes: what a project needs beyond the default, one short YAML file per project.

A project without a file gets :data:`DEFAULT`; most projects need none. Files are read and checked by
:mod:`farm.recipe_file`; what is here was checked before, when it was read, or when its job was queued.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

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


@dataclass(frozen=True, slots=True)
class SourceArchive:
    """Where the source of a version is that upstream has no sdist of, or not a good one."""

    url: str
    """Of an archive with one top-level folder; its name ends the address."""

    sha256: str

    @property
    def filename(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """Tests that fail on every machine (F16), of some versions of a project or of all."""

    versions: str = ""
    """Which versions: a PEP 440 specifier; empty: all."""

    tests: list[str]
    """What pytest leaves out, by node id."""

    reason: str
    """Why; shown with the verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one project needs to be built; every field has a default that suits most projects."""

    sdists: dict[str, SourceArchive] = field(default_factory=dict)
    """Versions whose source is somewhere else than on the upstream index."""

    apt_packages: list[str] = field(default_factory=list)
    """Debian packages (development headers, mostly) that must be on the board; provisioning installs them."""

    build_constraints: list[str] = field(default_factory=list)
    """Version limits that hold INSIDE the isolated PEP 517 build environment."""

    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of the build."""

    native: bool = True
    """Whether the wheel must hold compiled code; a pure wheel is then a failure (F04)."""

    debug: bool = False
    """Whether to compile with debug information, which is then kept, split off, beside the build's log."""

    timeout_s: int = 4 * 3600
    """Seconds after which the node itself ends the build (F30)."""

    build_network: str = ""
    """Why the build itself needs the network, in one line, for who installs the wheel; empty: it has none."""

    nodes: list[str] = field(default_factory=list)
    """The only nodes that may build it; empty: all."""

    exclude_nodes: list[str] = field(default_factory=list)
    """Nodes that must not build it."""

    features: list[str] = field(default_factory=list)
    """What a node must have to build it, by the names the inventory gives."""

    needs: list[str] = field(default_factory=list)
    """Projects that are published before this one is built, where its sdist does not say so by itself."""

    memory_mib: int | None = None
    """Memory that a node must have, in MiB."""

    memory_mib_per_task: int | None = None
    """Memory that each parallel task of the build takes, in MiB."""

    runtime_guarded: dict[str, str] = field(default_factory=dict)
    """Files in the wheel that may have code beyond rv64gc if it only runs where the core has it, and why."""

    system_libraries: dict[str, str] = field(default_factory=dict)
    """Libraries that can't be grafted, because only the user's own system can have them, and why."""

    libraries_of: dict[str, list[str]] = field(default_factory=dict)
    """Libraries that the wheel uses out of wheels that it requires, by project; they are not grafted."""

    keep_files: dict[str, str] = field(default_factory=dict)
    """Patterns of files in the wheel that look foreign or left over and belong there, and why."""

    no_licence: str = ""
    """Why the wheel has no licence file although the sdist has one."""

    test_command: list[str] = field(default_factory=list)
    """What tests the installed wheel in the clean room, in an empty folder, by no shell; empty: nothing."""

    test_sources: list[str] = field(default_factory=list)
    """Files and folders of the sdist that hold the tests, where the wheel does not have them.

    They are copied into the folder that ``test_command`` runs in.
    """

    test_requires: list[str] = field(default_factory=list)
    """What the tests need besides what the wheel itself needs, as PEP 508 requirements; wheels only."""

    test_timeout_s: int = 600
    """Seconds that the tests may take on a reference core; the clean room, which is emulated, gives more."""

    known_failures: list[KnownFailure] = field(default_factory=list)
    """Tests that pytest leaves out, by version, with the reasons (F16)."""

    import_skip: dict[str, str] = field(default_factory=dict)
    """Modules that the clean room does not import, each with the reason."""

    reason: str = ""
    """Why the recipe exists; for whoever reads it next."""

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
        content = {name: value for name in _BUILT if (value := getattr(self, name)) != getattr(DEFAULT, name)}
        return hashlib.sha256(json.dumps([DEFAULTS, content], sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Recipe:
        """Return what :func:`dataclasses.asdict` made of one, here or in a farm of another version.

        That one may have had other keys: what they meant is in the job's name, its digest.
        """
        own = {key.name: content[key.name] for key in fields(cls) if key.name in content}
        sdists = {version: SourceArchive(**archive) for version, archive in own.pop("sdists", {}).items()}
        known = [KnownFailure(**failure) for failure in own.pop("known_failures", ())]
        return cls(**own, sdists=sdists, known_failures=known)


_BUILT: Final = tuple(key.name for key in fields(Recipe) if key.name not in UNBUILT)
DEFAULT = Recipe()


def runs_pytest(command: Sequence[str]) -> bool:
    """Return whether a command is pytest, called as a program or as a module."""
    return (
        command[:1] == ["pytest"]
        or "pytest" in [after for before, after in itertools.pairwise(command) if before == "-m"][:1]
    )
