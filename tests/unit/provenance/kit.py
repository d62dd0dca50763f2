"""A build's record and what follows from it, without a board."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from farm.plan import JobSpec
from farm.provenance.dsse import builder_id, provenance_object
from farm.provenance.record import parse_record
from farm.provenance.statement import Built, statement
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import NATIVE

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SHA256 = "cd" * 32
LIBRARY = {
    "file": "demo.libs/libyaml-0-1f6ff8ee.so.2.0.9",
    "sha256": "11" * 32,
    "origin": "/usr/lib/riscv64-linux-gnu/libyaml-0.so.2.0.9",
    "origin_sha256": "1f6ff8ee" + "22" * 28,
    "soname": "libyaml-0.so.2",
    "package": "libyaml-0-2",
    "version": "0.2.5-2",
    "architecture": "riscv64",
    "source": "libyaml",
    "source_version": "0.2.5-2",
    "licences": ["Expat"],
    "copyright": "/usr/share/doc/libyaml-0-2/copyright",
    "copyright_sha256": "33" * 32,
}
OWN_LIBRARY = {"file": "demo.libs/libown-deadbeef.so.1", "sha256": "44" * 32}
CRATE = {
    "lock": "Cargo.lock",
    "name": "pyo3",
    "version": "0.26.0",
    "checksum": "55" * 32,
    "source": "registry+x",
}


def record_json(job: JobSpec, **changes: object) -> dict[str, Any]:
    return {
        "record": 1,
        "farm_node": 5,
        "sdist_filename": job.sdist_filename,
        "sdist_sha256": job.sdist_sha256,
        "recipe_digest": job.recipe.digest(),
        "build_constraints": job.recipe.build_constraints,
        "width": 4,
        "environment": ["setuptools==80.9.0", "cython==3.1.2"],
        "tools": ["auditwheel==6.8.2"],
        "python": "3.13.5",
        "compiler": {
            "gcc": "14.2.0",
            "gcc_march": "rv64imafdc",
            "rustc": "",
            "compilers": {"cc1": "riscv64"},
        },
        "board": {
            "id": "9" * 32,
            "model": "BananaPi F3",
            "hostname": "f3",
            "kernel": "6.6",
            "os": "Debian",
            "isa": "rv64",
        },
        "variables": {"TZ": "UTC"},
        "source_date_epoch": "1700000000",
        "grafted": [LIBRARY, OWN_LIBRARY],
        "crates": [CRATE],
        **changes,
    }


def built(job: JobSpec | None = None, **changes: object) -> Built:
    job = job or spec()
    return Built(
        wheel=NATIVE,
        sha256=SHA256,
        spec=job,
        attempt_id=f"{job.job_id}.1",
        node="f3",
        record=parse_record(json.dumps(record_json(job, **changes)).encode(), "demo.1"),
        started_at=1_700_000_000.5,
        ended_at=1_700_000_060.9,
        log_sha256="66" * 32,
    )


def said(made: Built | None = None, key: Ed25519PrivateKey = KEY) -> dict[str, object]:
    beside = {f"{NATIVE}.cdx.json": "77" * 32}
    return statement(made or built(), beside, builder_id(key.public_key()), "1.2")


def signed(key: Ed25519PrivateKey = KEY, content: dict[str, object] | None = None) -> bytes:
    return provenance_object(content or said(key=key), key)
