"""The sandbox of a build: bubblewrap around every command that runs strangers' code or reads what it made.

What is inside sees the system read-only, its own folders, a private /tmp, and no process but its own; no
other project's cache, no other job, nobody's home, no socket of the board's services, none of the farm's
settings. It has no privilege and can get none (bubblewrap sets PR_SET_NO_NEW_PRIVS). When the command ends,
the kernel ends all that it started. Memory, processes and time are limited by the unit around it (unit.py).

The supervisor stays outside. What it writes lies in folders that are never writable inside, and what it takes
from inside it takes by ``take``, so that no link which a build left leads it anywhere.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Provisioning installs it; tests have their own, or none.
PROGRAM = Path(os.environ.get("WHEELFARM_BWRAP", "/usr/bin/bwrap"))
NAME = "bubblewrap"
# Provisioning writes them; tests have their own.
SETTINGS = Path(os.environ.get("WHEELFARM_SETTINGS", "/etc/wheelfarm"))
# Homes and keys; /run has the sockets of services: the user's own systemd would run anything.
HIDDEN = ("/home", "/root", "/run", "/mnt", "/media", "/srv")
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  # a private one, in memory; TMPDIR is in the work folder
RESOLVER = Path("/etc/resolv.conf")
PROBE_S = 20


@dataclass(frozen=True)
class Room:
    """What one command may touch, besides the system's own files."""

    writable: tuple[Path, ...]
    readable: tuple[Path, ...] = ()
    """A writable folder may lie in a readable one."""
    network: bool = False


def command(argv: Sequence[str], cwd: Path, room: Room, root: Path) -> list[str]:
    """Return the command that runs ``argv`` in a sandbox; of ``root``, the node's folder, nothing is seen."""
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    # A build's user has none; where the farm's tests are root, the sandbox is not.
    options += ["--cap-drop", "ALL"]
    options += ["--share-net"] if room.network else []
    options += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    hidden = _there([*map(Path, HIDDEN), Path(pwd.getpwuid(os.getuid()).pw_dir), SETTINGS, root])
    temporary = _there(map(Path, TEMPORARY))
    for folder in sorted(hidden | temporary):  # outer ones first: they cover what is in them
        options += ["--tmpfs", str(folder)]
    if room.network and (resolver := RESOLVER.resolve()) != RESOLVER and resolver.exists():
        options += ["--ro-bind", str(resolver), str(resolver)]
    # A Python that is not the system's may be in somebody's home, and so may a checkout with this program.
    needed = (Path(sys.base_prefix), Path(__file__).resolve().parent)
    own = [path for path in needed if (hidden | temporary) & set(path.parents)]
    for path in (*own, *room.readable):
        options += ["--ro-bind", str(path), str(path)]
    for path in room.writable:
        options += ["--bind", str(path), str(path)]
    for folder in sorted(hidden):
        options += ["--remount-ro", str(folder)]
    return [str(PROGRAM), *options, "--chdir", str(cwd), "--", *argv]


def _there(folders: Iterable[Path]) -> set[Path]:
    return {path.resolve() for path in folders if path.is_dir()} - {Path("/")}


def why_not(root: Path) -> str:
    """Return why builds can't run in a sandbox on this board, in one line; empty if they can.

    It is tried, with the very options of a build.
    """
    if not PROGRAM.exists():
        return f"{NAME} is not installed"
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".selftest.") as name:
            folder = Path(name).resolve()
            done = subprocess.run(
                command(["/bin/sh", "-c", ": >made"], folder, Room((folder,)), root.resolve()),
                check=False,
                capture_output=True,
                timeout=PROBE_S,
            )
            made = (folder / "made").exists()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    if not done.returncode and made:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
    return f"{PROGRAM.name} ended with code {done.returncode}: {said[-1][:200]}"


@functools.cache
def version() -> str:
    """Return the sandbox's name and version, as a wheel's record has it."""
    done = subprocess.run([str(PROGRAM), "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def take(folder: Path, suffix: str, target: Path) -> list[Path]:
    """Copy the files of ``folder``, which a sandbox left, whose names end so; no link is followed.

    Nothing of the sandbox may run any more.

    Raises:
        OSError: ``folder`` is no folder, or one of these is no regular file.
    """
    target.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        names = sorted(name for name in os.listdir(opened) if name.endswith(suffix))  # noqa: PTH208
        return [_take(opened, name, target / name) for name in names]
    finally:
        os.close(opened)


def _take(folder: int, name: str, target: Path) -> Path:
    # Not blocking: it may be a pipe that nobody writes to.
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise OSError(f"{name} is no regular file")
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return target


def write_new(path: Path, text: str) -> None:
    """Write a file where a build may have left anything under its name: no link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    number, partial = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    Path(partial).replace(path)
