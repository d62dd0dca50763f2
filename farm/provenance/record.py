"""A board's record of a build (:mod:`farm.node.record`), read with care: it may be damaged or hostile."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import WheelError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4000)]
_CONFIG: Final = ConfigDict(frozen=True, extra="ignore", strict=True)


class Grafted(BaseModel):
    """A library that auditwheel put into the wheel; without ``package`` the board knows no package of it."""

    model_config = _CONFIG

    file: Text
    sha256: Sha256
    """In the wheel, after it was patched."""
    origin: Text = ""
    origin_sha256: Sha256 | None = None
    """On the board."""
    soname: Text = ""
    package: Text = ""
    version: Text = ""
    architecture: Text = ""
    source: Text = ""
    source_version: Text = ""
    licences: list[Text] = []
    """Short names as in Debian's copyright file (DEP-5); empty: it has no such form."""
    copyright: Text = ""
    copyright_sha256: Sha256 | None = None


class Crate(BaseModel):
    """A package that a Cargo.lock of the source names."""

    model_config = _CONFIG

    lock: Text
    name: Text
    version: Text
    source: Text = ""
    checksum: Sha256 | None = None


class Compiler(BaseModel):
    """What compiled; empty where the board has none."""

    model_config = _CONFIG

    gcc: Text
    gcc_march: Text
    rustc: Text
    compilers: dict[Text, Text]


class BoardIdentity(BaseModel):
    """Where it was built. ``id`` is a hash of the machine id."""

    model_config = _CONFIG

    id: Text
    model: Text
    hostname: Text
    kernel: Text
    os: Text
    isa: Text


class BuildRecord(BaseModel):
    """All that a board says of one build that succeeded."""

    model_config = _CONFIG

    farm_node: int
    sdist_filename: Text
    sdist_sha256: Sha256
    recipe_digest: Sha256
    build_constraints: list[Text]
    width: int
    environment: list[Text]
    """``name==version`` of the isolated build environment."""
    tools: list[Text]
    """The same of the farm's own tools on the board."""
    python: Text
    compiler: Compiler
    board: BoardIdentity
    variables: dict[Text, Text]
    source_date_epoch: Text
    """As the build saw it: a recipe may set it."""
    grafted: list[Grafted]
    crates: list[Crate]


def parse_record(data: bytes, attempt_id: str) -> BuildRecord:
    """Read a record.

    Raises:
        WheelError: it makes no sense.
    """
    try:
        return BuildRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise WheelError(
            f"{attempt_id}: the board's record of the build is unusable: {where}: {first['msg']}",
            hint="`farm retry` builds it again",
        ) from error
