"""What a board writes down of a build that succeeded: the part of a wheel's provenance only the board knows.

It lies beside the wheel as ``JOB.ATTEMPT.record.json`` and is collected with it. Nothing here fails a build:
what the board can't find out is empty.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sysconfig
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from farm.node import VERSION
from farm.node.environment import python_of
from farm.node.facts import model, output
from farm.node.files import Json, read_text, sha256_of

FORM = 1
# auditwheel's folder and names: BASE-HASH.EXT, with 8 digits of the sha256 of the file that it copied.
GRAFTED = re.compile(r"[^/]+\.libs/(?P<base>[^/]+)-(?P<hash>[0-9a-f]{8})\.(?P<ext>[^/]+)")
IN_LIBS = re.compile(r"[^/]+\.libs/[^/]+")
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|AUTH", re.IGNORECASE)
NOT_RECORDED = "(not recorded)"
DOC = Path("/usr/share/doc")
MOST_CRATES = 20_000
LONGEST_LOCK_BYTES = 16 << 20


def build_record(
    *,
    spec: Json,
    toolchain: Json,
    variables: Mapping[str, str],
    tools: Path,
    work: Path,
    wheel: Path,
) -> Json:
    """Return all that the board knows of the build of ``wheel``; see docs/reference.md, "Provenance"."""
    return {
        "record": FORM,
        "farm_node": VERSION,
        "sdist_filename": spec["sdist_filename"],
        "sdist_sha256": spec["sdist_sha256"],
        "recipe_digest": spec["recipe_digest"],
        "build_constraints": spec["build_constraints"],
        "width": spec["width"],
        "environment": toolchain.get("environment", []),
        "tools": installed(tools),
        "python": python_of(tools),
        "compiler": {name: toolchain.get(name) for name in ("gcc", "gcc_march", "rustc", "compilers")},
        "board": {
            "id": board_id(read_text("/etc/machine-id")),
            "model": model(),
            **{name: toolchain.get(name) for name in ("hostname", "kernel", "os", "isa")},
        },
        "variables": without_secrets(
            {name: value for name, value in sorted(variables.items()) if os.environ.get(name) != value}
        ),
        "source_date_epoch": variables["SOURCE_DATE_EPOCH"],
        "grafted": list(grafted(wheel, (*_library_folders(), work))),
        "crates": list(crates(work / "source")),
    }


def board_id(machine_id: str) -> str:
    """Return a number of this board that is the same each time and does not give the machine id away.

    machine-id(5) asks for a keyed hash wherever it leaves the machine.
    """
    return hmac.new(machine_id.encode(), b"wheel-farm provenance", hashlib.sha256).hexdigest()[:32]


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables of a build as they may be published: no passwords, neither by name nor in URLs."""
    return {
        name: NOT_RECORDED if SECRET.search(name) else _without_login(value)
        for name, value in variables.items()
    }


def _without_login(value: str) -> str:
    if "://" not in value or "@" not in value:
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return NOT_RECORDED
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def installed(tools: Path) -> list[str]:
    """Return ``name==version`` of what is in a virtual environment (the names of its .dist-info folders)."""
    names = (
        path.name.removesuffix(".dist-info") for path in tools.glob("lib/python3.*/site-packages/*.dist-info")
    )
    return sorted(name.replace("-", "==", 1) for name in names)


# -- grafted libraries --------------------------------------------------------------------------------------


def grafted(wheel: Path, folders: Iterable[Path]) -> Iterator[Json]:
    """Return each library that auditwheel put into a wheel, and the board's package that it is from.

    The name in the wheel holds a hash of the file that was copied: a library is not found by its name alone.
    """
    hashes = _libraries(wheel)
    found = _origins(list(hashes), folders) if hashes else {}
    for member, sha256 in hashes.items():
        origin = found.get(member)
        yield {"file": member, "sha256": sha256, **(_origin(origin) if origin else {})}


def _libraries(wheel: Path) -> dict[str, str]:
    """Return the sha256 of each member in auditwheel's folder; none of a file that is no wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if IN_LIBS.fullmatch(name)]
            return {member: hashlib.sha256(archive.read(member)).hexdigest() for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError):
        return {}  # what is wrong with it is for the gates to say


def _origins(members: Sequence[str], folders: Iterable[Path]) -> dict[str, Path]:
    """Return which file on the board each grafted library was copied from."""
    wanted: dict[str, list[tuple[str, str]]] = {}
    for member in members:
        match = GRAFTED.fullmatch(member)
        if match:
            wanted.setdefault(f"{match['base']}.{match['ext']}", []).append((member, match["hash"]))
            # auditwheel leaves a name that has its hash already.
            wanted.setdefault(member.rpartition("/")[2], []).append((member, match["hash"]))
    found: dict[str, Path] = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in wanted.keys() & set(names):
                path = Path(parent, name)
                try:
                    sha256 = sha256_of(path)
                except OSError:
                    continue  # a link to nothing, or not ours to read: then auditwheel did not read it either
                for member, start in wanted[name]:
                    if sha256.startswith(start):
                        found.setdefault(member, path.resolve())
    return found


def _library_folders() -> tuple[Path, ...]:
    triplet = sysconfig.get_config_var("MULTIARCH") or "riscv64-linux-gnu"
    return Path("/usr/lib", triplet), Path("/usr/local/lib"), Path("/lib", triplet), Path("/opt")


def _origin(path: Path) -> Json:
    known: Json = {"origin": str(path), "origin_sha256": sha256_of(path), "soname": _soname(path)}
    package = _package_of(path)
    if not package:
        return known
    form = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}"
    fields = output("/usr/bin/dpkg-query", "-W", "-f", form, package).split("\t")
    names = ("package", "version", "architecture", "source", "source_version")
    copyright_file = DOC / package.partition(":")[0] / "copyright"
    known |= dict(zip(names, fields, strict=False))
    if copyright_file.is_file():
        known["copyright"] = str(copyright_file)
        known["copyright_sha256"] = sha256_of(copyright_file)
        known["licences"] = licences(copyright_file.read_text(encoding="utf-8", errors="replace"))
    return known


def _soname(path: Path) -> str:
    match = re.search(r"\(SONAME\).*\[(.+)\]", output("/usr/bin/readelf", "-d", "-W", str(path)))
    return match[1] if match else ""


def _package_of(path: Path) -> str:
    """Return the Debian package of a file, with its architecture where dpkg names it."""
    # Since /lib is a link to /usr/lib, dpkg may know a file by either name.
    for name in (str(path), str(path).removeprefix("/usr")):
        for line in output("/usr/bin/dpkg-query", "-S", name).splitlines():
            packages, _, listed = line.rpartition(": ")
            if listed == name and not packages.startswith("diversion "):
                return packages.split(", ")[0]
    return ""


def licences(text: str) -> list[str]:
    """Return the short names of licences in a Debian copyright file, in order; none if it has no such form.

    DEP-5 (copyright-format 1.0): the header's License and those of paragraphs that begin with Files; a
    paragraph that is of a License alone only has its text.
    """
    paragraphs = re.split(r"\n\s*\n", text.strip())
    if not re.search(r"^Format(-Specification)?:", paragraphs[0], re.MULTILINE):
        return []
    found: dict[str, None] = {}
    for number, paragraph in enumerate(paragraphs):
        match = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if match and (number == 0 or re.search(r"^Files:", paragraph, re.MULTILINE)):
            found[match[1].strip()] = None
    return list(found)


# -- crates -------------------------------------------------------------------------------------------------


def crates(source: Path) -> Iterator[Json]:
    """Return what each Cargo.lock of the source names, as it is after the build: cargo makes one if need be.

    What is linked is among it; a lock also names what other systems, tests and build scripts need.
    """
    left = MOST_CRATES
    for lock in sorted(source.rglob("Cargo.lock")):
        for crate in _locked(lock):
            if left == 0:
                return
            left -= 1
            yield {"lock": str(lock.relative_to(source).as_posix()).partition("/")[2] or lock.name, **crate}


def _locked(lock: Path) -> list[Json]:
    try:
        if lock.is_symlink() or lock.stat().st_size > LONGEST_LOCK_BYTES:
            return []
        packages = tomllib.loads(lock.read_text(encoding="utf-8")).get("package", [])
    except (OSError, ValueError):
        return []  # a test's fixture, perhaps; cargo itself would have refused it
    names = ("name", "version", "source", "checksum")
    kept = (
        {name: item[name] for name in names if isinstance(item.get(name), str)} for item in _dicts(packages)
    )
    return [crate for crate in kept if "name" in crate and "version" in crate]


def _dicts(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
