"""This machine: programs, packages, disk, clock, and the farm's state."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from farm.doctor.model import Check, fail, judge_space, ok, warn
from farm.paths import Paths
from farm.provenance.key import signing_key
from farm.store import Job, State, lock_holder
from farm.store.schema import STEPS

PROGRAMS: Final = {
    "rsync": "apt-get install rsync",
    "ssh": "apt-get install openssh-client",
    "ssh-keygen": "apt-get install openssh-client",
    "ansible-playbook": "make venv",
    "ansible-inventory": "make venv",
}
DISTRIBUTION: Final = "wheel-farm"

_SYSTEMD: Final = Path("/run/systemd/system")
_ASK_S: Final = 20.0


def programs(which: Callable[[str], str | None] = shutil.which) -> Iterator[Check]:
    """Check that what `farm` calls is there."""
    missing = [name for name in PROGRAMS if which(name) is None]
    if missing:
        hints = dict.fromkeys(PROGRAMS[name] for name in missing)
        yield fail("controller: programs", f"not there: {', '.join(missing)}", "; ".join(hints))
    else:
        yield ok("controller: programs", ", ".join(PROGRAMS))


def packages(
    wanted: Sequence[str] | None = None, version: Callable[[str], str] = metadata.version
) -> Iterator[Check]:
    """Check that the Python packages that pyproject.toml asks for are installed, in versions it allows."""
    texts = metadata.requires(DISTRIBUTION) or () if wanted is None else wanted
    needed = [need for need in map(Requirement, texts) if need.marker is None or need.marker.evaluate()]
    wrong = []
    for need in needed:
        try:
            found = version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is not there")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, not {need.specifier}")
    if wrong:
        yield fail("controller: packages", "; ".join(wrong), "make venv")
    else:
        yield ok("controller: packages", f"{len(needed)} as pyproject.toml wants them")


def disk(folder: Path, free: Callable[[Path], int] | None = None) -> Iterator[Check]:
    """Check the space where the state is kept."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    space = free(there) if free else shutil.disk_usage(there).free
    hint = "move the state to a larger disk (--state), or remove old folders in sdists/ and logs/"
    yield judge_space("controller: disk", space, str(folder), hint)


def clock(systemd: Path = _SYSTEMD) -> Iterator[Check]:
    """Check that something keeps the clock; where systemd does not run, nodes and index are compared only."""
    if not systemd.exists() or shutil.which("timedatectl") is None:
        yield ok("controller: clock", "no systemd here to ask; see the nodes' and the index's clocks")
        return
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ASK_S)
    yield clock_said(done.stdout.strip())


def clock_said(answer: str) -> Check:
    """Judge what timedatectl says (pure)."""
    if answer == "yes":
        return ok("controller: clock", "synchronised by NTP")
    return warn(
        "controller: clock", "not synchronised", "timedatectl set-ntp true, or install systemd-timesyncd"
    )


def state(paths: Paths) -> Iterator[Check]:
    """Check that the state folder is this user's, and nobody else may write there."""
    name, folder = "controller: state", paths.state
    if not folder.is_dir():
        yield ok(name, f"{folder} does not exist yet; `farm dispatch` makes it")
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        hint = f"run `farm` as that user, or: chown -R {os.geteuid()} {folder}"
        yield fail(name, f"{folder} belongs to user {found.st_uid}, not {os.geteuid()}", hint)
    elif stat.S_IMODE(found.st_mode) & 0o022:
        hint = f"chmod go-w {folder}"
        yield fail(name, f"{folder}: others may write there, so replace the signing key", hint)
    else:
        yield ok(name, f"{folder}, mode {stat.S_IMODE(found.st_mode):o}")


def signing(paths: Paths) -> Iterator[Check]:
    """Check the key that signs provenance, without making one."""
    path = paths.signing_key
    if not path.exists():
        yield ok("controller: signing key", "none yet; the first dispatch makes it")
        return
    signing_key(path)  # raises, with the fix
    yield ok("controller: signing key", f"{path}, readable by its owner only; is there a backup?")


def database(paths: Paths) -> Iterator[Check]:
    """Check that the database is whole and of this version of the farm."""
    name, path = "controller: database", paths.database
    if not path.exists():
        yield ok(name, "none yet")
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        answer, version = str(error), 0
    if answer != "ok":
        hint = f"restore {path} from a backup, or move it away: what is published is known from the index"
        yield fail(name, f"{path}: {answer}", hint)
    elif version > len(STEPS):
        yield fail(
            name, f"a newer farm wrote it (tables {version}, not {len(STEPS)})", "update this checkout"
        )
    else:
        yield ok(name, f"whole, {path.stat().st_size >> 10} KiB")


def queue(paths: Paths, jobs: Sequence[Job]) -> Iterator[Check]:
    """Check that somebody works on what is queued."""
    left = [job for job in jobs if not job.state.ended]
    if not paths.state.is_dir():
        yield ok("controller: dispatch", "nothing was ever dispatched")
        return
    if (pid := lock_holder(paths.lock)) is not None:
        yield ok("controller: dispatch", f"pid {pid} is at work; {len(left)} jobs are not done")
    else:
        yield _idle(left)


def _idle(left: Sequence[Job]) -> Check:
    name = "controller: dispatch"
    if not left:
        return ok(name, "none runs, and nothing is queued")
    counts: Mapping[State, int] = {state: sum(job.state is state for job in left) for state in State}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return warn(name, f"none runs, although jobs wait: {said}", "farm dispatch")
