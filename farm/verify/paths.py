"""Do a wheel's files land where they should, on any system that unpacks it? (pure)"""

from __future__ import annotations

import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from farm.verify.wheel import Archive, Member

_REBUILD: Final = "rebuild the wheel with the project's own backend"
_LINUX_ONLY: Final = "harmless on Linux; who unpacks it elsewhere gets other files"
_CONTROLS: Final = frozenset({"Cc", "Cf", "Cs"})
_LONGEST_NAME: Final = 255  # bytes, of most file systems
_KINDS: Final = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)


def judge_paths(archive: Archive, subject: str) -> tuple[Verdict, ...]:
    """Refuse paths that escape, can't be unpacked or occur twice, and what is no file.

    Names that only Windows or macOS can't tell apart are noted: a riscv64 wheel is not for these.
    """
    paths = [member.path for member in archive.members]
    folders = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
    counts = Counter(paths)
    wrong = [(path, f"occurs {count} times") for path, count in counts.items() if count > 1]
    for member in archive.members:
        wrong += [(member.path, why) for why in _problems(member, folders)]
    if wrong:
        return tuple(Verdict(Gate.PATHS, False, path, why, _REBUILD) for path, why in wrong)
    notes = (Verdict(Gate.PATHS, True, path, why, _LINUX_ONLY) for path, why in _elsewhere(paths))
    return (Verdict(Gate.PATHS, True, subject, f"{len(paths)} files, all inside"), *notes)


def _problems(member: Member, folders: set[str]) -> Iterator[str]:
    parts = member.path.split("/")
    # zipfile has cut names at NUL already; a backslash would be a separator on some unpackers
    drive = ":" in member.path.partition("/")[0]
    if member.path.startswith("/") or ".." in parts or "\\" in member.path or drive:
        yield "absolute or escaping path"
    elif "" in parts or "." in parts:
        yield "path is not in its plain form"
    if not member.path.isprintable() and _CONTROLS & set(map(unicodedata.category, member.path)):
        yield "path has control characters"
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in parts):
        yield f"a name is longer than {_LONGEST_NAME} bytes"
    if member.path in folders:
        yield "is a file and a folder"
    kind = stat.S_IFMT(member.mode)
    if kind not in {0, stat.S_IFREG}:
        yield f"is {_KINDS.get(kind, 'a device or something else')}, not a file"


def _elsewhere(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Yield names that clash, or mean devices, on Windows or macOS."""
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            yield path, f"differs from {other} by case or Unicode form only"
        elif any(part.partition(".")[0].lower() in _DEVICES for part in path.split("/")):
            yield path, "is the name of a device on Windows"
