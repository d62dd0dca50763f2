"""What the last try found, on disk, and what is new since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from farm.errors import InputError
from farm.files import write_file
from farm.tryout.run import Fate, Tried

_AGAIN = "remove it; the next `farm index try` writes it anew"


@dataclass(frozen=True, slots=True)
class Report:
    """One try of all that is hosted. ``tried_at`` is ISO 8601, in UTC.

    Attributes:
        results: each project with each pip.
        new: what is broken now and was not before, as ``PROJECT PIP``.
        mended: what was broken before and is well now.
    """

    tried_at: str
    results: tuple[Tried, ...]
    new: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()

    @property
    def broken(self) -> list[Tried]:
        """What users can't use."""
        return [it for it in self.results if it.broken]

    def to_json(self) -> dict[str, object]:
        """Return it for programs, and for the file."""
        return asdict(self)


def compared(before: Report | None, results: Sequence[Tried], now: float) -> Report:
    """Return the report of a try, after the last one (pure). ``now`` is in seconds since the epoch."""
    known = {_key(it): it for it in (before.results if before else ())}
    new, mended = [], []
    for it in results:
        was = known.get(_key(it))
        if it.broken and not (was is not None and was.broken):
            new.append(_key(it))
        elif it.fate is Fate.WELL and was is not None and was.broken:
            mended.append(_key(it))
    at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Report(at, tuple(results), tuple(new), tuple(mended))


def remembered(before: Report | None, report: Report, *, whole: bool) -> Report:
    """Return what goes into the file (pure).

    Where nothing could be found out, what was broken stays so; where not the ``whole`` index was tried, what
    was known of the rest stays known.
    """
    known = {_key(it): it for it in (before.results if before else ())}
    kept = {
        _key(it): known[_key(it)]
        if it.fate is Fate.UNTRIED and _key(it) in known and known[_key(it)].broken
        else it
        for it in report.results
    }
    results = kept if whole else known | kept
    return Report(report.tried_at, tuple(results.values()), report.new, report.mended)


def _key(it: Tried) -> str:
    return f"{it.project} {it.asked}"


def load(path: Path) -> Report | None:
    """Read the last report; None where there is none.

    Raises:
        InputError: the file makes no sense.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(Tried(**{**it, "fate": Fate(it["fate"])}) for it in content["results"])
        datetime.fromisoformat(content["tried_at"])
        return Report(content["tried_at"], results, tuple(content["new"]), tuple(content["mended"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: can't be read: {error}", hint=_AGAIN) from error


def save(path: Path, before: Report | None, report: Report, *, whole: bool) -> None:
    """Write a report for the next try.

    Raises:
        InputError: it can't be written.
    """
    text = json.dumps(remembered(before, report, whole=whole).to_json(), indent=1)
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise InputError(
            f"{path}: can't be written: {error.strerror}", hint="free some space there"
        ) from error
