"""Why a step of an attempt did not succeed."""

from __future__ import annotations

import re

TAIL_BYTES = 16 * 1024
# From a shell, 128 + SIGKILL.
KILLED_CODES = frozenset({-9, 137})
KILLED = re.compile(
    rb"Killed signal terminated program \w+"  # gcc's driver, of cc1plus
    rb"|fatal error: (?:\w+ terminated with signal 9|Killed)"  # collect2, of ld
    rb"|internal compiler error: Killed"
    rb"|signal: 9, SIGKILL: kill"  # cargo, of rustc
    rb"|\] Killed\b"  # make
    rb"|Out of memory: Killed process"
    rb"|oom[-_]kill"
    rb"|virtual memory exhausted"
    rb"|out of memory allocating \d+ bytes"
    rb"|LLVM ERROR: out of memory"
)
# bubblewrap itself, when the kernel gives it no namespaces (any more).
NO_SANDBOX = re.compile(rb"^bwrap: ", re.MULTILINE)
NO_NETWORK = re.compile(
    rb"Temporary failure in name resolution|Network is unreachable|[Cc]ould not resolve host"
    rb"|Name or service not known|dns error|failed to lookup address"
)
# auditwheel, of a library that a wheel needs and this board does not have.
NO_LIBRARY = re.compile(rb'required library "([\w.+-]{1,200})" could not be located')
NO_ROOM = re.compile(rb"No space left on device|Disk quota exceeded")


class StepError(Exception):
    """A step did not succeed; carries the failure class of the job."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


def classify(failure: str, code: int, tail: bytes) -> str:
    """Return why a command failed, by its exit code and the end of the log; ``failure`` where neither says.

    A compiler that the kernel killed says nothing of the project: it builds where there is more memory (F25).
    """
    if code in KILLED_CODES:
        return "memory"
    if NO_ROOM.search(tail) or (code == 1 and NO_SANDBOX.search(tail)):
        return "node"
    return "memory" if KILLED.search(tail) else failure
