"""What pip says when it does not install a wheel: the wheel's fault, or the room's (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from farm.cleanroom.sandbox import SHELF

PIP: Final = "/opt/wheelfarm/pip/pip"
"""pip of the userland's Debian, unpacked and compiled: in each venv it would cost seconds to install."""

CACHE: Final = f"{SHELF}/cache"
WHEELS: Final = f"{SHELF}/wheels"
VENV: Final = f"{SHELF}/venv"

_NOT_FOUND = re.compile(r"No matching distribution found for (?P<wanted>.+)")
_CONFLICT = re.compile(r"^    (?:The user requested|\S+ \S+ depends on) (?P<wanted>.+)$", re.MULTILINE)
_UNSUPPORTED = re.compile(r"(?P<wheel>\S+\.whl) is not a supported wheel on this platform")
_PYTHON = re.compile(r"Package '(?P<what>[^']+)' requires a different Python: (?P<why>.+)")
_INSTALLED = re.compile(r"^Successfully installed (?P<what>.+)$", re.MULTILINE)
_DISK_FULL = "No space left on device"
_UNREACHED = re.compile(
    r"WARNING: Retrying|Max retries exceeded|ReadTimeoutError|HTTP error 5\d\d|5\d\d Server Error"
    r"|Could not fetch URL|connection error",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was installed. ``room`` is set where the wheel can't be blamed."""

    evidence: str
    hint: str
    room: bool = False
    lacking: str = ""
    """The requirement for which there is no wheel, if that is why."""


def pip_command(wheel: str, requirements: Sequence[str], index_url: str) -> list[str]:
    """Return the command that installs a wheel of the shelf, and what else is asked for, from wheels only."""
    index = urlsplit(index_url)
    # pip wants to be told so for plain HTTP, as users of such an index tell it.
    trusted = ["--trusted-host", index.hostname] if index.scheme == "http" and index.hostname else []
    return [
        f"{VENV}/bin/python",
        PIP,
        "--disable-pip-version-check",
        "--no-input",
        "--no-color",
        "install",
        "--progress-bar=off",
        "--only-binary=:all:",
        f"--cache-dir={CACHE}",
        f"--index-url={index_url}",
        f"--find-links={WHEELS}",
        *trusted,
        f"{WHEELS}/{wheel}",
        *requirements,
    ]


def installed(output: str) -> str:
    """Return what pip says that it installed."""
    match = _INSTALLED.search(output)
    return match["what"] if match else "nothing"


def refusal(output: str, index_url: str) -> Refusal:
    """Judge pip's output, after it failed."""
    if _DISK_FULL in output:
        return Refusal("the disk is full", "free some space and try again", room=True)
    if _UNREACHED.search(output):
        return Refusal(
            f"{index_url} can't be reached, or does not answer well", "see that the index is up", room=True
        )
    if match := _UNSUPPORTED.search(output):
        return Refusal(
            f"pip: {Path(match['wheel']).name} is not a supported wheel here",
            "the tags must fit a Debian trixie with this Python: see the gates `job` and `platform`",
        )
    if match := _PYTHON.search(output):
        return Refusal(
            f"pip: {match['what']} requires a different Python: {match['why']}", "see its Requires-Python"
        )
    if wanted := _lacking(output):
        return Refusal(
            f"pip: no wheel for {wanted} on {index_url}",
            f"build it first, for users must not need a compiler: farm dispatch {wanted!r}",
            lacking=wanted,
        )
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    return Refusal(f"pip: {errors[-1] if errors else 'failed without a message'}", "see the log")


def _lacking(output: str) -> str:
    """Return the requirement that nothing fits: by pip's message, or by the conflict that it reports after it
    tried all versions of what asks for it.
    """
    if match := _NOT_FOUND.search(output):
        return match["wanted"].partition("(")[0].strip()
    wanted = {match["wanted"].partition("(")[0].strip() for match in _CONFLICT.finditer(output)}
    return wanted.pop() if len(wanted) == 1 else ""
