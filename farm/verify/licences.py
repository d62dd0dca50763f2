"""Does a wheel carry the licences of what it was built from? (PEP 639; pure, but for reading the sdist)"""

from __future__ import annotations

import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from farm.errors import InputError
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from farm.verify.wheel import Archive

_LICENCE: Final = re.compile(r"(licen[cs]e|copying|copyright|notice|authors)([._-].*)?", re.IGNORECASE)
_CODE: Final = frozenset({".py", ".pyc", ".pyi", ".so", ".c", ".h", ".pyx"})
_LICENSES_FOLDER: Final = Version("2.4")
_FAULTS: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)
_ASK: Final = "ask the project to ship the text of its licence"
_DECLARE: Final = "declare license-files in pyproject.toml, or waive it in the recipe: no_licence: why"


def is_licence(path: str) -> bool:
    """Tell whether a file's name is one under which licences are kept: COPYING.LESSER, AUTHORS.md."""
    name = posixpath.basename(path)
    return _LICENCE.fullmatch(name) is not None and posixpath.splitext(name)[1].lower() not in _CODE


def sdist_licences(sdist: Path) -> tuple[str, ...]:
    """List the licence files at the top of an sdist (``NAME-VERSION/LICENSE``).

    Raises InputError if it can't be read.
    """
    try:
        return tuple(sorted({name for name in _top(sdist) if is_licence(name)}))
    except _FAULTS as error:
        raise InputError(f"{sdist}: can't be read: {error}", hint="fetch the sdist again") from error


def _top(sdist: Path) -> Iterator[str]:
    if sdist.suffix == ".zip":
        with zipfile.ZipFile(sdist) as archive:
            paths = [PurePosixPath(info.filename) for info in archive.infolist() if not info.is_dir()]
    else:
        with tarfile.open(sdist) as tar:
            paths = [PurePosixPath(item.name) for item in tar if item.isfile() or item.issym()]
    yield from (path.name for path in paths if len(path.parts) == 2)  # noqa: PLR2004 - NAME-VERSION/FILE


def judge_licences(
    archive: Archive, metadata: Message, sdist: Collection[str] | None, no_licence: str = ""
) -> tuple[Verdict, ...]:
    """Compare the wheel's licence files with what METADATA states and with those of its sdist.

    ``sdist`` is None where the sdist is not known; ``no_licence`` is the recipe's reason to do without.
    """
    info = archive.dist_infos[0] if archive.dist_infos else ""
    paths = {member.path for member in archive.members}
    stated = [str(value).strip() for value in metadata.get_all("License-File", [])]
    missing = [file for file in stated if not paths & set(_places(info, file, metadata))]
    wrong = [
        Verdict(Gate.LICENCE, False, f"{info}/METADATA", f"states License-File {file}, not there", _DECLARE)
        for file in missing
    ]
    if wrong:
        return tuple(wrong)
    present = {PurePosixPath(path).name for path in paths if is_licence(path)}
    present |= {PurePosixPath(file).name for file in stated}
    return (_compared(info, present, sdist, no_licence),)


def _places(info: str, file: str, metadata: Message) -> Iterator[str]:
    """Yield where a License-File may be: below licenses/ since METADATA 2.4, besides METADATA before."""
    yield f"{info}/licenses/{file}"
    try:
        old = Version(str(metadata.get("Metadata-Version", "1.0"))) < _LICENSES_FOLDER
    except InvalidVersion:
        old = False
    if old:
        yield from (f"{info}/{file}", f"{info}/{PurePosixPath(file).name}")


def _compared(info: str, present: set[str], sdist: Collection[str] | None, no_licence: str) -> Verdict:
    here = ", ".join(sorted(present)) or "no licence file"
    if sdist is None:
        return Verdict(Gate.LICENCE, True, info, f"{here}; not compared with the sdist")
    if sdist and not present:
        evidence = f"no licence file; the sdist has {', '.join(sorted(sdist))}"
        if no_licence:
            return Verdict(Gate.LICENCE, True, info, f"{evidence}; waived: {no_licence}")
        return Verdict(Gate.LICENCE, False, info, evidence, _DECLARE)
    if not present:
        return Verdict(Gate.LICENCE, True, info, "no licence file, neither here nor in the sdist", _ASK)
    absent = sorted(set(sdist) - present)
    if absent:
        return Verdict(Gate.LICENCE, True, info, f"{here}; not {', '.join(absent)} of the sdist", _DECLARE)
    return Verdict(Gate.LICENCE, True, info, f"{here}; the sdist has no other")
