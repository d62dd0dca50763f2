"""What lies beside a wheel (verdicts, bill of materials, provenance) and its METADATA, as a page shows it.

All of it may be damaged, of another farm or of another version of this one: then the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser
from email.policy import compat32
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import WheelError
from farm.provenance.check import check_provenance
from farm.provenance.names import IN_BUILD_ENVIRONMENT
from farm.site.model import (
    About,
    Board,
    Finding,
    GateResult,
    Library,
    Link,
    Origin,
    Outcome,
    Package,
    Source,
    Toolchain,
)
from farm.site.text import clean, web_url
from farm.verify.summary import in_one_line

MOST_FINDINGS: Final = 12
MOST_PASSED: Final = 4
MOST_LINKS: Final = 12
LONGEST_LABEL: Final = 60
_ROLE, _GRAFTED, _CRATE = "wheel-farm:role", "grafted library", "crate"


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Verdict(_Lenient):
    gate: str
    ok: bool
    subject: str = ""
    evidence: str = ""
    hint: str = ""

    @property
    def outcome(self) -> Outcome:
        if not self.ok:
            return Outcome.FAIL
        return Outcome.NOTE if self.hint else Outcome.PASS


class _Report(_Lenient):
    wheel: str
    sha256: str
    verdicts: list[_Verdict]


def gates_of(data: bytes, filename: str, sha256: str) -> tuple[GateResult, ...]:
    """Return what each gate says, in the file's order, from a ``.verdicts.json``.

    Raises:
        WheelError: it can't be read, or is of another wheel.
    """
    try:
        report = _Report.model_validate_json(data)
    except ValidationError as error:
        raise WheelError(f"{filename}: its verdicts can't be read: {_first(error)}") from error
    if (report.wheel, report.sha256) != (filename, sha256):
        raise WheelError(f"{filename}: its verdicts are of other bytes ({report.sha256[:12]})")
    found: dict[str, list[_Verdict]] = {}
    for verdict in report.verdicts:
        found.setdefault(verdict.gate, []).append(verdict)
    return tuple(_gate(gate, verdicts, filename) for gate, verdicts in found.items())


def _gate(gate: str, verdicts: Sequence[_Verdict], filename: str) -> GateResult:
    passed = [verdict for verdict in verdicts if verdict.outcome is Outcome.PASS]
    # Failures first: they must not be among what is left out.
    remarks = [
        verdict for word in (Outcome.FAIL, Outcome.NOTE) for verdict in verdicts if verdict.outcome is word
    ]
    findings = tuple(
        Finding(
            verdict.outcome,
            "" if verdict.subject == filename else clean(verdict.subject),
            clean(verdict.evidence),
            clean(verdict.hint),
        )
        for verdict in remarks[:MOST_FINDINGS]
    )
    worst = remarks[0].outcome if remarks else Outcome.PASS
    left_out = max(0, len(remarks) - MOST_FINDINGS)
    return GateResult(clean(gate), worst, _passed(passed, filename), findings, left_out)


def _passed(verdicts: Sequence[_Verdict], filename: str) -> tuple[str, ...]:
    """Return what held, a line each; of many files, in one line what they have in common."""
    if len(verdicts) > MOST_PASSED:
        return (in_one_line([clean(verdict.evidence) for verdict in verdicts]),)
    about = ("" if len(verdicts) == 1 or v.subject == filename else f"{v.subject}: " for v in verdicts)
    return tuple(clean(f"{where}{v.evidence}") for where, v in zip(about, verdicts, strict=True))


# -- bill of materials --------------------------------------------------------------------------------------


class _Property(_Lenient):
    name: str
    value: str = ""


class _Name(_Lenient):
    id: str = ""
    name: str = ""


class _Licence(_Lenient):
    license: _Name = _Name()
    expression: str = ""


class _Component(_Lenient):
    name: str = ""
    version: str = ""
    licenses: list[_Licence] = []
    properties: list[_Property] = []


class _Bill(_Lenient):
    components: list[_Component] = []


def libraries_of(data: bytes, filename: str) -> tuple[Library, ...]:
    """Return the grafted libraries that a bill of materials (CycloneDX) names.

    Raises:
        WheelError: it can't be read.
    """
    try:
        bill = _Bill.model_validate_json(data)
    except ValidationError as error:
        raise WheelError(f"{filename}: its bill of materials can't be read: {_first(error)}") from error
    libraries = []
    for component in bill.components:
        said = {item.name: item.value for item in component.properties}
        if said.get(_ROLE) == _GRAFTED:
            libraries.append(_library(component, said))
    return tuple(sorted(libraries, key=lambda library: library.file))


def _library(component: _Component, said: Mapping[str, str]) -> Library:
    words = [item.expression or item.license.id or item.license.name for item in component.licenses]
    return Library(
        file=clean(said.get("wheel-farm:file", "")),
        soname=clean(said.get("wheel-farm:soname", "")),
        package=clean(component.name),
        version=clean(component.version),
        source=clean(said.get("wheel-farm:source", "")),
        licences=tuple(clean(word) for word in words if word),
    )


# -- provenance ---------------------------------------------------------------------------------------------


class _Digest(_Lenient):
    sha256: str = ""


class _Sdist(_Lenient):
    filename: str = ""
    url: str = ""
    sha256: str = ""


class _Recipe(_Lenient):
    reason: str = ""
    apt_packages: list[str] = []
    system_libraries: dict[str, str] = {}


class _External(_Lenient):
    sdist: _Sdist = _Sdist()
    recipe: _Recipe = _Recipe()


class _Board(_Lenient):
    model: str = ""
    os: str = ""
    kernel: str = ""
    isa: str = ""


class _Compiler(_Lenient):
    gcc: str = ""
    gcc_march: str = ""
    rustc: str = ""


class _Internal(_Lenient):
    node: str = ""
    board: _Board = _Board()
    compiler: _Compiler = _Compiler()
    python: str = ""
    tools: list[str] = []
    width: int = 0


class _Dependency(_Lenient):
    name: str = ""
    uri: str = ""
    annotations: dict[str, Any] = {}


class _Definition(_Lenient):
    external: _External = Field(default=_External(), alias="externalParameters")
    internal: _Internal = Field(default=_Internal(), alias="internalParameters")
    dependencies: list[_Dependency] = Field(default=[], alias="resolvedDependencies")


class _Run(_Lenient):
    metadata: dict[str, Any] = {}


class _Predicate(_Lenient):
    definition: _Definition = Field(alias="buildDefinition")
    run: _Run = Field(alias="runDetails")


def origin_of(data: bytes, filename: str, sha256: str, keys: Iterable[Ed25519PublicKey]) -> Origin:
    """Return where a wheel comes from, once its provenance is known to hold.

    Raises:
        WheelError: it does not hold, or says something that is not understood.
    """
    held = check_provenance(data, filename, sha256, keys)
    try:
        said = _Predicate.model_validate(held.statement["predicate"])
    except ValidationError as error:
        raise WheelError(f"{filename}: its provenance has another form: {_first(error)}") from error
    external, internal, times = said.definition.external, said.definition.internal, said.run.metadata
    roles = [str(item.annotations.get("role", "")) for item in said.definition.dependencies]
    return Origin(
        signer=held.builder.rpartition(":")[2][:16],
        attempt=clean(str(times.get("invocationId", ""))),
        began=clean(str(times.get("startedOn", ""))),
        ended=clean(str(times.get("finishedOn", ""))),
        board=_board(internal),
        toolchain=_toolchain(internal),
        source=Source(clean(external.sdist.filename), web_url(external.sdist.url), external.sdist.sha256),
        width=internal.width,
        recipe_reason=clean(external.recipe.reason),
        system_libraries=tuple(
            Package(clean(name), clean(why)) for name, why in sorted(external.recipe.system_libraries.items())
        ),
        build_packages=tuple(map(clean, external.recipe.apt_packages)),
        environment=tuple(
            _pin(item)
            for item, role in zip(said.definition.dependencies, roles, strict=True)
            if role == IN_BUILD_ENVIRONMENT
        ),
        crates=roles.count(_CRATE),
    )


def _board(said: _Internal) -> Board:
    board = said.board
    return Board(*map(clean, (said.node, board.model, board.os, board.kernel, board.isa)))


def _toolchain(said: _Internal) -> Toolchain:
    compiler = said.compiler
    return Toolchain(
        python=clean(said.python),
        gcc=clean(compiler.gcc),
        march=clean(compiler.gcc_march),
        rustc=clean(compiler.rustc),
        tools=tuple(map(clean, said.tools)),
    )


def _pin(item: _Dependency) -> str:
    version = item.uri.rpartition("@")[2] if "@" in item.uri else ""
    return clean(f"{item.name}=={version}" if version else item.name)


# -- core metadata ------------------------------------------------------------------------------------------


def about_of(metadata: bytes) -> About:
    """Return what a METADATA file says of the project; only harmless addresses become links."""
    # It is UTF-8 (core metadata 2.1 and newer), which a parser of mail would take for damage.
    message = HeaderParser(policy=compat32).parsestr(metadata.decode("utf-8", "replace"))
    licence = str(message.get("License-Expression") or message.get("License") or "")
    named = [str(value).partition(",")[::2] for value in message.get_all("Project-URL", [])]
    named = [(label, url) for label, url in named if web_url(url)]
    home = web_url(str(message.get("Home-page", "")))
    if home and home not in {web_url(url) for _, url in named}:
        named.insert(0, ("Homepage", home))
    links = tuple(
        Link(clean(label, LONGEST_LABEL) or "Link", web_url(url)) for label, url in named[:MOST_LINKS]
    )
    # A whole text of a licence, as old METADATA files have it, is no name of one.
    short = "" if "\n" in licence.strip() else clean(licence, 200)
    return About(clean(str(message.get("Summary", "")), 500), short, links)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "it"
    return f"{where}: {first['msg']}"
