"""Write what is published beside a wheel: the gates' verdicts, its bill of materials, its provenance."""

from __future__ import annotations

import hashlib
from email.parser import BytesParser
from email.policy import compat32
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.errors import InputError, LyingNodeError, WheelError
from farm.files import write_file
from farm.provenance.dsse import builder_id, provenance_object
from farm.provenance.key import signing_key
from farm.provenance.names import PROVENANCE, SBOM, VERDICTS
from farm.provenance.record import BuildRecord, parse_record
from farm.provenance.statement import Built, statement
from farm.verify.wheel import read_file

if TYPE_CHECKING:
    from farm.paths import Paths
    from farm.store import Attempt, Job
    from farm.verify import Report

LONGEST_RECORD_BYTES: Final = 64 << 20
# The last year that a date can have has four digits.
LAST_MOMENT: Final = 253_402_300_799.0


def attach(paths: Paths, job: Job, attempt: Attempt, report: Report, wheel: Path) -> tuple[Path, ...]:
    """Write all three beside a wheel that passed its gates, and return them; they replace what is there.

    Raises:
        WheelError: the board's record of the build is missing or makes no sense.
        LyingNodeError: the record is of another build.
        InputError: something can't be read or written here.
    """
    # It takes a third of a second, which commands that build nothing need not wait for.
    from farm.provenance.sbom import bill_of_materials  # noqa: PLC0415

    record = _record(paths, job, attempt)
    version = metadata.version("wheel-farm")
    began, ended = _times(job, attempt)
    built = Built(
        wheel=wheel.name,
        sha256=report.sha256,
        spec=job.spec,
        attempt_id=job.attempt_id,
        node=attempt.node,
        record=record,
        started_at=began,
        ended_at=ended,
        log_sha256=_log_sha256(paths.log(job.attempt_id)),
    )
    content = {
        wheel.name + VERDICTS: report.to_json().encode() + b"\n",
        wheel.name + SBOM: bill_of_materials(built, licence_of(wheel), version).encode(),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    try:
        key = signing_key(paths.signing_key)
        said = statement(built, hashes, builder_id(key.public_key()), version)
        content[wheel.name + PROVENANCE] = provenance_object(said, key)
        return tuple(_write(wheel.with_name(name), data) for name, data in content.items())
    except OSError as error:
        raise InputError(
            f"{wheel.name}: its provenance can't be written: {error}", hint="make room"
        ) from error


def _write(path: Path, data: bytes) -> Path:
    write_file(path, data)
    return path


def _record(paths: Paths, job: Job, attempt: Attempt) -> BuildRecord:
    path = paths.record(job.attempt_id)
    try:
        if path.stat().st_size > LONGEST_RECORD_BYTES:
            raise LyingNodeError(attempt.node, f"{path.name} is longer than a record can be")
        data = path.read_bytes()
    except OSError as error:
        raise WheelError(
            f"{job.attempt_id}: the record of its build is missing: {error.strerror}",
            hint=f"`farm retry {job.job_id}` builds it again",
        ) from error
    record, spec = parse_record(data, job.attempt_id), job.spec
    said = record.sdist_sha256, record.recipe_digest, record.width, record.build_constraints
    asked = spec.sdist_sha256, spec.recipe.digest(), attempt.widths.first, spec.recipe.build_constraints
    if said != asked:
        raise LyingNodeError(
            attempt.node, f"{job.attempt_id}: its record is of another build: {said} not {asked}"
        )
    return record


def _log_sha256(log: Path) -> str:
    # A build that printed nothing has no log, which is as if it were empty.
    return hashlib.sha256(log.read_bytes() if log.exists() else b"").hexdigest()


def _times(job: Job, attempt: Attempt) -> tuple[float, float]:
    began = float(str(attempt.result["started_at"]))
    ended = began + float(str(attempt.result["duration_s"]))
    if not 0 <= began <= ended < LAST_MOMENT:
        raise LyingNodeError(
            attempt.node, f"{job.attempt_id}: it ran from {began} to {ended}: is its clock right?"
        )
    return began, ended


def licence_of(wheel: Path) -> str:
    """Return the licence that a wheel's METADATA names in one line; empty if it has none, or a whole text."""
    message = BytesParser(policy=compat32).parsebytes(read_file(wheel, "METADATA"), headersonly=True)
    expression = str(message.get("License-Expression") or message.get("License") or "").strip()
    return expression if "\n" not in expression else ""
