"""Bring a local tree to the index host: rsync over SSH, with a key that can only write, and only there.

The host's ``authorized_keys`` forces ``rrsync -wo ROOT`` (Debian's rsync has it), so paths are relative to
that root, nothing can be read back, and no other command runs. rsync writes each file beside its place and
renames it.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.errors import PublishError
from farm.index.gone import all_gone
from farm.index.listing import METADATA
from farm.provenance.names import BESIDE, PUBLIC_KEYS

if TYPE_CHECKING:
    from farm.nodes import IndexHost

TIMEOUT_S: Final = 300
PAGES: Final = (
    *("static", "simple", "merged", "pypi", "project", "build", "proof", "boards", "status", "statistics"),
    *("search.json", "feed.xml", "index.json", "index.html"),
)
"""What is derived and may go again. The rest of a tree (records, what upstream said) stays on the controller;
what only the host has (statistics) is left alone."""


def push(tree: Path, host: IndexHost) -> None:
    """Bring the tree to the host: files, then the pages that link to them; then remove files that are gone.

    A reader sees the old index or the new one: no page has a link to a file that is not there, and pages
    are put in their places together, when all are transferred. What a broken link left undone, the next push
    does.

    Raises:
        PublishError: rsync failed, or took too long.
    """
    # A published name never changes content (F06), not even by another controller's hand.
    files = [name for name in ("packages", PUBLIC_KEYS) if (tree / name).exists()]
    packages = [name for name in files if name == "packages"]
    if packages:
        _rsync(tree, packages, host, "--ignore-existing")
    pages = [name for name in PAGES if (tree / name).exists()]
    _rsync(
        tree,
        [name for name in files if name != "packages"] + pages,
        host,
        "--delete-after",
        "--delay-updates",
    )
    if gone := _gone(tree):
        # What the source lacks is removed; but rsync wants to see folders, even of a project that is gone.
        with tempfile.TemporaryDirectory(prefix="wheelfarm-gone-") as source:
            for name in gone:
                (Path(source) / name).parent.mkdir(parents=True, exist_ok=True)
            _rsync(Path(source), ["."], host, "--files-from=-", "--delete-missing-args", names=gone)


def _gone(tree: Path) -> list[str]:
    """Return the paths of removed files and of what lay beside them, as far as they have not come back."""
    paths = [f"packages/{project}/{name}" for project, name in all_gone(tree / "records")]
    beside = ("", METADATA, *BESIDE)
    return [f"{path}{suffix}" for path in paths if not (tree / path).exists() for suffix in beside]


def _rsync(
    tree: Path, sources: Sequence[str], host: IndexHost, *options: str, names: Sequence[str] = ()
) -> None:
    address = host.address
    command = [
        *(_program(), "--recursive", "--times", "--relative", "--chmod=D755,F644", "--exclude=.*.part"),
        *options,
        *("--rsh", shlex.join(_ssh(host))),
        *(source if source == "." else f"./{source}" for source in sources),
        f"{address.user}@{address.host}:./",
    ]
    what = ", ".join(sources) if not names else "the end of removed files"
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=tree,
            input="".join(f"{name}\n" for name in names),
        )
    except subprocess.CalledProcessError as error:
        raise PublishError(
            f"rsync of {what} to {address.name} failed: {_cause(error)}",
            hint="nothing is lost: the next publication brings it there when the index host is well",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PublishError(
            f"rsync to {address.name} took over {TIMEOUT_S} s",
            hint="look at the link; the next publication goes on where this one ended",
        ) from error


def _program() -> str:
    program = shutil.which("rsync")
    if program is None:
        raise PublishError("rsync is not installed on this controller", hint="install it (Debian: rsync)")
    return program


def _ssh(host: IndexHost) -> list[str]:
    address = host.address
    return [
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


def _cause(error: subprocess.CalledProcessError) -> str:
    """Return the line of rsync's that says most: a full disk is told before what follows from it."""
    lines = [line for line in error.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "No space left" in line or "Permission denied" in line]
    return str((telling or lines or [f"code {error.returncode}"])[0]).strip()
