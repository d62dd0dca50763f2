"""A bill of materials of one wheel: CycloneDX 1.6 in JSON (pure: the same input gives the same bytes).

Scopes (CycloneDX): ``required`` is what was grafted into the wheel; ``optional`` are the crates that a
Cargo.lock names, of which the linked ones are a part; ``excluded`` is what it was only built with.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from farm.provenance.names import IN_BUILD_ENVIRONMENT
from farm.provenance.record import Crate, Grafted
from farm.provenance.statement import Built, cargo_purl, deb_purl, pypi_purl

# RFC 4122, version 5: of a bill's own content, so that it is the same each time.
_NAMESPACE: Final = uuid.UUID("1b671a64-40d5-491e-99b0-da01ff1f3341")
_PREFIX: Final = "wheel-farm:"


def bill_of_materials(built: Built, licence: str, version: str) -> str:
    """Return the bill as JSON.

    Args:
        built: the wheel and its record.
        licence: what its METADATA says (License-Expression, or License); empty if nothing.
        version: of the farm on the controller.
    """
    wheel = _wheel(built, licence)
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, f"{built.attempt_id} {built.sha256}"),
        metadata=BomMetaData(
            component=wheel,
            timestamp=datetime.fromtimestamp(int(built.ended_at), UTC),
            tools=ToolRepository(components=[_farm(version)]),
        ),
        components=[
            *map(_library, built.record.grafted),
            *_crates(built.record.crates),
            *(_built_with(pin) for pin in built.record.environment),
        ],
    )
    inside = [item for item in bom.components if item.scope is not ComponentScope.EXCLUDED]
    bom.register_dependency(wheel, inside)
    with warnings.catch_warnings():
        # It misses what a wheel depends on: one that holds nothing but itself depends on nothing.
        warnings.filterwarnings(
            "ignore", message="The Component this BOM is describing", category=UserWarning
        )
        return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _farm(version: str) -> Component:
    return Component(type=ComponentType.APPLICATION, name="wheel-farm", version=version, bom_ref="farm")


def _wheel(built: Built, licence: str) -> Component:
    spec = built.spec
    purl = PackageURL("pypi", None, spec.project, spec.version, {"file_name": built.wheel})
    source = Component(
        type=ComponentType.FILE,
        name=spec.sdist_filename,
        version=spec.version,
        bom_ref=f"sdist:{spec.sdist_sha256}",
        hashes=[_sha256(spec.sdist_sha256)],
        external_references=_references(spec.sdist_url),
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=spec.project,
        version=spec.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[_sha256(built.sha256)],
        licenses=_licences([licence] if licence else []),
        pedigree=Pedigree(ancestors=[source]),
        properties=_properties(file=built.wheel, attempt=built.attempt_id),
    )


def _references(url: str) -> list[ExternalReference]:
    if not url:
        return []
    return [ExternalReference(type=ExternalReferenceType.SOURCE_DISTRIBUTION, url=XsUri(url))]


def _library(library: Grafted) -> Component:
    purl = PackageURL.from_string(deb_purl(library)) if library.package else None
    return Component(
        type=ComponentType.LIBRARY,
        name=library.package or library.file.rpartition("/")[2],
        version=library.version or None,
        purl=purl,
        bom_ref=f"grafted:{library.file}",
        scope=ComponentScope.REQUIRED,
        hashes=[_sha256(library.sha256)],
        licenses=_licences(library.licences),
        properties=_properties(
            role="grafted library",
            file=library.file,
            soname=library.soname,
            origin=library.origin,
            origin_sha256=library.origin_sha256 or "",
            source=f"{library.source} {library.source_version}".strip(),
            licence_text=library.copyright,
            licence_text_sha256=library.copyright_sha256 or "",
        ),
    )


def _crates(crates: Iterable[Crate]) -> Iterable[Component]:
    """Return each crate once, though several locks may name it."""
    for purl, crate in {cargo_purl(crate): crate for crate in crates}.items():
        yield Component(
            type=ComponentType.LIBRARY,
            name=crate.name,
            version=crate.version,
            purl=PackageURL.from_string(purl),
            bom_ref=purl,
            scope=ComponentScope.OPTIONAL,
            hashes=[_sha256(crate.checksum)] if crate.checksum else [],
            properties=_properties(role="crate", lock=crate.lock, source=crate.source),
        )


def _built_with(pin: str) -> Component:
    name, _, version = pin.partition("==")
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=PackageURL.from_string(pypi_purl(pin)),
        bom_ref=f"built-with:{pin}",
        scope=ComponentScope.EXCLUDED,
        properties=_properties(role=IN_BUILD_ENVIRONMENT),
    )


def _licences(names: Iterable[str]) -> list[License]:
    # Names, not SPDX identifiers: Debian's short names and projects' own words are no such.
    return [DisjunctiveLicense(name=name) for name in dict.fromkeys(names)]


def _properties(**values: str) -> list[Property]:
    return [
        Property(name=_PREFIX + name.replace("_", "-"), value=value)
        for name, value in values.items()
        if value
    ]


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)
