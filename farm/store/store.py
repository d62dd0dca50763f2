"""Jobs, their attempts, marks on nodes and runs, each change its own transaction.

A change is written before the effect it announces: an attempt is in the store before the node hears of it, so
that a controller killed at any moment finds it again. Other processes (`farm cancel`, a second
`farm dispatch`) write to the same database; :meth:`Store.changed_elsewhere` says when they did.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from farm.errors import InputError
from farm.plan import JobSpec
from farm.schedule.widths import Widths
from farm.store.model import Attempt, Failure, Job, Mark, NodeMark, Run, State
from farm.store.schema import migrate
from farm.store.spec import spec_from_json, spec_to_json

ENDED: Final = (State.PUBLISHED, State.FAILED)


class Store:
    """The farm's database; used by one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        migrate(self._db)
        self._seen = self._data_version()
        self._specs: dict[str, JobSpec] = {}

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def changed_elsewhere(self) -> bool:
        """Return whether another process wrote since this was last asked."""
        before, self._seen = self._seen, self._data_version()
        return before != self._seen

    # -- jobs -------------------------------------------------------------------------------------------

    def enqueue(self, spec: JobSpec) -> Job:
        """Queue a job, or return the one that is there; a failed one is queued again (F29)."""
        with self._transaction():
            row = self._db.execute("SELECT state, spec FROM job WHERE job_id = ?", (spec.job_id,)).fetchone()
            if row is None:
                self._db.execute(
                    "INSERT INTO job (job_id, spec, state, queued_at) VALUES (?, ?, ?, ?)",
                    (spec.job_id, spec_to_json(spec), State.QUEUED, time.time()),
                )
                return self.job(spec.job_id)
            # What does not change the build may have been edited in its recipe: where it may run, say.
            spec = replace(spec, build_tag=self._spec(row["spec"]).build_tag)
            self._db.execute("UPDATE job SET spec = ? WHERE job_id = ?", (spec_to_json(spec), spec.job_id))
            if row["state"] == State.FAILED:
                self._queue_again(spec.job_id)
        return self.job(spec.job_id)

    def retag(self, job_id: str, build_tag: str) -> Job:
        """Write down the build tag that a job's next attempt is to build with."""
        with self._transaction():
            spec = replace(self.job(job_id).spec, build_tag=build_tag)
            self._db.execute("UPDATE job SET spec = ? WHERE job_id = ?", (spec_to_json(spec), job_id))
        return self.job(job_id)

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again.

        Raises:
            InputError: it did not fail.
        """
        with self._transaction():
            state = self.job(job_id).state
            if state is not State.FAILED:
                raise InputError(f"{job_id}: it is {state}", hint="only a failed job can be tried again")
            self._queue_again(job_id)
        return self.job(job_id)

    def cancel(self, job_id: str) -> Job:
        """End a job that no node has; of one that a node has, write down that it is to be ended.

        Raises:
            InputError: it ended already.
        """
        with self._transaction():
            state = self.job(job_id).state
            if state.ended:
                raise InputError(f"{job_id}: it is {state}", hint="there is nothing to cancel")
            if state.on_node:
                self._db.execute("UPDATE job SET cancelling = 1 WHERE job_id = ?", (job_id,))
            else:
                self._fail(job_id, Failure.CANCELLED, "cancelled before it ran", None)
        return self.job(job_id)

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
        return self._job(rows[0])

    def jobs(self, *, ended: bool = True) -> list[Job]:
        """Return all jobs, oldest first; without those that ended if ``ended`` is false."""
        where = "" if ended else f"WHERE state NOT IN ('{ENDED[0]}', '{ENDED[1]}')"
        return [
            self._job(row)
            for row in self._db.execute(f"SELECT * FROM job {where} ORDER BY queued_at, job_id")  # noqa: S608  # constants
        ]

    def lease(self, job_id: str, node: str, width: int) -> Job:
        """Write down the next attempt on ``node``; done before the node hears of it."""
        now = time.time()
        with self._transaction():
            self._db.execute(
                "UPDATE job SET state = ?, attempt = attempt + 1, node = ?, width = ?, widened = '[]',"
                " started_at = ?, ended_at = NULL, failure = NULL, message = '' WHERE job_id = ?",
                (State.LEASED, node, width, now, job_id),
            )
            self._db.execute(
                "INSERT INTO attempt (job_id, attempt, node, width, leased_at)"
                " SELECT job_id, attempt, node, width, ? FROM job WHERE job_id = ?",
                (now, job_id),
            )
        return self.job(job_id)

    def widen(self, job_id: str, width: int) -> Job:
        """Write down that a job's running attempt may run more tasks from now on."""
        with self._transaction():
            job = self.job(job_id)
            widths = job.widths.widened(max(0.0, time.time() - (job.started_at or 0.0)), width)
            changes = json.dumps(widths.changes)
            self._db.execute("UPDATE job SET widened = ? WHERE job_id = ?", (changes, job_id))
            self._db.execute(
                "UPDATE attempt SET widened = ? WHERE job_id = ? AND attempt = ?",
                (changes, job_id, job.attempt),
            )
        return self.job(job_id)

    def advance(self, job_id: str, state: State) -> Job:
        """Move a job on to ``state``."""
        ended = time.time() if state.ended else None
        self._db.execute(
            "UPDATE job SET state = ?, failure = NULL, ended_at = COALESCE(ended_at, ?) WHERE job_id = ?",
            (state, ended, job_id),
        )
        return self.job(job_id)

    def built(self, job_id: str, wheel: str, sha256: str, result: str) -> Job:
        """Write down that the controller holds the wheel."""
        with self._transaction():
            self._db.execute(
                "UPDATE job SET state = ?, wheel = ?, wheel_sha256 = ?, ended_at = ?, cancelling = 0"
                " WHERE job_id = ?",
                (State.BUILT, wheel, sha256, time.time(), job_id),
            )
            self._end_attempt(job_id, None, result)
        return self.job(job_id)

    def verified(self, job_id: str, proved_with: Sequence[str] = ()) -> Job:
        """Write down that a wheel passed all gates, with wheels of these attempts, which no index had yet."""
        self._db.execute(
            "UPDATE job SET state = ?, proved_with = ? WHERE job_id = ?",
            (State.VERIFIED, json.dumps(sorted(proved_with)), job_id),
        )
        return self.job(job_id)

    def fail(self, job_id: str, failure: Failure, message: str, result: str | None = None) -> Job:
        """End a job as failed."""
        with self._transaction():
            self._fail(job_id, failure, message, result)
        return self.job(job_id)

    def requeue(
        self, job_id: str, message: str, failure: Failure = Failure.NODE, result: str | None = None
    ) -> Job:
        """Give a job back to the queue: its attempt ended with ``failure``, or its wheel is gone."""
        with self._transaction():
            if self.job(job_id).state.on_node:
                self._end_attempt(job_id, failure, result)
            self._db.execute(
                "UPDATE job SET state = ?, node = NULL, message = ?, started_at = NULL, ended_at = NULL,"
                " failure = NULL, wheel = NULL, wheel_sha256 = NULL WHERE job_id = ?",
                (State.QUEUED, message, job_id),
            )
        return self.job(job_id)

    def blame_node(self, job_id: str, message: str) -> Job:
        """Queue a failed job again: not the job was at fault, but the node of its last attempt (F21)."""
        with self._transaction():
            self._db.execute(
                "UPDATE attempt SET failure = ? WHERE job_id = ?"
                " AND attempt = (SELECT attempt FROM job WHERE job.job_id = attempt.job_id)",
                (Failure.NODE, job_id),
            )
            self._db.execute(
                "UPDATE job SET state = ?, node = NULL, message = ?, failure = NULL, started_at = NULL,"
                " ended_at = NULL WHERE job_id = ?",
                (State.QUEUED, message, job_id),
            )
        return self.job(job_id)

    # -- attempts ---------------------------------------------------------------------------------------

    def failures(self, job_id: str) -> dict[Failure, dict[str, int]]:
        """Return how often the job failed since it was last asked for: by class, then by node."""
        rows = self._db.execute(
            "SELECT attempt.failure AS failure, attempt.node AS node, count(*) AS times"
            " FROM attempt JOIN job USING (job_id)"
            " WHERE job_id = ? AND attempt.failure IS NOT NULL AND leased_at >= queued_at"
            " GROUP BY attempt.failure, attempt.node",
            (job_id,),
        )
        found: dict[Failure, dict[str, int]] = {}
        for row in rows:
            found.setdefault(Failure(row["failure"]), {})[row["node"]] = row["times"]
        return found

    def result(self, job_id: str) -> dict[str, object]:
        """Return what the node said of the job's last attempt that ended there; empty if none did."""
        row = self._db.execute(
            "SELECT result FROM attempt WHERE job_id = ? AND result IS NOT NULL ORDER BY attempt DESC",
            (job_id,),
        ).fetchone()
        return _object(row["result"] if row else None)

    def attempts(self, *, since: float = 0.0) -> list[Attempt]:
        """Return the attempts that were leased at or after ``since`` or had not ended then, oldest first."""
        rows = self._db.execute(
            "SELECT attempt.*, job.spec FROM attempt JOIN job USING (job_id)"
            " WHERE leased_at >= ? OR attempt.ended_at >= ? ORDER BY leased_at, job_id",
            (since, since),
        )
        return [self._attempt(row) for row in rows]

    def attempt(self, job_id: str) -> Attempt:
        """Return a job's last attempt; it had one."""
        row = self._db.execute(
            "SELECT attempt.*, job.spec FROM attempt JOIN job USING (job_id, attempt) WHERE job_id = ?",
            (job_id,),
        ).fetchone()
        return self._attempt(row)

    # -- nodes and runs ---------------------------------------------------------------------------------

    def marks(self) -> dict[str, dict[Mark, NodeMark]]:
        """Return the nodes that get no new jobs."""
        found: dict[str, dict[Mark, NodeMark]] = {}
        for row in self._db.execute("SELECT * FROM node_mark ORDER BY node, since"):
            mark = NodeMark(row["node"], Mark(row["mark"]), row["reason"], row["since"])
            found.setdefault(mark.node, {})[mark.mark] = mark
        return found

    def mark(self, node: str, mark: Mark, reason: str) -> None:
        """Keep a node out; one that is, is not marked anew unless the reason is another."""
        self._db.execute(
            "INSERT INTO node_mark (node, mark, reason, since) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (node, mark) DO UPDATE SET reason = excluded.reason",
            (node, mark, reason, time.time()),
        )

    def unmark(self, node: str, *marks: Mark) -> None:
        """Let a node have jobs again, as far as these marks go."""
        for mark in marks:
            self._db.execute("DELETE FROM node_mark WHERE node = ? AND mark = ?", (node, mark))

    def begin_run(self, policy: str) -> int:
        """Write down that a dispatcher began; returns the run's number."""
        row = self._db.execute(
            "INSERT INTO run (policy, began_at, nodes) VALUES (?, ?, '{}') RETURNING number",
            (policy, time.time()),
        ).fetchone()
        return int(row["number"])

    def note_nodes(self, number: int, nodes: Mapping[str, Mapping[str, object]]) -> None:
        """Write down what a run knows of its nodes."""
        self._db.execute("UPDATE run SET nodes = ? WHERE number = ?", (json.dumps(nodes), number))

    def end_run(self, number: int) -> None:
        """Write down that a run ended by itself."""
        self._db.execute("UPDATE run SET ended_at = ? WHERE number = ?", (time.time(), number))

    def last_run(self) -> Run | None:
        """Return the newest run, or None where there was none."""
        row = self._db.execute("SELECT * FROM run ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            return None
        return Run(row["number"], row["policy"], row["began_at"], row["ended_at"], json.loads(row["nodes"]))

    # -- inside -----------------------------------------------------------------------------------------

    def _queue_again(self, job_id: str) -> None:
        self._db.execute(
            "UPDATE job SET state = ?, failure = NULL, message = '', node = NULL, started_at = NULL,"
            " ended_at = NULL, cancelling = 0, queued_at = ? WHERE job_id = ?",
            (State.QUEUED, time.time(), job_id),
        )

    def _fail(self, job_id: str, failure: Failure, message: str, result: str | None) -> None:
        if self.job(job_id).state.on_node:
            self._end_attempt(job_id, failure, result)
        self._db.execute(
            "UPDATE job SET state = ?, failure = ?, message = ?, ended_at = ?, cancelling = 0"
            " WHERE job_id = ?",
            (State.FAILED, failure, message, time.time(), job_id),
        )

    def _end_attempt(self, job_id: str, failure: Failure | None, result: str | None) -> None:
        self._db.execute(
            "UPDATE attempt SET ended_at = ?, failure = ?, result = ? WHERE job_id = ?"
            " AND attempt = (SELECT attempt FROM job WHERE job.job_id = attempt.job_id)",
            (time.time(), failure, result, job_id),
        )

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _spec(self, text: str) -> JobSpec:
        # Read once: a spec never changes, and thousands of jobs are listed again and again.
        known = self._specs.get(text)
        if known is None:
            known = self._specs[text] = spec_from_json(text)
        return known

    def _job(self, row: sqlite3.Row) -> Job:
        return Job(
            job_id=row["job_id"],
            spec=self._spec(row["spec"]),
            state=State(row["state"]),
            attempt=row["attempt"],
            node=row["node"],
            widths=_widths(row),
            failure=Failure(row["failure"]) if row["failure"] else None,
            message=row["message"],
            queued_at=row["queued_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            wheel=row["wheel"],
            wheel_sha256=row["wheel_sha256"],
            cancelling=bool(row["cancelling"]),
            proved_with=tuple(json.loads(row["proved_with"])),
        )

    def _attempt(self, row: sqlite3.Row) -> Attempt:
        spec = self._spec(row["spec"])
        return Attempt(
            job_id=row["job_id"],
            attempt=row["attempt"],
            project=spec.project,
            python=spec.python,
            node=row["node"],
            widths=_widths(row),
            leased_at=row["leased_at"],
            ended_at=row["ended_at"],
            failure=Failure(row["failure"]) if row["failure"] else None,
            result=_object(row["result"]),
        )


def _widths(row: sqlite3.Row) -> Widths:
    return Widths(row["width"], tuple((after_s, width) for after_s, width in json.loads(row["widened"])))


def _object(text: str | None) -> dict[str, object]:
    content: dict[str, object] = json.loads(text) if text else {}
    return content
