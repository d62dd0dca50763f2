"""Which jobs of the queue need which others: to be built, and when what they built is installed.

What an sdist says beforehand is read here: ``build-system.requires`` of its pyproject.toml, and
``Requires-Dist`` of its PKG-INFO, because what is needed for a build is installed with all that it needs.

Not seen beforehand, and for the recipe's key ``needs`` to say: ``setup_requires`` of a setup.py and what a
backend answers to ``get_requires_for_build_wheel`` (only a build can ask them), and what is needed through a
project that is not in the queue, as its metadata would take requests to the index for each one on the way.
"""

from __future__ import annotations

import graphlib
import itertools
import lzma
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from farm.errors import CycleError
from farm.node.environment import LEGACY, ProjectError, read_build_system
from farm.plan import JobSpec, Python

PYPROJECT: Final = "pyproject.toml"
PKG_INFO: Final = "PKG-INFO"
# An sdist is somebody else's archive: neither a file of it nor all of it may cost what it likes.
FILE_LIMIT: Final = 4 << 20
ARCHIVE_LIMIT: Final = 4 << 30
# What tarfile and zipfile raise at damaged archives; gzip has OSErrors, a password is a RuntimeError.
UNREADABLE: Final = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Declared:
    """What an sdist says it needs: to be built, and when it is installed."""

    build: tuple[Requirement, ...] = ()
    run: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderedJob:
    """A job, as far as the order is concerned."""

    job_id: str
    project: str
    version: str
    python: str
    declared: Declared = Declared()
    constraints: tuple[Requirement, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.project} {self.version}"

    @classmethod
    def of(cls, spec: JobSpec, sdist: Path) -> OrderedJob:
        """Read what ``sdist``, the job's own, declares; its recipe says the rest."""
        return cls(
            job_id=spec.job_id,
            project=spec.project,
            version=spec.version,
            python=spec.python,
            declared=declared(sdist),
            constraints=_requirements(spec.recipe.build_constraints),
            needs=tuple(spec.recipe.needs),
        )

    @classmethod
    def of_wheel(cls, spec: JobSpec, metadata: bytes) -> OrderedJob:
        """Read what a job's wheel says it needs when it is installed, in the bytes of its METADATA.

        The sdist's PKG-INFO was a promise; this is what pip will follow.
        """
        said, _ = parse_email(metadata)
        declared = Declared(run=_requirements(said.get("requires_dist", ())))
        return cls(spec.job_id, spec.project, spec.version, spec.python, declared)


Queue = Mapping[tuple[str, str], Sequence[OrderedJob]]


def declared(sdist: Path) -> Declared:
    """Return what an sdist (tar, compressed or not, or zip) says it needs.

    Without a table ``build-system`` that is setuptools, as PEP 517 has it. Where the archive or a file in it
    is broken, nothing is said: an order is no place to judge an sdist, its build will fail with the reason.
    """
    try:
        files = dict(_read_zip(sdist) if sdist.suffix == ".zip" else _read_tar(sdist))
    except UNREADABLE:
        return Declared()
    try:
        system = read_build_system(files[PYPROJECT]) if PYPROJECT in files else LEGACY
    except (ProjectError, RecursionError):
        return Declared()
    metadata, _ = parse_email(files.get(PKG_INFO, b""))
    return Declared(_requirements(system.requires), _requirements(metadata.get("requires_dist", ())))


def order(jobs: Iterable[OrderedJob]) -> dict[str, frozenset[str]]:
    """Return for each job which other jobs it has to wait for, all of the same Python.

    A job waits for the newest version in the queue that fits its build requirements and its recipe's
    constraints, and for what that one needs at run time: the build environment is to hold all of them.
    """
    queue = queue_of(jobs)
    return {job.job_id: frozenset(_awaited(job, queue)) for same in queue.values() for job in same}


def queue_of(jobs: Iterable[OrderedJob]) -> Queue:
    """Return jobs by Python and project."""
    queue: defaultdict[tuple[str, str], list[OrderedJob]] = defaultdict(list)
    for job in jobs:
        queue[job.python, job.project].append(job)
    return queue


def installed_with(job: OrderedJob, also: Iterable[str], queue: Queue) -> frozenset[str]:
    """Return the jobs of the queue whose wheels pip may take when it installs a job's own.

    Args:
        job: whose ``declared.run`` says what is asked for, with markers and extras.
        also: requirements that are installed together with it (its tests'), as PEP 508 texts; an extra of the
            job's own project is one, too.
        queue: other jobs; of several versions that fit the newest counts. What leads through a project that
            is not in it is not seen.
    """
    start = [(job.declared.run, frozenset[str]()), (_requirements(also), frozenset[str]())]
    return frozenset(_followed(start, job, queue, {}))


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Return a path in which each needs the next and the last is the first, or None; always the same one."""
    sorter = graphlib.TopologicalSorter({name: sorted(edges[name]) for name in sorted(edges)})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return tuple(reversed(error.args[1]))
    return None


def refuse_cycle(jobs: Iterable[OrderedJob], edges: Mapping[str, Iterable[str]]) -> None:
    """Check that the jobs can be built one after the other.

    Raises:
        CycleError: some need each other; it names the path.
    """
    path = find_cycle(edges)
    if path is None:
        return
    known = {job.job_id: job for job in jobs}
    titles = [known[job_id].title if job_id in known else job_id for job_id in path]
    by_hand = [
        known[job_id].project
        for job_id, other in itertools.pairwise(path)
        if job_id in known and other in known and known[other].project in known[job_id].needs
    ]
    if by_hand:
        hint = f"take it out of `needs` in recipes/{by_hand[0]}.yml"
    else:
        project = known[path[0]].project if path[0] in known else "PROJECT"
        hint = f"let build_constraints in recipes/{project}.yml ask for a version that can be had already"
    raise CycleError(titles, hint=hint)


def marker_environment(python: str) -> dict[str, str]:
    """Return what PEP 508 markers are about on a board with ``python`` (``cp313``), not on this host."""
    version = Python(python).version
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.99",
        "os_name": "posix",
        "platform_machine": "riscv64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        # ".99": the board's patch level is never what a marker is about.
        "python_full_version": f"{version}.99",
        "python_version": version,
        "sys_platform": "linux",
    }


def _awaited(job: OrderedJob, queue: Queue) -> set[str]:
    """Follow what the build environment of ``job`` will hold through the queue."""
    limits = _wanted(job.constraints, frozenset(), marker_environment(job.python))
    start = [((*job.declared.build, *map(Requirement, job.needs)), frozenset[str]())]
    # Of its own project, a build environment holds an older version, not this one.
    alone = replace(job, declared=Declared())
    return _followed(start, alone, queue, {name: specifier for name, (specifier, _) in limits.items()})


Asked = tuple[Sequence[Requirement], frozenset[str]]
"""Requirements, and the extras of their project that are asked for."""


def _followed(
    start: Sequence[Asked], own: OrderedJob, queue: Queue, limits: Mapping[str, SpecifierSet]
) -> set[str]:
    """Follow requirements through the queue, as ``own``'s Python; it is not among what is returned."""
    environment = marker_environment(own.python)
    reached: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(start)
    while todo:
        requirements, extras = todo.pop()
        # Most names are of no job: markers, which take time, are evaluated for the others only.
        known = [item for item in requirements if _is_there(item, own, queue)]
        for name, (specifier, others) in _wanted(known, extras, environment).items():
            limit = limits.get(name, SpecifierSet())
            jobs = [own] if name == own.project else _fitting(queue[own.python, name], specifier & limit)
            for job in jobs:
                if job is not own:
                    reached.add(job.job_id)
                if (job.job_id, others) not in seen:
                    seen.add((job.job_id, others))
                    todo.append((job.declared.run, others))
    return reached


def _is_there(requirement: Requirement, own: OrderedJob, queue: Queue) -> bool:
    name = canonicalize_name(requirement.name)
    return name == own.project or (own.python, name) in queue


def _wanted(
    requirements: Iterable[Requirement], extras: frozenset[str], environment: Mapping[str, str]
) -> dict[str, tuple[SpecifierSet, frozenset[str]]]:
    """Return by project which versions it may have and its extras; a URL does not lead to an index."""
    result: dict[str, tuple[SpecifierSet, frozenset[str]]] = {}
    for requirement in requirements:
        if requirement.url is None and _applies(requirement, extras, environment):
            name = canonicalize_name(requirement.name)
            specifier, others = result.get(name, (SpecifierSet(), frozenset()))
            result[name] = (specifier & requirement.specifier, others | requirement.extras)
    return result


def _applies(requirement: Requirement, extras: frozenset[str], environment: Mapping[str, str]) -> bool:
    marker = requirement.marker
    if marker is None:
        return True
    try:
        return any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))
    except (ValueError, LookupError):
        return False  # it compares what can't be compared; installers say no, too


def _fitting(jobs: Iterable[OrderedJob], specifier: SpecifierSet) -> list[OrderedJob]:
    """Return the jobs of the newest version that fits; a pre-release is only taken where one is asked for."""
    allowed = bool(specifier.prereleases)
    fitting = [job for job in jobs if specifier.contains(job.version, prereleases=allowed)]
    newest = max((Version(job.version) for job in fitting), default=None)
    return [job for job in fitting if Version(job.version) == newest]


def _requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    """Return what can be understood; the rest is for the build to refuse."""
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
            requirement.specifier.contains("1")  # a version too long to be a number is noticed only here
        except (InvalidRequirement, ValueError, RecursionError):
            continue
        found.append(requirement)
    return tuple(found)


def _read_tar(sdist: Path) -> Iterator[tuple[str, bytes]]:
    wanted = {PYPROJECT, PKG_INFO}
    # A stream: without seeking back, it is unpacked once, and no further than needed.
    with tarfile.open(sdist, "r|*") as archive:
        for member in archive:
            name = _top_level(member.name)
            if name in wanted and member.isreg() and member.size <= FILE_LIMIT:
                file = archive.extractfile(member)
                yield name, file.read() if file else b""
                wanted.discard(name)
            if not wanted or member.offset_data + member.size > ARCHIVE_LIMIT:
                return


def _read_zip(sdist: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(sdist) as archive:
        for member in archive.infolist():
            name = _top_level(member.filename)
            if name in {PYPROJECT, PKG_INFO} and member.file_size <= FILE_LIMIT:
                with archive.open(member) as file:
                    yield name, file.read(FILE_LIMIT)


def _top_level(name: str) -> str:
    """Return the name of a file right in the sdist's one folder; else an empty text."""
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) == 2 else ""  # noqa: PLR2004
