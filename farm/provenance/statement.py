"""What is said of a wheel: an in-toto Statement v1 with a SLSA Provenance v1 predicate (pure).

https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1; the build type is described in
docs/reference.md, "Provenance".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from farm.node.record import without_secrets
from farm.plan import JobSpec
from farm.provenance.names import IN_BUILD_ENVIRONMENT
from farm.provenance.record import BuildRecord, Crate, Grafted

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:wheel-farm:build:v1"
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Built:
    """One wheel and how it came about. Times are seconds since the epoch, by the board's clock."""

    wheel: str
    sha256: str
    spec: JobSpec
    attempt_id: str
    node: str
    """The board's name in the inventory."""
    record: BuildRecord
    started_at: float
    ended_at: float
    log_sha256: str


def statement(built: Built, byproducts: Mapping[str, str], builder: str, version: str) -> Json:
    """Return the statement.

    Args:
        built: the wheel.
        byproducts: sha256 of each file that lies beside the wheel, by its name.
        builder: who signs, as a URI.
        version: of the farm on the controller.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": built.wheel, "digest": {"sha256": built.sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _external(built),
                "internalParameters": _internal(built),
                "resolvedDependencies": [*_dependencies(built)],
            },
            "runDetails": {
                "builder": {
                    "id": builder,
                    "version": {"wheel-farm": version, "farm-node": str(built.record.farm_node)},
                },
                "metadata": {
                    "invocationId": built.attempt_id,
                    "startedOn": moment(built.started_at),
                    "finishedOn": moment(built.ended_at),
                },
                "byproducts": [
                    {"name": f"{built.attempt_id}.log", "digest": {"sha256": built.log_sha256}},
                    *({"name": name, "digest": {"sha256": value}} for name, value in byproducts.items()),
                ],
            },
        },
    }


def moment(seconds: float) -> str:
    """Return a time as RFC 3339 writes it, in UTC and whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def _external(built: Built) -> Json:
    """Return what was asked for: all that another farm needs to build the same."""
    spec = built.spec
    recipe = asdict(spec.recipe)
    return {
        "project": spec.project,
        "version": spec.version,
        "python": spec.python,
        "sdist": {"filename": spec.sdist_filename, "url": spec.sdist_url, "sha256": spec.sdist_sha256},
        "recipe": {**recipe, "environment": without_secrets(spec.recipe.environment)},
        "recipeDigest": spec.recipe.digest(),
        "buildConstraints": list(spec.recipe.build_constraints),
        "patches": [],
    }


def _internal(built: Built) -> Json:
    record = built.record
    return {
        "node": built.node,
        "board": record.board.model_dump(),
        "compiler": record.compiler.model_dump(),
        "python": record.python,
        "tools": record.tools,
        "variables": record.variables,
        "sourceDateEpoch": record.source_date_epoch,
        "width": record.width,
    }


def _dependencies(built: Built) -> Iterator[Json]:
    spec, record = built.spec, built.record
    yield {"name": spec.sdist_filename, "uri": spec.sdist_url, "digest": {"sha256": spec.sdist_sha256}}
    for pin in record.environment:
        yield {
            "name": pin.partition("==")[0],
            "uri": pypi_purl(pin),
            "annotations": {"role": IN_BUILD_ENVIRONMENT},
        }
    for library in record.grafted:
        yield _grafted(library)
    for crate in record.crates:
        yield {
            "name": crate.name,
            "uri": cargo_purl(crate),
            **({"digest": {"sha256": crate.checksum}} if crate.checksum else {}),
            "annotations": {"role": "crate", "lock": crate.lock},
        }


def _grafted(library: Grafted) -> Json:
    digest = library.origin_sha256
    return {
        "name": library.soname or library.file,
        **({"uri": deb_purl(library)} if library.package else {}),
        "digest": {"sha256": digest or library.sha256},
        "annotations": {"role": "grafted library", "file": library.file, "origin": library.origin},
    }


# -- package URLs (ECMA-427) --------------------------------------------------------------------------------


def pypi_purl(pin: str) -> str:
    """Return ``pkg:pypi/NAME@VERSION`` of ``NAME==VERSION``."""
    name, _, version = pin.partition("==")
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'), safe='')}@{quote(version, safe='')}"


def cargo_purl(crate: Crate) -> str:
    """Return ``pkg:cargo/NAME@VERSION``."""
    return f"pkg:cargo/{quote(crate.name, safe='')}@{quote(crate.version, safe='')}"


def deb_purl(library: Grafted) -> str:
    """Return ``pkg:deb/debian/PACKAGE@VERSION?arch=ARCHITECTURE``."""
    package, version, architecture = (
        quote(text, safe="") for text in (library.package, library.version, library.architecture)
    )
    return f"pkg:deb/debian/{package}@{version}?arch={architecture}"
