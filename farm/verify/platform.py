"""Is a wheel's platform tag honest? Symbol versions and libraries against the promised system (pure).

Sources: PEP 600 (``manylinux_X_Y``: works on every distribution with glibc X.Y or newer), PEP 656
(musllinux), and auditwheel's policies, which say what such a system has: libraries, symbol versions, and
symbols that no wheel may use. auditwheel's own search for libraries is not used: it unpacks the wheel and
resolves them on the machine that it runs on, which here is neither the board nor the user's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from auditwheel.architecture import Architecture
from auditwheel.libc import Libc
from auditwheel.policy import Policy, WheelPolicies

from farm.errors import FarmError
from farm.verify.linkage import Linkage
from farm.verify.loading import Lacking, leaks, load
from farm.verify.model import Gate, Verdict, counted
from farm.wheel_name import WheelName

LINUX: Final = "linux_riscv64"
_GLIBC_TAG: Final = re.compile(r"manylinux_(\d+)_(\d+)_riscv64")
_MUSL_TAG: Final = re.compile(r"(musllinux_\d+_\d+)_riscv64")
_MUSL_OWN: Final = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\.")
"""Names that musl's loader takes for itself, whatever follows (``ldso/dynlink.c``, ``load_library``)."""
_NUMBERS: Final = re.compile(r"\d+")
_LOADERS: Final = ("ld-linux", "ld-musl-")
_REPAIR: Final = "repair it with auditwheel on the board, and publish what that makes"
_RPATH: Final = "link with -Wl,-rpath,'$ORIGIN/...' or without a run path"

_GRAFT: Final = (
    "graft it by auditwheel; if only the user's system can have it, the recipe says so: "
    "system_libraries: {%s: why}"
)
_PACKAGE: Final = "Debian package "
SYSTEM_LIBRARY: Final = "system-library"
"""The verdict, for programs, that names a library which a user must install, and its Debian package."""

PackageLookup = Callable[[Collection[str]], Mapping[str, str | None]]
"""Maps SONAMEs to Debian packages, None where no package has one; raises FarmError where it can't know."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What one platform tag promises. ``glibc`` is None for musl and for the plain ``linux`` tag."""

    tag: str
    policy: Policy
    glibc: tuple[int, int] | None

    def has(self, version: str) -> bool:
        """Tell whether a system of this tag defines a symbol version, such as ``GLIBC_2.31``."""
        family, _, number = version.partition("_")
        if family == "GLIBC" and self.glibc is not None and number[:1].isdigit():
            return _numbers(number) <= self.glibc
        if family not in self.policy.symbol_versions:
            return self.glibc is not None  # not the platform's own libraries: the library itself is judged
        return number in self.policy.symbol_versions[family]

    def has_library(self, library: str) -> bool:
        """Tell whether a system of this tag has a library."""
        if self.glibc is None and _MUSL_OWN.match(library):
            return True
        return library in self.policy.whitelist or library.startswith(_LOADERS)


@cache
def _policies() -> tuple[Policy, ...]:
    """Return auditwheel's manylinux policies for riscv64, from the oldest glibc to the newest."""
    found = WheelPolicies(libc=Libc.GLIBC, arch=Architecture.riscv64)
    return tuple(sorted((p for p in found if p.name != LINUX), key=lambda p: _numbers(p.name)))


@cache
def _musl(name: str) -> Policy:
    return WheelPolicies(libc=Libc.MUSL, arch=Architecture.riscv64, musl_policy=name).highest


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBERS.findall(text.removesuffix("_riscv64")))


def _glibc(tag: str) -> Promise:
    """Return what a manylinux tag promises, by the newest policy that is not newer than it."""
    numbers = _numbers(tag)
    fitting = [policy for policy in _policies() if _numbers(policy.name) <= numbers]
    return Promise(tag, fitting[-1] if fitting else _policies()[0], (numbers[0], numbers[1]))


def promises(name: WheelName) -> tuple[Promise, ...]:
    """Return what a wheel's riscv64 tags promise; of several manylinux tags, the oldest promises the most."""
    tags = {tag.platform for tag in name.tags}
    glibc = sorted((tag for tag in tags if _GLIBC_TAG.fullmatch(tag)), key=_numbers)
    musl = sorted(found.group(1) for found in map(_MUSL_TAG.fullmatch, tags) if found)
    return (
        *(_glibc(tag) for tag in glibc[:1]),
        *(Promise(f"{tag}_riscv64", _musl(tag), None) for tag in musl[:1]),
    )


def _fail(path: str, evidence: str, hint: str) -> Verdict:
    return Verdict(Gate.PLATFORM, False, path, evidence, hint)


def judge_platform(
    elves: Mapping[str, Linkage],
    name: WheelName,
    system_libraries: Mapping[str, str],
    lookup: PackageLookup | None = None,
) -> tuple[Verdict, ...]:
    """Judge a platform wheel's tag by what its ELF files ask of the system.

    ``system_libraries`` maps SONAMEs to the reason why nothing can graft them: the recipe's leave for a
    ``linux_riscv64`` wheel, which otherwise fails. ``lookup`` is only called for libraries that nobody has.
    """
    if any(tag.platform == LINUX for tag in name.tags):
        return _judge_linux(elves, name, system_libraries, lookup)
    found = promises(name)
    if not found:
        return (_fail(name.filename, f"{name.platforms}: no known platform tag of riscv64", _REPAIR),)
    wrong = [*_search_paths(elves)]
    fit = fitting_tag(elves)
    for promise in found:
        loading = load(elves, promise.has_library)
        wrong += _lacking(loading.lacking, promise.tag, lookup)
        for path, linkage in elves.items():
            wrong += _symbols(path, linkage, loading.inside[path], promise, fit)
    return tuple(wrong) or (_holds(elves, name, found[0], fit),)


def _symbols(
    path: str, linkage: Linkage, inside: frozenset[str], promise: Promise, fit: str
) -> Iterator[Verdict]:
    for library, versions in linkage.versions.items():
        beyond = [v for v in versions if library not in inside and not promise.has(v)]
        if beyond:
            hint = f"its files fit {fit}: repair it with auditwheel" if fit else _REPAIR
            listed = ", ".join(sorted(beyond, key=_numbers))
            yield _fail(path, f"needs {listed} of {library}, which {promise.tag} does not promise", hint)
    for library in sorted(set(linkage.needed) & set(promise.policy.blacklist) - inside):
        private = sorted(linkage.undefined & promise.policy.blacklist[library])
        if private:
            hint = "use the library's public functions, or have auditwheel graft it"
            yield _fail(path, f"uses {', '.join(private)}, which {library} keeps to itself", hint)


def _asked(elves: Mapping[str, Linkage], promise: Promise) -> Iterator[str]:
    """Yield the symbol versions that are asked of the system, not of the wheel's own libraries."""
    inside = load(elves, promise.has_library).inside
    for path, linkage in elves.items():
        for library, versions in linkage.versions.items():
            if library not in inside[path]:
                yield from versions


def fitting_tag(elves: Mapping[str, Linkage]) -> str:
    """Return the oldest manylinux tag whose systems define all symbol versions asked for, or nothing."""
    for policy in _policies():
        promise = _glibc(policy.name)
        if all(promise.has(version) for version in _asked(elves, promise)):
            return promise.tag
    return ""


def _lacking(lacking: Sequence[Lacking], tag: str, lookup: PackageLookup | None) -> Iterator[Verdict]:
    packages = _packages({item.library for item in lacking if not item.elsewhere}, lookup)
    for item in lacking:
        if item.elsewhere:
            yield _astray(item)
        else:
            evidence = f"needs {item.library} ({packages[item.library]}), which {tag} does not promise"
            yield _fail(item.path, evidence, "build on a board that has the library: auditwheel grafts it")


def _astray(item: Lacking) -> Verdict:
    evidence = f"needs {item.library}, which is in the wheel ({item.elsewhere}) but on no run path"
    return _fail(item.path, evidence, _RPATH)


def _packages(libraries: Collection[str], lookup: PackageLookup | None) -> dict[str, str]:
    """Say for each library which Debian package has it, or why that is not known."""
    if not libraries or lookup is None:
        return dict.fromkeys(libraries, "its Debian package is not known")
    try:
        found = lookup(libraries)
    except FarmError as error:
        return dict.fromkeys(libraries, f"its Debian package is not known: {error.message}")
    packages = {library: found.get(library) for library in libraries}
    return {name: f"{_PACKAGE}{has}" if has else "in no Debian package" for name, has in packages.items()}


def _search_paths(elves: Mapping[str, Linkage]) -> Iterator[Verdict]:
    for path, linkage in elves.items():
        for entry in filter(leaks, (*linkage.rpath, *linkage.runpath)):
            yield _fail(path, f"searches libraries in {entry}, outside of the installation", _RPATH)


def _judge_linux(
    elves: Mapping[str, Linkage],
    name: WheelName,
    system_libraries: Mapping[str, str],
    lookup: PackageLookup | None,
) -> tuple[Verdict, ...]:
    """Judge a wheel that promises nothing: right only where it can't be repaired, and the recipe says so."""
    newest = _glibc(_policies()[-1].name)
    lacking = load(elves, newest.has_library).lacking
    outside = [item for item in lacking if not item.elsewhere]
    wrong = [*_search_paths(elves), *(_astray(item) for item in lacking if item.elsewhere)]
    if not outside:
        fit = fitting_tag(elves) or newest.tag
        hint = "remove system_libraries from its recipe" if system_libraries else _REPAIR
        evidence = f"{LINUX} promises nothing, and its files would fit {fit}"
        return (*wrong, _fail(name.filename, evidence, hint))
    described = _packages({item.library for item in outside}, lookup)
    notes = []
    for item in outside:
        evidence = f"needs {item.library} ({described[item.library]})"
        if item.library in system_libraries:
            notes.append(_of_the_system(item, f"{evidence}: {system_libraries[item.library]}", described))
        else:
            wrong.append(_fail(item.path, f"{evidence}, and {LINUX} promises nothing", _GRAFT % item.library))
    stated = ", ".join(sorted({item.library for item in outside}))
    return tuple(wrong) or (
        Verdict(Gate.PLATFORM, True, name.filename, f"{LINUX}, for it needs of its user's system: {stated}"),
        *notes,
    )


def _of_the_system(item: Lacking, evidence: str, described: Mapping[str, str]) -> Verdict:
    """Note what a user has to install; pages of the index show it."""
    about = described[item.library]
    package = about.removeprefix(_PACKAGE).partition(" | ")[0] if about.startswith(_PACKAGE) else ""
    hint = f"apt install {package}" if package else "install what has it before the wheel is used"
    return Verdict(Gate.PLATFORM, True, item.path, evidence, hint, SYSTEM_LIBRARY)


def _holds(elves: Mapping[str, Linkage], name: WheelName, promise: Promise, fit: str) -> Verdict:
    highest: dict[str, str] = {}
    for version in _asked(elves, promise):
        family = version.partition("_")[0]
        highest[family] = max(highest.get(family, ""), version, key=lambda v: (_numbers(v), v))
    asked = ", ".join(sorted(highest.values())) or "no symbol version"
    evidence = f"{promise.tag} holds for {counted(len(elves), 'file')}: {asked}"
    if fit and promise.glibc and _numbers(fit) < _numbers(promise.tag):
        evidence += f"; they would fit {fit}"
    return Verdict(Gate.PLATFORM, True, name.filename, evidence)
