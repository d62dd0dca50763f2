#!/usr/bin/env python3
"""``make demo``: the main job from nothing to `pip install` on a clean riscv64 system.

It runs the same playbooks and the same ``farm`` command as a user with boards does. A stage whose inputs are
as they were when it last succeeded is not repeated.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from farm.display import duration
from farm.nodes import Fleet, read_fleet

REPOSITORY = Path(__file__).resolve().parent.parent
INVENTORY = REPOSITORY / "inventory" / "virtual"
STATE = Path(os.environ.get("FARM_STATE", str(REPOSITORY / "var" / "virtual")))
VIRTUAL_ROOT = Path(os.environ.get("FARM_VIRTUAL_ROOT", "/var/lib/wheelfarm/virtual"))
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Project:
    """A project that PyPI has no riscv64 wheel of, for Python 3.13, and what to import of it."""

    requirement: str
    module: str


PROJECTS = (
    Project("pyyaml==6.0.3", "yaml._yaml"),  # C; a recipe brings libyaml's headers
    Project("cffi==2.1.1", "_cffi_backend"),  # C; libffi is vendored by auditwheel
    Project("xattr==1.3.0", "xattr._lib"),  # needs cffi to be built: it waits for the farm's own
    Project("msgspec==0.21.0", "msgspec._core"),  # C
    Project("httptools==0.7.1", "httptools.parser.parser"),  # Cython
    Project("ujson==6.1.0", "ujson"),  # C++
    Project("editdistpy==0.1.6", "editdistpy.levenshtein"),  # needs pkg_resources: a pinned setuptools
    Project("textual-speedups==0.2.1", "textual_speedups"),  # Rust, with crates from crates.io
)

console = Console(highlight=False, soft_wrap=True)


class StageError(Exception):
    """A stage failed; its own output says why."""


def digest(paths: Iterable[Path], *more: str) -> str:
    """Return the sha256 over files (folders: all files below), names included."""
    total = hashlib.sha256()
    for path in sorted(paths):
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                total.update(f"{file.name}\0".encode())
                total.update(file.read_bytes() if file.exists() else b"")
    for text in more:
        total.update(f"{text}\0".encode())
    return total.hexdigest()


def boards() -> str:
    """Return what changes when a virtual board is made anew or started again."""
    return digest([STATE / "ssh" / "known_hosts", *VIRTUAL_ROOT.glob("*/pid")])


def stage(name: str, inputs: Callable[[], str] | None, command: list[str]) -> float:
    """Run one stage unless its inputs are as when it last succeeded; returns seconds."""
    stamp = STATE / "demo" / name.replace(" ", "-")
    if inputs is not None and stamp.exists() and stamp.read_text(encoding="ascii") == inputs():
        console.print(f"[bold]== {name}[/]: still holds")
        return 0.0
    words = " ".join(Path(word).name if word.startswith("/") else word for word in command)
    console.print(f"[bold]== {name}[/]: {words}")
    began = time.monotonic()
    code = subprocess.run(command, check=False, cwd=REPOSITORY).returncode
    if code != 0:
        raise StageError(f"{name} ended with code {code}; mend what is shown above and run `make demo` again")
    if inputs is not None:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(inputs(), encoding="ascii")
    return time.monotonic() - began


def become_options(folder: Path) -> list[str]:
    """Ask for sudo's password once, where it wants one; Ansible's workers have no terminal to ask on."""
    if (
        os.geteuid() == 0
        or subprocess.run(["sudo", "-k", "-n", "true"], check=False, capture_output=True).returncode == 0
    ):
        return []
    file = folder / "become"
    file.touch(mode=0o600)
    file.write_text(getpass.getpass("sudo password: "), encoding="utf-8")
    return ["--become-password-file", str(file)]


def playbook(name: str, *options: str) -> list[str]:
    """Return the command that runs a playbook on the virtual boards."""
    return [
        str(BIN / "ansible-playbook"),
        "-i",
        str(INVENTORY),
        str(REPOSITORY / "playbooks" / name),
        *options,
    ]


def run(become: list[str]) -> None:
    """Run all stages and show the summary."""
    provisioning = [REPOSITORY / name for name in ("playbooks", "roles", "inventory", "recipes", "farm/node")]
    took = {
        "system packages": stage("system packages", None, playbook("controller.yml", *become)),
        "virtual boards": stage("virtual boards", None, playbook("virtual.yml", *become)),
        "provisioning": stage("provisioning", lambda: digest(provisioning, boards()), playbook("site.yml")),
        "builds": stage("builds", None, [str(BIN / "farm"), "dispatch", *(p.requirement for p in PROJECTS)]),
    }
    wanted = json.dumps(
        {
            "try_requirements": [project.requirement for project in PROJECTS],
            "try_modules": [project.module for project in PROJECTS],
        }
    )
    took["pip install"] = stage(
        "pip install on a clean system",
        lambda: digest([STATE / "index" / "simple"], boards(), wanted),
        playbook("try_wheels.yml", "--extra-vars", wanted),
    )
    summary(took, read_fleet(INVENTORY))


def summary(took: dict[str, float], fleet: Fleet) -> None:
    """Show what there is now, and what to do with it."""
    listing = subprocess.run(
        [str(BIN / "farm"), "status", "--json"], check=True, capture_output=True, text=True
    )
    builds = Table("built", "on", "took", "wheel", box=None, header_style="bold", pad_edge=False)
    for job in json.loads(listing.stdout):
        if job["state"] == "published":
            builds.add_row(
                f"{job['project']} {job['version']}", job["node"], duration(job["duration_s"]), job["wheel"]
            )
    console.print()
    console.print(builds)
    console.print("\nthis run: " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in took.items()))
    index = fleet.require_index()
    console.print(f"the index:     {index.url}/")
    console.print(f"try it:        pip install --index-url {index.simple_url} pyyaml  (riscv64, pip >= 24.1)")
    console.print(f"on the client: {client_shell()}")
    console.print("look around:   .venv/bin/farm status; .venv/bin/farm nodes; .venv/bin/farm dispatch NAME")
    console.print("tear it down:  make clean-demo")


def client_shell() -> str:
    """Return the command that opens a shell on the clean system."""
    prefix = os.environ.get("FARM_VIRTUAL_PREFIX", "127.0.30")
    ssh = STATE / "ssh"
    return f"ssh -i {ssh}/id_ed25519 -o UserKnownHostsFile={ssh}/known_hosts -p 2222 root@{prefix}.20"


def main() -> int:
    """Run the demo; an error is one line."""
    # The farm's own commands start Ansible's by name.
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    try:
        with tempfile.TemporaryDirectory() as private:
            run(become_options(Path(private)))
    except StageError as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; `make demo` goes on where it was")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
