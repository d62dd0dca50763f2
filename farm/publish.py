"""From verified wheels to the index that pip uses: files first, pages last, then read back over HTTP."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from farm.errors import PublishError, WheelError
from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import crawl
from farm.nodes import IndexHost
from farm.paths import Paths
from farm.provenance.check import checked_beside
from farm.provenance.dsse import read_public_keys
from farm.provenance.key import publish_key
from farm.provenance.names import PROVENANCE, PUBLIC_KEYS

RSYNC_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication did."""

    files: tuple[str, ...]
    pages: int
    checked_files: int


def publish(wheels: Sequence[Path], paths: Paths, host: IndexHost) -> Published:
    """Add wheels to the local tree, bring it to the index host and check there what changed.

    rsync writes each file beside its target and renames it, so a reader sees the old or the new one. Wheels
    go before the pages that link to them (F09). What was published is then fetched as pip would (F15).

    What lies beside a wheel goes along, if its provenance is this farm's own.

    Raises:
        PublishError: a name is taken by other bytes, rsync failed, or the host serves something else.
        WheelError: the provenance beside a wheel does not hold.
    """
    index = IndexTree(paths.tree, base_url=host.url)
    publish_key(paths.signing_key, index.keys)
    for wheel in wheels:
        refuse_foreign(wheel, index)
    added = [add_wheel(index, wheel) for wheel in wheels]
    pages = build_index(index)
    push(paths.tree, host)
    with requests.Session() as session:
        result = crawl(
            host.simple_url,
            {file.project for file in added},
            session,
            expected={file.filename: file.sha256 for file in added},
        )
    if result.problems:
        problem = result.problems[0]
        raise PublishError(
            f"{problem.url}: not what was published: {problem.cause}",
            hint=f"`farm provision {host.address.name}` mends nginx; then run `farm dispatch` again",
        )
    return Published(tuple(file.filename for file in added), len(pages), len(result.files))


def refuse_foreign(wheel: Path, index: IndexTree) -> None:
    """Refuse a wheel beside which a provenance lies that is not of it, or not signed by this farm.

    Raises:
        WheelError: it is so.
    """
    if not wheel.with_name(wheel.name + PROVENANCE).exists():
        return
    keys = read_public_keys(index.keys.read_bytes(), str(index.keys)) if index.keys.exists() else ()
    verdict = checked_beside(wheel, keys)
    if not verdict.ok:
        hint = f"publish it without {wheel.name}{PROVENANCE}, or from the farm that built it"
        raise WheelError(f"{wheel.name}: {verdict.evidence.removeprefix(f'{wheel.name}: ')}", hint=hint)


def push(tree: Path, host: IndexHost) -> None:
    """Bring the local tree to the index host, files before pages."""
    # A published name never changes content (F06), not even by another controller's hand.
    _rsync(tree, "packages", host, "--ignore-existing")
    if (tree / PUBLIC_KEYS).exists():
        _rsync(tree, PUBLIC_KEYS, host)
    _rsync(tree, "simple", host, "--delete-after")
    _rsync(tree, "pypi", host, "--delete-after")
    if (tree / "index.html").exists():
        _rsync(tree, "index.html", host)


def _rsync(tree: Path, part: str, host: IndexHost, *options: str) -> None:
    program = shutil.which("rsync")
    if program is None:
        raise PublishError("rsync is not installed on this controller", hint="install it (Debian: rsync)")
    address = host.address
    ssh = shlex.join(
        [
            "ssh",
            *("-F", "/dev/null"),
            *("-p", str(address.port)),
            *("-i", str(address.key_file)),
            *("-o", f"UserKnownHostsFile={address.known_hosts}"),
            *("-o", "StrictHostKeyChecking=yes"),
            *("-o", "IdentitiesOnly=yes"),
            *("-o", "BatchMode=yes"),
            *("-o", "ConnectTimeout=20"),
        ]
    )
    source = f"{tree}/{part}/" if (tree / part).is_dir() else f"{tree}/{part}"
    target = f"{host.root}/{part}/" if (tree / part).is_dir() else f"{host.root}/{part}"
    command = [program, "--recursive", "--times", "--chmod=D755,F644", *options, "--rsh", ssh]
    try:
        subprocess.run(
            [*command, source, f"{address.user}@{address.host}:{target}"],
            check=True,
            capture_output=True,
            text=True,
            timeout=RSYNC_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"code {error.returncode}"]
        raise PublishError(
            f"rsync of {part}/ to {address.name} failed: {lines[0]}",
            hint="nothing is lost: run `farm dispatch` again when the index host is well",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PublishError(
            f"rsync to {address.name} took over {RSYNC_TIMEOUT_S} s",
            hint="look at the link, then run `farm dispatch` again",
        ) from error
