"""Does a provenance object speak of this wheel, and is it signed by a farm one trusts?"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import FarmError, InputError, WheelError
from farm.node.files import sha256_of
from farm.plan import job_digest
from farm.provenance.dsse import read_public_keys, verify
from farm.provenance.names import PROVENANCE
from farm.provenance.statement import PREDICATE_TYPE, STATEMENT_TYPE
from farm.verify.model import Gate, Verdict

_HINT: Final = "do not use the wheel, or fetch it and its provenance again"


@dataclass(frozen=True, slots=True)
class Provenance:
    """A provenance that holds: who says it, and what."""

    builder: str
    statement: Mapping[str, Any]

    @property
    def beside(self) -> dict[str, str]:
        """Return the sha256 of each file that lies beside the wheel, by its name."""
        (subject,) = self.statement["subject"]
        listed = self.statement["predicate"]["runDetails"]["byproducts"]
        named = {str(item["name"]): str(item["digest"]["sha256"]) for item in listed}
        return {name: sha256 for name, sha256 in named.items() if name.startswith(f"{subject['name']}.")}

    @property
    def evidence(self) -> str:
        """Return in one line what it says."""
        definition = self.statement["predicate"]["buildDefinition"]
        run = self.statement["predicate"]["runDetails"]
        sdist = definition["externalParameters"]["sdist"]
        where = f"{definition['internalParameters']['node']}, {run['metadata']['finishedOn']}"
        source = f"{sdist['filename']} sha256 {sdist['sha256'][:12]}"
        return f"{source}, built on {where}, signed by {self.builder.rpartition(':')[2][:12]}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Digest(_Strict):
    sha256: str


class _Named(_Strict):
    name: str
    digest: _Digest


class _Sdist(_Strict):
    filename: str
    sha256: str


class _External(_Strict):
    sdist: _Sdist


class _Job(_External):
    project: str
    version: str
    python: str
    recipeDigest: str  # noqa: N815


class _Internal(_Strict):
    node: str


class _Definition(_Strict):
    externalParameters: _External  # noqa: N815  # SLSA's name
    internalParameters: _Internal  # noqa: N815


class _Metadata(_Strict):
    finishedOn: str  # noqa: N815


class _Builder(_Strict):
    id: str


class _Run(_Strict):
    builder: _Builder
    metadata: _Metadata
    byproducts: list[_Named]


class _Predicate(_Strict):
    buildDefinition: _Definition  # noqa: N815
    runDetails: _Run  # noqa: N815


class _Statement(_Strict):
    type_: str = Field(alias="_type")
    subject: list[_Named]
    predicateType: str  # noqa: N815
    predicate: _Predicate


class _Material(_Strict):
    public_key: str


class _Envelope(_Strict):
    statement: str
    signature: str


class _Attestation(_Strict):
    version: int
    verification_material: _Material
    envelope: _Envelope


class _Bundle(_Strict):
    attestations: Annotated[list[_Attestation], Field(min_length=1)]


class _Object(_Strict):
    version: int
    attestation_bundles: Annotated[list[_Bundle], Field(min_length=1)]


def check_provenance(data: bytes, wheel: str, sha256: str, keys: Iterable[Ed25519PublicKey]) -> Provenance:
    """Check PEP 740's provenance object of a wheel: form, signature, subject.

    Every attestation in it must hold; the first one is returned.

    Raises:
        WheelError: it does not hold; the message says what of it.
    """
    try:
        content = _Object.model_validate_json(data)
    except ValidationError as error:
        raise _wrong(wheel, f"no provenance object of PEP 740: {_first(error)}") from error
    trusted = tuple(keys)
    found = [
        _attestation(item, wheel, sha256, trusted)
        for bundle in content.attestation_bundles
        for item in bundle.attestations
    ]
    if content.version != 1:
        raise _wrong(wheel, f"provenance of version {content.version}, not 1")
    return found[0]


def stated_job(data: bytes) -> tuple[str, str] | None:
    """Return Python and digest of the job that a provenance says its wheel is from; None if it says none.

    Nothing is checked here: it is for files that this farm has checked and published itself.
    """
    try:
        content = _Object.model_validate_json(data)
        payload = base64.b64decode(content.attestation_bundles[0].attestations[0].envelope.statement)
        stated = _Job.model_validate(
            json.loads(payload)["predicate"]["buildDefinition"]["externalParameters"]
        )
    except (ValidationError, ValueError, KeyError, TypeError):
        return None
    return stated.python, job_digest(
        stated.project, stated.version, stated.python, stated.sdist.sha256, stated.recipeDigest
    )


def _attestation(
    item: _Attestation, wheel: str, sha256: str, keys: tuple[Ed25519PublicKey, ...]
) -> Provenance:
    if item.version != 1:
        raise _wrong(wheel, f"attestation of version {item.version}, not 1")
    try:
        payload, signature, stated = (
            base64.b64decode(text, validate=True)
            for text in (
                item.envelope.statement,
                item.envelope.signature,
                item.verification_material.public_key,
            )
        )
    except (binascii.Error, ValueError) as error:
        raise _wrong(wheel, "its attestation is not base64") from error
    try:
        verify(payload, signature, stated, keys)
    except WheelError as error:
        raise WheelError(f"{wheel}: provenance: {error.message}", hint=error.hint) from error
    # What is signed is believed only now; a farm of another version may have signed another form.
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise _wrong(wheel, f"its statement is of another form: {_first(error)}") from error
    if (statement.type_, statement.predicateType) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise _wrong(wheel, f"it states {statement.predicateType}, not {PREDICATE_TYPE}")
    if len(statement.subject) != 1 or statement.subject[0].name != wheel:
        names = ", ".join(subject.name for subject in statement.subject)
        raise _wrong(wheel, f"its provenance is of {names or 'nothing'}")
    stated_hash = statement.subject[0].digest.sha256
    if stated_hash != sha256:
        raise _wrong(wheel, f"sha256 is {sha256}, its provenance is of {stated_hash}")
    return Provenance(statement.predicate.runDetails.builder.id, json.loads(payload))


Beside = Callable[[str], bytes | None]
"""Reads a file that lies beside a wheel, by its name; None: it is not there, and need not be.

Raises FarmError where it can't be had.
"""


def files_beside(wheel: Path) -> Beside:
    """Return what reads the files in a wheel's folder: a wheel may have been copied alone."""

    def read(name: str) -> bytes | None:
        try:
            return wheel.with_name(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{name} can't be read: {error.strerror}", hint="make it readable") from error

    return read


def trusted_keys(path: Path) -> tuple[Ed25519PublicKey, ...]:
    """Read a file of public keys.

    Raises:
        InputError: it can't be read, or holds none.
    """
    try:
        return tuple(read_public_keys(path.read_bytes(), str(path)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="take the index's provenance.pub") from error


def checked_beside(wheel: Path, keys: Iterable[Ed25519PublicKey], beside: Beside | None = None) -> Verdict:
    """Check the provenance that lies beside a wheel, and the files there that it names.

    ``beside`` reads them, where they are not in the wheel's folder.

    Raises:
        InputError: the wheel can't be read.
    """
    read = beside or files_beside(wheel)
    try:
        sha256 = sha256_of(wheel)
    except OSError as error:
        raise InputError(f"{wheel}: {error.strerror}", hint="name a wheel that exists") from error
    try:
        provenance = _checked(wheel.name, sha256, keys, read)
    except FarmError as error:
        return Verdict(Gate.PROVENANCE, False, wheel.name, error.message, error.hint)
    return Verdict(Gate.PROVENANCE, True, wheel.name, provenance.evidence)


def _checked(wheel: str, sha256: str, keys: Iterable[Ed25519PublicKey], read: Beside) -> Provenance:
    data = read(wheel + PROVENANCE)
    if data is None:
        hint = "take wheel and provenance from the index of the farm that built it; other wheels have none"
        raise WheelError(f"{wheel}{PROVENANCE} can't be read: there is none", hint=hint)
    provenance = check_provenance(data, wheel, sha256, keys)
    for name, expected in provenance.beside.items():
        content = read(name) if PurePosixPath(name).name == name else None
        # What is not here is not said to be right; nor is it wrong to have the wheel alone.
        if content is not None and hashlib.sha256(content).hexdigest() != expected:
            raise _wrong(wheel, f"{name} is not the file that the provenance names")
    return provenance


def _wrong(wheel: str, text: str) -> WheelError:
    return WheelError(f"{wheel}: {text}", hint=_HINT)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
