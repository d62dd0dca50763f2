"""Brings each job's sdist to this controller; patient with a release that is not everywhere yet (F23)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.dispatch.lanes import Lane, Post
from farm.errors import FarmError, HashMismatchError, UpstreamError
from farm.estimate import read_features
from farm.requires import OrderedJob
from farm.store import Job

FETCHES: Final = 4
TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Source:
    """A job's sdist on this controller, and what it says of the order of builds."""

    sdist: Path
    ordered: OrderedJob

    @classmethod
    def of(cls, job: Job, sdist: Path) -> Source:
        """Read an sdist: seconds for a large one, so not in the thread that decides."""
        read_features(sdist)
        return cls(sdist, OrderedJob.of(job.spec, sdist))


class Sources:
    """Fetches several sdists at once; a job whose sdist can't be had fails alone."""

    def __init__(
        self,
        fetch: Callable[[Job], Path],
        *,
        post: Post,
        arrived: Callable[[str, Source], None],
        failed: Callable[[str, FarmError], None],
        note: Callable[[str], None],
    ) -> None:
        self._fetch = fetch
        self._arrived = arrived
        self._failed = failed
        self._note = note
        self._lane: Lane[str, Source] = Lane(FETCHES, post, self._done)
        self._tries: dict[str, int] = {}
        self._again_at: dict[str, float] = {}

    @property
    def busy(self) -> bool:
        """Whether an sdist is on its way or will be asked for again."""
        return bool(self._lane.busy or self._again_at)

    @property
    def due(self) -> bool:
        """Whether one is to be asked for again now."""
        return any(at <= time.monotonic() for at in self._again_at.values())

    def want(self, job: Job) -> None:
        """Fetch a job's sdist, unless it is not needed any more or is to be asked for later."""
        if not job.state.collected and self._again_at.get(job.job_id, 0.0) <= time.monotonic():
            self._again_at.pop(job.job_id, None)
            self._lane.send(job.job_id, lambda: Source.of(job, self._fetch(job)))

    def _done(self, job_id: str, answer: Source | FarmError) -> None:
        if isinstance(answer, Source):
            self._arrived(job_id, answer)
            return
        tries = self._tries[job_id] = self._tries.get(job_id, 0) + 1
        wait_s = again_s(answer, tries)
        if wait_s is None:
            self._failed(job_id, answer)
        else:
            self._again_at[job_id] = time.monotonic() + wait_s
            self._note(f"{job_id}: {answer.message}; trying again in {wait_s:.0f} s")

    def close(self) -> None:
        """Stop fetching."""
        self._lane.close()


def again_s(error: FarmError, tries: int) -> float | None:
    """Return after how many seconds an sdist is asked for again, or None where that is pointless.

    F23: an index announces a release before all its mirrors have the file. Other bytes are other bytes.
    """
    if not isinstance(error, UpstreamError) or isinstance(error, HashMismatchError) or tries >= TRIES:
        return None
    return float(2 ** (2 * tries - 1))
