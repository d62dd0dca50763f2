"""What a provenance that holds says of a build, so that it can be made again (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from farm.errors import WheelError
from farm.plan import JobSpec
from farm.provenance.check import Provenance
from farm.provenance.names import IN_BUILD_ENVIRONMENT
from farm.provenance.record import BoardIdentity, BuildRecord, Compiler, Sha256, Text
from farm.recipe import Recipe
from farm.recipe_file import checked
from farm.wheel_name import parse_name


@dataclass(frozen=True, slots=True)
class StatedBuild:
    """A build as its provenance states it; ``record`` is without grafted libraries and crates."""

    spec: JobSpec
    attempt: int
    node: str
    record: BuildRecord


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


# These become names of files and folders.
Filename = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}$")]


class _Sdist(_Stated):
    filename: Filename
    url: Text
    sha256: Sha256


class _External(_Stated):
    project: Filename
    version: Filename
    python: Annotated[str, Field(pattern=r"^cp3[0-9]{1,2}$")]
    sdist: _Sdist
    recipe: Annotated[Recipe, PlainValidator(checked)]
    recipe_digest: Sha256 = Field(alias="recipeDigest")


class _Internal(_Stated):
    node: Text
    board: BoardIdentity
    compiler: Compiler
    python: Text
    tools: list[Text]
    variables: dict[Text, Text]
    source_date_epoch: Text = Field(alias="sourceDateEpoch")
    width: int = Field(gt=0)


class _Dependency(_Stated):
    name: Text
    uri: Text = ""
    annotations: dict[str, str] = {}


class _Definition(_Stated):
    external: _External = Field(alias="externalParameters")
    internal: _Internal = Field(alias="internalParameters")
    dependencies: list[_Dependency] = Field(alias="resolvedDependencies")


class _Metadata(_Stated):
    attempt: str = Field(alias="invocationId", pattern=r"\.[0-9]{1,6}$")


class _Builder(_Stated):
    version: dict[str, Text]


class _Run(_Stated):
    builder: _Builder
    metadata: _Metadata


class _Predicate(_Stated):
    definition: _Definition = Field(alias="buildDefinition")
    run: _Run = Field(alias="runDetails")


def stated_build(provenance: Provenance, wheel: str) -> StatedBuild:
    """Return the build of a wheel from its provenance, which was checked.

    Raises:
        WheelError: the provenance is of another form, or has not the recipe as it was: what looks like a
            secret is left out, and a farm of another version has other defaults.
    """
    try:
        said = _Predicate.model_validate(provenance.statement["predicate"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise WheelError(
            f"{wheel}: its provenance is of another form: {where}: {first['msg']}",
            hint="build it again by the farm that published it",
        ) from error
    external, internal = said.definition.external, said.definition.internal
    if external.recipe.digest() != external.recipe_digest:
        raise WheelError(
            f"{wheel}: its provenance has not the recipe as it was: what looks like a secret is left out",
            hint="build it again by the farm whose `farm status` has its job",
        )
    spec = JobSpec(
        project=external.project,
        version=external.version,
        python=external.python,
        sdist_filename=external.sdist.filename,
        sdist_url=external.sdist.url,
        sdist_sha256=external.sdist.sha256,
        recipe=external.recipe,
        build_tag=parse_name(wheel).build,
    )
    attempt = int(said.run.metadata.attempt.rpartition(".")[2])
    return StatedBuild(spec, attempt, internal.node, _record(said))


def _record(said: _Predicate) -> BuildRecord:
    external, internal = said.definition.external, said.definition.internal
    return BuildRecord(
        farm_node=int(said.run.builder.version.get("farm-node", "0")),
        sdist_filename=external.sdist.filename,
        sdist_sha256=external.sdist.sha256,
        recipe_digest=external.recipe_digest,
        build_constraints=external.recipe.build_constraints,
        width=internal.width,
        environment=[*_pins(said.definition.dependencies)],
        tools=internal.tools,
        python=internal.python,
        compiler=internal.compiler,
        board=internal.board,
        variables=internal.variables,
        source_date_epoch=internal.source_date_epoch,
        grafted=[],
        crates=[],
    )


def _pins(dependencies: Sequence[_Dependency]) -> Iterator[str]:
    """Yield what the build environment held, as ``name==version``."""
    for item in dependencies:
        version = unquote(item.uri.rpartition("@")[2]) if "@" in item.uri else ""
        if item.annotations.get("role") == IN_BUILD_ENVIRONMENT and version:
            yield f"{item.name}=={version}"
