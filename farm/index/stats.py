#!/usr/bin/python3
"""How often what was downloaded, from the index host's log, as ``stats/*.json``.

    stats.py --log /var/log/wheelfarm/index.log --state /var/lib/wheelfarm-stats/state.json --out ROOT/stats

It runs on the index host, by a timer, as this one file: standard library only. The log has no addresses, so
none can be kept. A download is a wheel that was sent whole. Its client is believed as far as it names an
installer, a Python and a machine that exist; all else is counted as "other", so that nobody can fill the disk
with names. Counts and how far each log file was read are one file, written whole: what is killed counts
nothing twice. Where a log was rotated or compressed meanwhile, it is known by its first line.

``total.json`` has all, ``days/DATE.json`` one day, ``recent.json`` the last whole days together: of these the
farm makes its web pages.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, Final

KEPT_DAYS: Final = 400
RECENT_DAYS: Final = 30
MOST_NAMES: Final = 300
"""Of pythons, installers or machines; what comes after is "other"."""
OTHER: Final = "other"
_LONGEST_LINE: Final = 1 << 20
_LONGEST_AGENT: Final = 8192
_WHEEL: Final = re.compile(
    r"/packages/(?P<project>[a-z0-9]+(?:-[a-z0-9]+)*)/[A-Za-z0-9._]+-(?P<version>[A-Za-z0-9._+!]+)"
    r"(?:-[0-9][A-Za-z0-9._]*)?-[A-Za-z0-9._]+-[A-Za-z0-9._]+-[A-Za-z0-9._]+\.whl"
)
_AGENT: Final = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9._-]{0,30})/(?P<version>[0-9]{1,4}(?:\.[0-9]{1,4})?)?"
)
_PYTHON: Final = re.compile(r"(?:2\.7|3\.[0-9]{1,2})(?=$|[.+a-z])")
# poetry and pdm have no JSON: "poetry/2.1.1 CPython/3.13.5 Linux/6.12", "pdm/2.22 ... CPython/3.13".
_CPYTHON: Final = re.compile(r"(?:CPython|PyPy|GraalVM)/(\S{1,20})", re.IGNORECASE)
_INSTALLERS: Final = frozenset(
    {"pip", "uv", "poetry", "pdm", "pipenv", "pex", "hatch", "conda", "rye", "pixi", "bazel"}
)
_MACHINES: Final = frozenset(
    {
        "riscv64",
        "x86_64",
        "aarch64",
        "arm64",
        "armv7l",
        "armv6l",
        "i686",
        "ppc64le",
        "s390x",
        "loongarch64",
        "AMD64",
    }
)


@dataclass(frozen=True, slots=True)
class Client:
    """What a user agent says of itself, as far as it is believed."""

    installer: str = OTHER
    python: str = OTHER
    machine: str = OTHER


@dataclass(frozen=True, slots=True)
class Download:
    """One wheel that was sent whole; ``day`` is UTC's, as ISO 8601 writes it."""

    day: str
    project: str
    version: str
    client: Client


def read_agent(agent: str) -> Client:
    """Read a user agent of pip, uv, poetry or pdm; anything else is "other"."""
    head = _AGENT.match(agent)
    if head is None or len(agent) > _LONGEST_AGENT or head["name"].lower() not in _INSTALLERS:
        return Client()
    installer = " ".join(part for part in (head["name"].lower(), head["version"]) if part)
    begin = agent.find("{")
    facts: object = None
    if begin >= 0:
        with suppress(ValueError, RecursionError):
            facts = json.loads(agent[begin:])
    if not isinstance(facts, dict):
        found = _CPYTHON.search(agent)
        return Client(installer, _python(found[1] if found else ""))
    machine = facts.get("cpu")
    known = isinstance(machine, str) and machine in _MACHINES
    return Client(installer, _python(facts.get("python")), str(machine) if known else OTHER)


def _python(text: object) -> str:
    found = _PYTHON.match(text) if isinstance(text, str) else None
    return found[0] if found else OTHER


def read_line(line: bytes) -> Download | None:
    """Read one line of the log; None for whatever is no download of a wheel, or no line of the log."""
    try:
        record = json.loads(line.decode("utf-8", "replace"))
        if (record["method"], record["status"], record["completed"]) != ("GET", 200, "OK"):
            return None
        found = _WHEEL.fullmatch(record["uri"])
        if found is None:
            return None
        day = datetime.fromisoformat(record["time"]).astimezone(timezone.utc).date().isoformat()  # noqa: UP017
        return Download(day, found["project"], found["version"], read_agent(record["agent"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


@dataclass(slots=True)
class Counts:
    """Downloads by what was downloaded and by whom."""

    downloads: int = 0
    projects: dict[str, dict[str, int]] = field(default_factory=dict)
    """By project and version."""
    pythons: dict[str, int] = field(default_factory=dict)
    installers: dict[str, int] = field(default_factory=dict)
    machines: dict[str, int] = field(default_factory=dict)

    def add(self, download: Download) -> None:
        """Count one more."""
        self.downloads += 1
        _add(self.projects.setdefault(download.project, {}), download.version)
        client = download.client
        for names, name in (
            (self.pythons, client.python),
            (self.installers, client.installer),
            (self.machines, client.machine),
        ):
            _add(names, name if name in names or len(names) < MOST_NAMES else OTHER)

    def add_all(self, more: Counts) -> None:
        """Add what was counted elsewhere."""
        self.downloads += more.downloads
        for project, versions in more.projects.items():
            _add_all(self.projects.setdefault(project, {}), versions)
        _add_all(self.pythons, more.pythons)
        _add_all(self.installers, more.installers)
        _add_all(self.machines, more.machines)

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "downloads": self.downloads,
            "projects": self.projects,
            "pythons": self.pythons,
            "installers": self.installers,
            "machines": self.machines,
        }


def _add(names: dict[str, int], name: str, number: int = 1) -> None:
    names[name] = names.get(name, 0) + number


def _add_all(names: dict[str, int], more: dict[str, int]) -> None:
    for name, number in more.items():
        _add(names, name, number)


@dataclass(slots=True)
class State:
    """All that was counted, and how far each log file was read, by a digest of its first line."""

    total: Counts = field(default_factory=Counts)
    days: dict[str, Counts] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Read what the last run left; a first run begins with nothing."""
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls()
        days = {day: Counts(**counts) for day, counts in content["days"].items()}
        return cls(Counts(**content["total"]), days, content["read"])

    def save(self, path: Path) -> None:
        """Write it whole."""
        days = {day: counts.as_json() for day, counts in self.days.items()}
        write_whole(path, {"total": self.total.as_json(), "days": days, "read": self.read})

    def count(self, download: Download) -> None:
        """Count one more."""
        self.total.add(download)
        self.days.setdefault(download.day, Counts()).add(download)

    def forget_old_days(self) -> None:
        """Keep the last days, and the total for ever."""
        if self.days:
            last = datetime.fromisoformat(max(self.days))
            oldest = (last - timedelta(days=KEPT_DAYS)).date().isoformat()
            self.days = {day: counts for day, counts in self.days.items() if day >= oldest}


def log_files(log: Path) -> list[Path]:
    """Return a log and its rotated predecessors, the oldest first: ``log.2.gz``, ``log.1``, ``log``."""
    pattern = re.compile(re.escape(log.name) + r"\.([0-9]{1,4})(?:\.gz)?")
    older = [
        (int(found[1]), path) for path in log.parent.iterdir() if (found := pattern.fullmatch(path.name))
    ]
    return [path for _, path in sorted(older, reverse=True)] + ([log] if log.exists() else [])


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines; an endless one is passed over, one that is still being written is left for later."""
    while line := stream.readline(_LONGEST_LINE):
        if line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_LONGEST_LINE)
        if not line:
            return


def read_file(path: Path, state: State) -> str | None:
    """Count what was added to a log file since it was read; return the digest of its first line, if any."""
    with _open(path) as stream:
        first = next(lines(stream), None)
        if first is None:
            return None
        digest = hashlib.sha256(first).hexdigest()
        at = state.read.get(digest, 0)
        stream.seek(at)
        for line in lines(stream):
            download = read_line(line)
            if download is not None:
                state.count(download)
            at = stream.tell()
        state.read[digest] = at
    return digest


def count(log: Path, state: State) -> None:
    """Count what was added to a log and its predecessors; forget what is not there any more."""
    present = [read_file(path, state) for path in log_files(log)]
    state.read = {digest: at for digest, at in state.read.items() if digest in present}
    state.forget_old_days()


def recent(state: State, today: date) -> dict[str, object] | None:
    """Return the last whole days before ``today`` (UTC) together, at most :data:`RECENT_DAYS`.

    Only days since the first count are among them. None where none is over: part of a day says nothing.
    """
    if not state.days:
        return None
    first = max(date.fromisoformat(min(state.days)), today - timedelta(days=RECENT_DAYS))
    days = [(first + timedelta(days=after)).isoformat() for after in range((today - first).days)]
    if not days:
        return None
    together = Counts()
    for day in days:
        together.add_all(state.days.get(day, Counts()))
    by_day = {day: state.days.get(day, Counts()).downloads for day in days}
    return {"days": by_day, **together.as_json()}


def publish(state: State, out: Path, today: date) -> None:
    """Write what changed of the files that are served."""
    write_whole(out / "total.json", {"days": sorted(state.days), **state.total.as_json()})
    lately = recent(state, today)
    if lately is not None:
        write_whole(out / "recent.json", lately)
    for day, counts in state.days.items():
        write_whole(out / "days" / f"{day}.json", {"day": day, **counts.as_json()})
    for path in (out / "days").glob("*.json"):
        if path.stem not in state.days:
            path.unlink()


def write_whole(path: Path, content: object) -> None:
    """Write JSON as a whole or not at all, unless it is there already."""
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def main() -> int:
    """Run once; the timer's journal has what went wrong."""
    parser = argparse.ArgumentParser(description="Counts the downloads of an index from its log.")
    parser.add_argument("--log", type=Path, required=True, help="the log that nginx writes")
    parser.add_argument("--state", type=Path, required=True, help="file of what was counted until now")
    parser.add_argument("--out", type=Path, required=True, help="folder that is served")
    options = parser.parse_args()
    try:
        state = State.load(options.state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"error: {options.state}: not what was counted ({error})\n")
        sys.stderr.write("  fix: move it away; what is still in the logs is then counted anew\n")
        return 1
    try:
        count(options.log, state)
        state.save(options.state)
        publish(state, options.out, datetime.now(timezone.utc).date())  # noqa: UP017
    except (OSError, EOFError) as error:
        sys.stderr.write(
            f"error: {error}\n  fix: see that this user may read the log and write the other two\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
