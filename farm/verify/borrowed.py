"""Libraries that a wheel uses out of another wheel: ``torch/lib/libtorch.so``, loaded when torch is imported.

What other wheels bring is neither promised by a platform nor grafted: two copies of one library in a process,
each with its own state, break in ways that nobody finds. The recipe names them; METADATA must require the
other project, or a user would not have it. That the loader finds them is for the clean room to show: by a run
path, or because the other project was imported before. (pure)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from email.message import Message
from pathlib import PurePosixPath
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from farm.requires import marker_environment
from farm.verify.grafted import Grafted
from farm.verify.linkage import Linkage
from farm.verify.model import Gate, Verdict
from farm.wheel_name import WheelName

_REQUIRE: Final = "add %s to the project's dependencies, or take it out of the recipe's libraries_of"
_LEAVE: Final = "build it with the recipe that names the library in libraries_of: it is then left out"
_STALE: Final = "take it out of the recipe's libraries_of"
_CPYTHON: Final = re.compile(r"cp3\d+")
_ANY: Final = "cp313"  # the boards' own, for a wheel that is for no CPython by name
_HASH: Final = re.compile(r"-[0-9a-f]{8}(?=\.)")
"""What auditwheel adds to the name of a library that it grafts."""


def without(elves: Mapping[str, Linkage], libraries: Collection[str]) -> dict[str, Linkage]:
    """Return what files ask of their own wheel and of the system: all but these libraries."""
    return {
        path: replace(
            linkage,
            needed=tuple(name for name in linkage.needed if name not in libraries),
            versions={name: found for name, found in linkage.versions.items() if name not in libraries},
        )
        for path, linkage in elves.items()
    }


def judge_borrowed(
    elves: Mapping[str, Linkage],
    grafts: Sequence[Grafted],
    metadata: Message,
    libraries_of: Mapping[str, Sequence[str]],
    name: WheelName,
) -> Iterator[Verdict]:
    """Judge what a wheel takes from others; ``libraries_of`` maps projects to the SONAMEs of theirs."""
    required = _required(metadata, name)
    for project, libraries in libraries_of.items():
        users = [path for path, linkage in elves.items() if set(linkage.needed) & set(libraries)]
        for graft in grafts:
            if _HASH.sub("", PurePosixPath(graft.path).name) in libraries:
                evidence = f"is grafted, though it is {project}'s: a process would have it twice"
                yield Verdict(Gate.PLATFORM, False, graft.path, evidence, _LEAVE)
        if not users:
            listed = ", ".join(libraries)
            evidence = f"the recipe says that it uses {listed} of {project}; no file does"
            yield Verdict(Gate.PLATFORM, True, name.filename, evidence, _STALE)
        for path in users:
            used = ", ".join(library for library in elves[path].needed if library in libraries)
            if project in required:
                yield Verdict(Gate.PLATFORM, True, path, f"uses {used} of {project}, which it requires")
            else:
                evidence = f"uses {used} of {project}, which METADATA does not require"
                yield Verdict(Gate.PLATFORM, False, path, evidence, _REQUIRE % project)


def _required(metadata: Message, name: WheelName) -> set[str]:
    """Return the projects that are always installed with the wheel: no extra is asked for."""
    pythons = [tag.interpreter for tag in name.tags if _CPYTHON.fullmatch(tag.interpreter)]
    environment = {**marker_environment(max(pythons, key=len, default=_ANY)), "extra": ""}
    found = set()
    for text in metadata.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(str(text))
        except InvalidRequirement:  # the gate metadata says so
            continue
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found.add(str(canonicalize_name(requirement.name)))
    return found
