"""What follows from a failed attempt. Pure: field-failures F21-F30 and DESIGN.md, "A job's life"."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from farm.store import Failure

NODE_TRIES: Final = 3
MEMORY_TRIES: Final = 3
# A build that fails in less was not really tried: a full disk fails everything at once (F21).
FAST_S: Final = 60.0
FAST_IN_A_ROW: Final = 3
MEMORY_STEP: Final = 2.0


class Then(Enum):
    """What happens to the job."""

    AGAIN = "again"
    FAIL = "fail"


def after(failure: Failure, so_far: Mapping[Failure, Mapping[str, int]]) -> Then:
    """Return what follows from an attempt that ended with ``failure``; ``so_far`` counts it already.

    `node`: elsewhere, so often that three bad nodes don't end a good job. `memory`: with more memory a task
    (see :func:`memory_factor`), so fewer tasks or a larger node. All others say something of the project or
    the request: they stay until the recipe, the toolchain or the version changes, or somebody says
    `farm retry` (F29).
    """
    tries = {Failure.NODE: NODE_TRIES, Failure.MEMORY: MEMORY_TRIES}.get(failure, 0)
    return Then.AGAIN if sum(so_far.get(failure, {}).values()) < tries else Then.FAIL


def memory_factor(so_far: Mapping[Failure, Mapping[str, int]]) -> float:
    """Return by how much a job needs more memory than was thought (F25)."""
    return float(MEMORY_STEP ** sum(so_far.get(Failure.MEMORY, {}).values()))


class Streak:
    """A node's fast failures in a row (F21): one success, or a failure that took its time, ends it.

    A doubted node stays so until then: what was running when it came to be doubted, and what it is given
    after its quarantine, is not held against the jobs either.
    """

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self._doubted = False

    def succeeded(self) -> None:
        """Take note of a build that ended well."""
        self.jobs.clear()
        self._doubted = False

    def failed(self, job_id: str, seconds: float, so_far: Mapping[Failure, Mapping[str, int]]) -> bool:
        """Take note of a failed build; returns whether the node, not ``jobs``, is to be blamed.

        A job that another node failed, too, says nothing against this one, unless that was that node's
        fault; and one that was given back so often that three bad nodes can't explain it says nothing, too.
        """
        failed_it = {node for failure in so_far if failure is not Failure.NODE for node in so_far[failure]}
        given_back = sum(so_far.get(Failure.NODE, {}).values())
        if seconds >= FAST_S:
            self.succeeded()
        elif len(failed_it) <= 1 and given_back < NODE_TRIES and job_id not in self.jobs:
            self.jobs.append(job_id)
        return len(self.jobs) >= (1 if self._doubted else FAST_IN_A_ROW)

    def blamed(self) -> tuple[str, ...]:
        """Hold the jobs so far against the node; returns them."""
        jobs = tuple(self.jobs)
        self.jobs.clear()
        self._doubted = True
        return jobs
