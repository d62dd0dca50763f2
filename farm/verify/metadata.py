"""Does a wheel say of itself what its file name says, and in a form that installers can read? (pure)

Sources: PEP 427; the core metadata and entry points specifications (packaging.python.org).
"""

from __future__ import annotations

import configparser
import re
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import TYPE_CHECKING, Final

from packaging.metadata import InvalidMetadata, Metadata
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.verify.abi3 import admits
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.verify.wheel import Archive
    from farm.wheel_name import WheelName

_REBUILD: Final = "rebuild the wheel with the project's own backend"
_BACKEND: Final = "harmless; a newer build backend writes it right"
_CPYTHON: Final = re.compile(r"cp3(\d+)")
_OBJECT: Final = re.compile(r"\s*\w+(\.\w+)*\s*(:\s*\w+(\.\w+)*\s*)?(\[[^\]]*\]\s*)?")
_SCRIPTS: Final = frozenset({"console_scripts", "gui_scripts"})
_EARLY: Final = ("introduced in metadata version", "unrecognized field")
"""Faults that every installer forgives: setuptools wrote License-File long before METADATA 2.4 had it."""


def read_metadata(archive: Archive) -> Message:
    """Return METADATA's header fields; none where the wheel has no METADATA."""
    infos = archive.dist_infos
    return _parse((archive.data(f"{infos[0]}/METADATA") if infos else None) or b"")


def requires_python(message: Message) -> SpecifierSet:
    """Return Requires-Python; any Python where it is absent or can't be read."""
    try:
        return SpecifierSet(str(message.get("Requires-Python", "")))
    except InvalidSpecifier:
        return SpecifierSet()


def _parse(data: bytes) -> Message:
    return BytesParser(policy=compat32).parsebytes(data, headersonly=True)


def judge_metadata(archive: Archive, name: WheelName, python_tag: str = "") -> tuple[Verdict, ...]:
    """Check that ``.dist-info``, METADATA and WHEEL say what the file name says, and can be read.

    ``python_tag`` is the one (``cp313``) that the wheel was asked for, where it is known.
    """
    infos = archive.dist_infos
    if len(infos) != 1:
        found = ", ".join(infos) or "none"
        evidence = f"exactly one .dist-info directory is needed, found: {found}"
        return (Verdict(Gate.METADATA, False, name.filename, evidence, _REBUILD),)
    info = infos[0]
    wrong = [(info, why) for why in _same_release(*_split_info(info), name)]
    for file, judge in (("METADATA", _metadata_problems), ("WHEEL", _wheel_problems)):
        path = f"{info}/{file}"
        data = archive.data(path)
        if data is None:
            wrong.append((path, "missing"))
        else:
            message = _parse(data)
            wrong += [(path, why) for why in judge(message, name)]
    if not wrong:
        wrong += [*_root_problems(archive, info, name), *_content_problems(archive, info, name, python_tag)]
    if wrong:
        return tuple(Verdict(Gate.METADATA, False, path, why, _REBUILD) for path, why in wrong)
    evidence = f"{name.project} {name.version}, tags and METADATA agree with the file name"
    notes = [text for text, early in _core_faults(archive.data(f"{info}/METADATA") or b"") if early]
    forgiven = (Verdict(Gate.METADATA, True, f"{info}/METADATA", text, _BACKEND) for text in notes)
    return (Verdict(Gate.METADATA, True, info, evidence), *forgiven)


def _content_problems(
    archive: Archive, info: str, name: WheelName, python_tag: str
) -> Iterator[tuple[str, str]]:
    metadata = archive.data(f"{info}/METADATA") or b""
    yield from ((f"{info}/METADATA", text) for text, early in _core_faults(metadata) if not early)
    yield from ((f"{info}/METADATA", text) for text in _python_problems(_parse(metadata), name, python_tag))
    entry_points = archive.data(f"{info}/entry_points.txt")
    if entry_points is not None:
        yield from ((f"{info}/entry_points.txt", text) for text in entry_point_problems(entry_points))


def _core_faults(metadata: bytes) -> Iterator[tuple[str, bool]]:
    """Yield each fault that packaging finds in METADATA, and whether installers forgive it."""
    try:
        Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as group:
        for fault in group.exceptions:
            text = " ".join(str(fault).split())
            yield text, isinstance(fault, InvalidMetadata) and any(early in text for early in _EARLY)


def _python_problems(message: Message, name: WheelName, python_tag: str) -> Iterator[str]:
    """Find Pythons that a tag (or the job's, ``cp313``) names and that Requires-Python keeps out.

    Of a wheel for the stable ABI or without ABI, newer Pythons than the tag's are what it is for.
    """
    admitted = requires_python(message)
    named = {tag.interpreter for tag in name.tags if tag.abi not in {"abi3", "abi3t", "none"}}
    for interpreter in sorted(named | ({python_tag} if python_tag else set())):
        match = _CPYTHON.fullmatch(interpreter)
        if match and not admits(admitted, int(match.group(1))):
            yield f"Requires-Python {admitted} keeps {interpreter} out, which the wheel is for"


def entry_point_problems(data: bytes) -> Iterator[str]:
    """Yield what is wrong with an entry_points.txt: scripts need a module and a function."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    try:
        parser.read_string(data.decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        yield f"can't be read: {' '.join(str(error).split())}"
        return
    for group in parser.sections():
        for script, value in parser.items(group):
            match = _OBJECT.fullmatch(value)
            if match is None or (group in _SCRIPTS and match.group(2) is None):
                yield f"{group}: {script} = {value} names no object"


def _split_info(info: str) -> tuple[str, str]:
    project, _, version = info.removesuffix(".dist-info").partition("-")
    return project, version


def _same_release(project: str, version: str, name: WheelName) -> Iterator[str]:
    if canonicalize_name(project) != name.project:
        yield f"project is {project!r}, the file name says {name.project}"
    try:
        same = Version(version) == name.version
    except InvalidVersion:
        same = False
    if not same:
        yield f"version is {version!r}, the file name says {name.version}"


def _header(message: Message, key: str) -> list[str]:
    return [str(value).strip() for value in message.get_all(key, [])]


def _metadata_problems(message: Message, name: WheelName) -> Iterator[str]:
    names, versions = _header(message, "Name"), _header(message, "Version")
    if len(names) != 1 or len(versions) != 1:
        yield "needs exactly one Name and one Version"
        return
    yield from _same_release(names[0], versions[0], name)


def _wheel_problems(message: Message, name: WheelName) -> Iterator[str]:
    if [value.split(".")[0] for value in _header(message, "Wheel-Version")] != ["1"]:
        yield "Wheel-Version is not 1.x"
    if [v.lower() for v in _header(message, "Root-Is-Purelib")] not in (["true"], ["false"]):
        yield "Root-Is-Purelib is neither true nor false"
    tags: set[Tag] = set()
    for value in _header(message, "Tag"):
        try:
            tags |= parse_tag(value)
        except ValueError:  # packaging's InvalidTag is one, in the versions that have it
            yield f"malformed Tag {value!r}"
    if tags != name.tags:
        yield f"tags are {', '.join(sorted(map(str, tags))) or 'none'}; the file name's differ"
    build = "".join(_header(message, "Build"))
    if build != name.build:
        yield f"Build is {build or 'none'}, the file name says {name.build or 'none'}"


def _root_problems(archive: Archive, info: str, name: WheelName) -> Iterator[tuple[str, str]]:
    """Compare Root-Is-Purelib with the tags and with where native files are."""
    message = _parse(archive.data(f"{info}/WHEEL") or b"")
    pure_root = _header(message, "Root-Is-Purelib")[0].lower() == "true"
    data = info.removesuffix(".dist-info") + ".data/"
    if name.is_pure and not pure_root:
        yield f"{info}/WHEEL", "Root-Is-Purelib is false in a wheel for any platform"
    for member in archive.elves:
        in_root = not member.path.startswith(data)
        if (in_root and pure_root) or member.path.startswith(f"{data}purelib/"):
            yield member.path, "native file in purelib"
