"""Signatures: Ed25519 over DSSE's pre-authentication encoding, in PEP 740's objects (pure).

https://github.com/secure-systems-lab/dsse/blob/master/protocol.md; PEP 740, "Attestation objects".
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from farm.errors import InputError, WheelError

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PUBLISHER: Final = "wheel-farm"
_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def der_of(key: Ed25519PublicKey) -> bytes:
    """Return a public key as SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem_of(key: Ed25519PublicKey) -> bytes:
    """Return a public key as SubjectPublicKeyInfo in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def builder_id(key: Ed25519PublicKey) -> str:
    """Return the name of a farm: the sha256 of its public key (DER), as a URI."""
    return f"urn:wheel-farm:{hashlib.sha256(der_of(key)).hexdigest()}"


def provenance_object(statement: Mapping[str, object], key: Ed25519PrivateKey) -> bytes:
    """Sign a statement and return PEP 740's provenance object as JSON."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    public = key.public_key()
    attestation = {
        "version": 1,
        "verification_material": {"public_key": _encode(der_of(public))},
        "envelope": {
            "statement": _encode(payload),
            "signature": _encode(key.sign(pae(PAYLOAD_TYPE, payload))),
        },
    }
    bundle = {
        "publisher": {"kind": PUBLISHER, "claims": {"builder": builder_id(public)}},
        "attestations": [attestation],
    }
    content = {"version": 1, "attestation_bundles": [bundle]}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def verify(payload: bytes, signature: bytes, stated: bytes, keys: Iterable[Ed25519PublicKey]) -> None:
    """Check a signature by the key that is stated, which must be one of ``keys``.

    Raises:
        WheelError: it is not, or the signature is not of this payload.
    """
    known = {der_of(key): key for key in keys}
    if stated not in known:
        name = hashlib.sha256(stated).hexdigest()[:12]
        raise WheelError(f"signed by another key (sha256 {name})", hint=f"trusted: {_names(known) or 'none'}")
    try:
        known[stated].verify(signature, pae(PAYLOAD_TYPE, payload))
    except InvalidSignature as error:
        raise WheelError("the signature is not of this statement", hint="do not use the wheel") from error


def _names(known: Iterable[bytes]) -> str:
    return ", ".join(hashlib.sha256(der).hexdigest()[:12] for der in known)


def read_public_keys(pem: bytes, source: str) -> tuple[Ed25519PublicKey, ...]:
    """Read one or more public keys in PEM.

    Raises:
        InputError: there is none, or one is not of Ed25519.
    """
    keys = []
    for block in _PEM.findall(pem):
        try:
            key = load_pem_public_key(block)
        except ValueError as error:
            raise InputError(
                f"{source}: a key can't be read", hint="take the index's provenance.pub"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise InputError(f"{source}: a key is not of Ed25519", hint="take the index's provenance.pub")
        keys.append(key)
    if not keys:
        raise InputError(f"{source}: no public key (PEM) in it", hint="take the index's provenance.pub")
    return tuple(keys)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
