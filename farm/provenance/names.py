"""Names of what lies beside a wheel, and of the farm's key."""

from __future__ import annotations

from typing import Final

PROVENANCE: Final = ".provenance"
SBOM: Final = ".cdx.json"
VERDICTS: Final = ".verdicts.json"
BESIDE: Final = (VERDICTS, SBOM, PROVENANCE)
"""Suffixes, in the order in which files are written: the last one names the hashes of the others."""

PUBLIC_KEYS: Final = "provenance.pub"
"""At the root of the index: the farm's public keys, PEM, the newest last."""
IN_BUILD_ENVIRONMENT: Final = "build environment"
"""The role, in statement and bill of materials, of what a build was made with."""
