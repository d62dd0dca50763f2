"""Durable state of the farm: jobs, their attempts and what was published (SQLite in WAL mode).

Every change is its own transaction, written before the effect it announces: an attempt is in the store
before the node hears of it, so that a controller killed at any moment finds it again.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from farm.errors import BusyError, InputError
from farm.plan import JobSpec
from farm.recipe import Recipe


class State(StrEnum):
    """Where a job is in its life; see docs/architecture.md."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    BUILT = "built"
    VERIFIED = "verified"
    PUBLISHED = "published"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in {State.PUBLISHED, State.FAILED}


class Failure(StrEnum):
    """Why a job failed, and so what is done about it."""

    NODE = "node"
    TIMEOUT = "timeout"
    SOURCE = "source"
    BUILD = "build"
    ISA = "isa"
    POLICY = "policy"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it. Times are seconds since the epoch."""

    spec: JobSpec
    state: State
    attempt: int
    node: str | None
    failure: Failure | None
    message: str
    queued_at: float
    started_at: float | None
    ended_at: float | None
    wheel: str | None
    wheel_sha256: str | None

    @property
    def job_id(self) -> str:
        """The job's name."""
        return self.spec.job_id

    @property
    def attempt_id(self) -> str:
        """The name of the current attempt's directory on the node."""
        return f"{self.spec.job_id}.{self.attempt}"

    @property
    def duration_s(self) -> float | None:
        """Wall time of the last attempt, from lease to end, in seconds."""
        if self.started_at is None:
            return None
        return (self.ended_at or time.time()) - self.started_at


SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    job_id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    node TEXT,
    failure TEXT,
    message TEXT NOT NULL DEFAULT '',
    queued_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    wheel TEXT,
    wheel_sha256 TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS attempt (
    job_id TEXT NOT NULL REFERENCES job,
    attempt INTEGER NOT NULL,
    node TEXT NOT NULL,
    leased_at REAL NOT NULL,
    ended_at REAL,
    failure TEXT,
    result TEXT,
    PRIMARY KEY (job_id, attempt)
) STRICT;
"""


class Store:
    """The farm's database; used by one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def enqueue(self, spec: JobSpec) -> Job:
        """Queue a job, or return the one that is there; a failed one is queued again (F29)."""
        with self._transaction():
            row = self._db.execute("SELECT state FROM job WHERE job_id = ?", (spec.job_id,)).fetchone()
            if row is None:
                self._db.execute(
                    "INSERT INTO job (job_id, spec, state, queued_at) VALUES (?, ?, ?, ?)",
                    (spec.job_id, _spec_to_json(spec), State.QUEUED, time.time()),
                )
            elif row["state"] == State.FAILED:
                self._db.execute(
                    "UPDATE job SET state = ?, failure = NULL, message = '', node = NULL, started_at = NULL,"
                    " ended_at = NULL, queued_at = ? WHERE job_id = ?",
                    (State.QUEUED, time.time(), spec.job_id),
                )
        return self.job(spec.job_id)

    def job(self, job_id: str) -> Job:
        """Return a job by its name, or by a beginning of it that fits one job only.

        Raises:
            InputError: no job fits, or several do.
        """
        exact = self._db.execute("SELECT * FROM job WHERE job_id = ?", (job_id,)).fetchall()
        prefix = job_id.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = (
            exact
            or self._db.execute(
                "SELECT * FROM job WHERE job_id LIKE ? ESCAPE '\\' ORDER BY queued_at", (prefix,)
            ).fetchall()
        )
        if not rows:
            raise InputError(f"{job_id}: no such job", hint="`farm status` lists all jobs")
        if len(rows) > 1:
            names = ", ".join(row["job_id"] for row in rows[:5])
            raise InputError(f"{job_id}: {len(rows)} jobs begin so: {names}", hint="give more of the name")
        return _job(rows[0])

    def jobs(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return [_job(row) for row in self._db.execute("SELECT * FROM job ORDER BY queued_at, job_id")]

    def result(self, job_id: str) -> dict[str, object]:
        """Return what the node said of the job's last attempt that ended there; empty if none did."""
        row = self._db.execute(
            "SELECT result FROM attempt WHERE job_id = ? AND result IS NOT NULL ORDER BY attempt DESC",
            (job_id,),
        ).fetchone()
        content: dict[str, object] = json.loads(row["result"]) if row else {}
        return content

    def lease(self, job_id: str, node: str) -> Job:
        """Write down the next attempt on ``node``; done before the node hears of it."""
        now = time.time()
        with self._transaction():
            self._db.execute(
                "UPDATE job SET state = ?, attempt = attempt + 1, node = ?, started_at = ?, ended_at = NULL,"
                " failure = NULL, message = '' WHERE job_id = ?",
                (State.LEASED, node, now, job_id),
            )
            self._db.execute(
                "INSERT INTO attempt (job_id, attempt, node, leased_at)"
                " SELECT job_id, attempt, node, ? FROM job WHERE job_id = ?",
                (now, job_id),
            )
        return self.job(job_id)

    def advance(self, job_id: str, state: State) -> Job:
        """Move a job on to ``state``."""
        ended = time.time() if state.ended else None
        self._db.execute(
            "UPDATE job SET state = ?, ended_at = COALESCE(ended_at, ?) WHERE job_id = ?",
            (state, ended, job_id),
        )
        return self.job(job_id)

    def built(self, job_id: str, wheel: str, sha256: str, result: str) -> Job:
        """Write down that the controller holds the wheel."""
        with self._transaction():
            self._db.execute(
                "UPDATE job SET state = ?, wheel = ?, wheel_sha256 = ?, ended_at = ? WHERE job_id = ?",
                (State.BUILT, wheel, sha256, time.time(), job_id),
            )
            self._end_attempt(job_id, None, result)
        return self.job(job_id)

    def fail(self, job_id: str, failure: Failure, message: str, result: str | None = None) -> Job:
        """End a job as failed."""
        with self._transaction():
            self._db.execute(
                "UPDATE job SET state = ?, failure = ?, message = ?, ended_at = ? WHERE job_id = ?",
                (State.FAILED, failure, message, time.time(), job_id),
            )
            self._end_attempt(job_id, failure, result)
        return self.job(job_id)

    def requeue(self, job_id: str, message: str) -> Job:
        """Give a job back to the queue: its node failed it, or its wheel is gone (no node's fault)."""
        with self._transaction():
            if self.job(job_id).state in {State.LEASED, State.RUNNING}:
                self._end_attempt(job_id, Failure.NODE, None)
            self._db.execute(
                "UPDATE job SET state = ?, node = NULL, message = ?, started_at = NULL, ended_at = NULL,"
                " wheel = NULL, wheel_sha256 = NULL WHERE job_id = ?",
                (State.QUEUED, message, job_id),
            )
        return self.job(job_id)

    def failed_on(self, job_id: str) -> dict[str, int]:
        """Return how often each node itself failed this job since it was last asked for."""
        rows = self._db.execute(
            "SELECT attempt.node AS node, count(*) AS times FROM attempt JOIN job USING (job_id)"
            " WHERE job_id = ? AND attempt.failure = ? AND leased_at >= queued_at GROUP BY attempt.node",
            (job_id, Failure.NODE),
        )
        return {row["node"]: row["times"] for row in rows}

    def _end_attempt(self, job_id: str, failure: Failure | None, result: str | None) -> None:
        self._db.execute(
            "UPDATE attempt SET ended_at = ?, failure = ?, result = ? WHERE job_id = ?"
            " AND attempt = (SELECT attempt FROM job WHERE job.job_id = attempt.job_id)",
            (time.time(), failure, result, job_id),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@contextmanager
def controller_lock(path: Path) -> Iterator[None]:
    """Hold the farm for one controller; the kernel frees it when the process ends, however it ends.

    Raises:
        BusyError: another process holds it; with its pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise BusyError(
                f"another `farm dispatch` (pid {lock.read().strip()}) holds {path.parent}",
                hint="wait for it, or watch it with `farm status`",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _spec_to_json(spec: JobSpec) -> str:
    content = {**asdict(spec), "recipe": spec.recipe.model_dump()}
    return json.dumps(content)


def _spec_from_json(text: str) -> JobSpec:
    content = json.loads(text)
    return JobSpec(**{**content, "recipe": Recipe.model_validate(content["recipe"])})


def _job(row: sqlite3.Row) -> Job:
    return Job(
        spec=_spec_from_json(row["spec"]),
        state=State(row["state"]),
        attempt=row["attempt"],
        node=row["node"],
        failure=Failure(row["failure"]) if row["failure"] else None,
        message=row["message"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        wheel=row["wheel"],
        wheel_sha256=row["wheel_sha256"],
    )
