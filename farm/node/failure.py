"""Why a step of a build did not succeed."""

from __future__ import annotations


class StepError(Exception):
    """A step of the build did not succeed; carries the failure class of the job."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure
