"""Installers as users have them: the oldest pip that is supported, the newest pip, the newest uv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OLDEST_PIP = "24.1"


@dataclass(frozen=True, slots=True)
class Client:
    """One installer, in an environment of its own."""

    name: str
    folder: Path

    @property
    def is_uv(self) -> bool:
        return self.name.startswith("uv")

    @property
    def version(self) -> str:
        """What it says of itself."""
        command = (
            [str(self.folder / "bin/uv")] if self.is_uv else [str(self.folder / "bin/python"), "-m", "pip"]
        )
        return subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[1]

    def install(
        self, target: Path, *arguments: str, index: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Install into a folder."""
        found = ["--index-url", index] if index else []
        return self.run("install", "--target", str(target), *found, *arguments, check=check)

    def resolve(self, *requirements: str, index: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Find versions for requirements and install nothing."""
        options = ["--index-url", index, "--dry-run", "--target", str(self.folder / "nowhere")]
        return self.run("install", *options, *requirements, check=check)

    def run(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of pip, or of ``uv pip``, with no setting and no cache of this machine's."""
        python = str(self.folder / "bin/python")
        start = [python, "-m", "pip", command, "--no-cache-dir", "--no-input"]
        if self.is_uv:
            start = [str(self.folder / "bin/uv"), "pip", command, "--no-cache", "--python", sys.executable]
        done = subprocess.run(
            [*start, *arguments], capture_output=True, text=True, check=False, env=bare(), timeout=120
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done


def bare() -> dict[str, str]:
    """Return the environment without what tells pip or uv where to look, and whom to trust."""
    settings = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(settings)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_CONFIG": "1"}


def make_client(folder: Path, name: str, requirement: str) -> Client:
    """Install an installer into an environment of its own, from the index that this machine uses."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin/python")
    # By the project's own pip, which runs on this machine whatever is asked for.
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--upgrade",
        requirement,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return Client(name, folder)


def installed(target: Path) -> dict[str, str]:
    """Return what lies in a folder that was installed into, with versions."""
    script = (
        "import json, sys; from importlib.metadata import distributions as d; "
        "print(json.dumps({x.name: x.version for x in d(path=[sys.argv[1]])}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))
