"""Which build tag a job's wheel gets: a published name never changes content (F06), so a rebuild has another.

PEP 427: of two wheels that differ only by their build tag, installers take the one with the higher tag, and
one without any comes last. What is published is known from the files of the index, not from a database (F01).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from farm.errors import WheelError
from farm.index.gone import read_gone
from farm.index.tree import IndexTree
from farm.plan import JobSpec
from farm.provenance.names import PROVENANCE
from farm.verify.expect import installable
from farm.wheel_name import WheelName, build_order, next_build_tag, parse_name


@dataclass(frozen=True, slots=True)
class Published:
    """A wheel of the index. ``python`` and ``digest`` are its job's, by its provenance; or both are empty."""

    name: WheelName
    python: str = ""
    digest: str = ""


def published(tree: Path, project: str) -> tuple[Published, ...]:
    """Return a project's wheels in the index whose folder is ``tree``; what is not named like one is none.

    What was there once and is gone counts, too: its name stays taken. Raises PublishError.
    """
    index = IndexTree(tree)
    found = [Published(parse_name(filename)) for filename in read_gone(index.records, project)]
    for path in index.wheels(project):
        try:
            name = parse_name(path.name)
        except WheelError:
            continue
        try:
            stated = _stated(path.with_name(path.name + PROVENANCE).read_bytes())
        except OSError:  # it came from elsewhere, and has none
            stated = None
        found.append(Published(name, *(stated or ())))
    return tuple(found)


def _stated(provenance: bytes) -> tuple[str, str] | None:
    # It brings 5 MiB of what checks signatures, for nothing where a project is built for the first time.
    from farm.provenance.check import stated_job  # noqa: PLC0415

    return stated_job(provenance)


def build_tag(spec: JobSpec, there: Collection[Published]) -> str:
    """Return the tag that a job's next attempt builds with (pure): none, unless it supersedes something.

    Superseded are wheels of the same version that another job made for the same Python, or that came from
    elsewhere and that Python can install. A wheel of a job for another Python may get the same name (stable
    ABI, pure Python), and mostly the same bytes: what to do then is for :func:`after_collision`. A tag that
    was chosen once is never lowered.
    """
    rivals = _rivals(spec, there)
    own = [item for item in rivals if item.digest == spec.digest]
    if own:  # built anew, it must be what is published
        return max((item.name.build for item in own), key=build_order)
    if not any(item.python in {"", spec.python} for item in rivals):
        return spec.build_tag
    return max(_next(rivals), spec.build_tag, key=build_order)


def after_collision(spec: JobSpec, there: Collection[Published]) -> str | None:
    """Return the tag to build with again, now that a job's wheel met its own name with other bytes (pure).

    None: what is published is of this very job, which is not reproducible; another tag would only hide that.
    """
    rivals = _rivals(spec, there)
    if not rivals or any(item.digest == spec.digest for item in rivals):
        return None
    return _next(rivals)


def _rivals(spec: JobSpec, there: Collection[Published]) -> list[Published]:
    """Return the wheels of a job's version that its Python can install: its own may be named like them."""
    return [
        item
        for item in there
        if item.name.version == Version(spec.version)
        and item.name.tags & installable(spec.python, sorted({tag.platform for tag in item.name.tags}))
    ]


def _next(rivals: list[Published]) -> str:
    return str(next_build_tag(rivals[0].name, [item.name for item in rivals]))
