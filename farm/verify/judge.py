"""All gates, one after the other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from farm.errors import InputError, WheelError
from farm.verify.abi3 import judge_abi3
from farm.verify.borrowed import judge_borrowed, without
from farm.verify.elf import linkages, read_elves
from farm.verify.expect import NOTHING, Allowances, JobExpectation, judge_job
from farm.verify.foreign import judge_content
from farm.verify.grafted import grafted, grafted_verdicts
from farm.verify.isa import allow_guarded
from farm.verify.licences import judge_licences, sdist_licences
from farm.verify.metadata import judge_metadata, read_metadata, requires_python
from farm.verify.model import Gate, Report, Verdict
from farm.verify.paths import judge_paths
from farm.verify.platform import judge_platform
from farm.verify.wheel import judge_native, judge_record, read_archive
from farm.wheel_name import parse_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from farm.verify.linkage import Linkage
    from farm.verify.platform import PackageLookup
    from farm.verify.wheel import Archive
    from farm.wheel_name import WheelName


def verify_wheel(
    path: Path,
    expect: JobExpectation | None = None,
    *,
    sdist: Path | None = None,
    allow: Allowances = NOTHING,
    packages: PackageLookup | None = None,
) -> Report:
    """Pass a wheel through every gate; with ``expect``, through the job's gate too.

    ``sdist`` is what it was built from, whose licence files it must carry; ``allow`` what its recipe puts up
    with; ``packages`` names the Debian packages of libraries that are missing. A wheel that can't be read, or
    is not named like one, yields a report with that one failure (``Report.raise_if_failed`` turns it into a
    WheelError). Raises InputError if there is no such file, or the sdist can't be read.
    """
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", hint="name a wheel that exists and can be read"
        ) from error
    gate = Gate.NAME
    try:
        name = parse_name(path.name)
        gate = Gate.READABLE
        archive = read_archive(path)
    except WheelError as error:
        evidence = error.message.removeprefix(f"{path.name}: ")
        return Report(path.name, sha256, (Verdict(gate, False, path.name, evidence, error.hint),))
    licences = None if sdist is None else sdist_licences(sdist)
    verdicts = judge_archive(archive, name, expect, licences=licences, allow=allow, packages=packages)
    return Report(path.name, sha256, allow_guarded(verdicts, allow.runtime_guarded))


def judge_archive(
    archive: Archive,
    name: WheelName,
    expect: JobExpectation | None,
    *,
    licences: Collection[str] | None = None,
    allow: Allowances = NOTHING,
    packages: PackageLookup | None = None,
) -> tuple[Verdict, ...]:
    """Judge a wheel's content; a wheel for another machine gets that verdict and none about machine code.

    ``licences`` are the names of its sdist's licence files; None where the sdist is not known.
    """
    metadata = read_metadata(archive)
    elves = read_elves(archive)
    return (
        Verdict(Gate.READABLE, True, name.filename, f"{len(archive.members)} files, CRCs match"),
        Verdict(Gate.NAME, True, name.filename, f"{name.project} {name.version}, {name.platforms}"),
        *judge_paths(archive, name.filename),
        *judge_metadata(archive, name, expect.python_tag if expect else ""),
        *judge_record(archive, name.filename),
        *judge_content(archive, name.filename, allow.keep_files, pure=name.is_pure),
        *judge_licences(archive, metadata, licences, allow.no_licence),
        *judge_native(elves, name),
        *_judge_loading(archive, linkages(elves), name, allow, packages),
        *(judge_job(expect, name, [*elves]) if expect else ()),
    )


def _judge_loading(
    archive: Archive,
    elves: Mapping[str, Linkage],
    name: WheelName,
    allow: Allowances,
    packages: PackageLookup | None,
) -> tuple[Verdict, ...]:
    """Judge what a riscv64 wheel's ELF files ask of CPython and of the system."""
    if name.is_pure or not name.is_riscv64:
        return ()
    metadata, grafts = read_metadata(archive), grafted(archive, elves)
    return (
        *judge_abi3(elves, name, requires_python(metadata)),
        *judge_platform(without(elves, allow.borrowed), name, allow.system_libraries, packages),
        *judge_borrowed(elves, grafts, metadata, allow.libraries_of, name),
        *grafted_verdicts(grafts),
    )
