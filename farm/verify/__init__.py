"""Prove what a wheel is: file name, content, machine code and job, each verdict with its evidence."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from farm.errors import InputError, WheelError
from farm.verify.expect import JobExpectation, judge_job
from farm.verify.isa import allow
from farm.verify.model import Gate, Report, Verdict
from farm.verify.name import parse_name
from farm.verify.wheel import judge_metadata, judge_native, judge_paths, judge_record, read_archive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from farm.verify.name import WheelName
    from farm.verify.wheel import Archive

__all__ = ["Gate", "JobExpectation", "Report", "Verdict", "judge_archive", "verify_wheel"]


def verify_wheel(
    path: Path, expect: JobExpectation | None = None, guarded: Mapping[str, str] | None = None
) -> Report:
    """Pass a wheel through every gate; with ``expect``, through the job's gate too.

    ``guarded`` is a recipe's ``runtime_guarded``: what it names still fails, as needing a proof
    (:func:`farm.verify.isa.needs_proof`).

    A wheel that can't be read, or is not named like one, yields a report with that one failure
    (``Report.raise_if_failed`` turns it into a WheelError). Raises InputError if there is no such file.
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
    return Report(path.name, sha256, allow(judge_archive(archive, name, expect), guarded or {}))


def judge_archive(archive: Archive, name: WheelName, expect: JobExpectation | None) -> tuple[Verdict, ...]:
    """Judge a wheel's content (pure); a wheel for another machine gets that verdict and no ISA ones."""
    return (
        Verdict(Gate.READABLE, True, name.filename, f"{len(archive.members)} files, CRCs match"),
        Verdict(Gate.NAME, True, name.filename, f"{name.project} {name.version}, {name.platforms}"),
        *judge_paths(archive, name.filename),
        *judge_metadata(archive, name),
        *judge_record(archive, name.filename),
        *judge_native(archive, name),
        *(judge_job(expect, name, [m.path for m in archive.elves]) if expect else ()),
    )
