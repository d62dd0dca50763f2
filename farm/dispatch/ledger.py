"""The jobs that have not ended, in memory; every change is in the store before it is here."""

from __future__ import annotations

from collections import defaultdict

from farm.store import Job, State, Store


class Ledger:
    """Unfinished jobs by name and by node, so that an event costs no walk over thousands of rows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs: dict[str, Job] = {}
        self._on: defaultdict[str, set[str]] = defaultdict(set)
        self.reload()

    def reload(self) -> None:
        """Read all from the store: another process wrote to it."""
        self.jobs = {}
        self._on.clear()
        for job in self.store.jobs(ended=False):
            self.took(job)

    def took(self, job: Job) -> Job:
        """Take over what the store says of a job now."""
        before = self.jobs.pop(job.job_id, None)
        if before is not None and before.node is not None:
            self._on[before.node].discard(job.job_id)
        if not job.state.ended:
            self.jobs[job.job_id] = job
            if job.state.on_node and job.node is not None:
                self._on[job.node].add(job.job_id)
        return job

    def on(self, node: str) -> list[Job]:
        """Return the jobs that a node has."""
        return [self.jobs[job_id] for job_id in sorted(self._on[node])]

    def on_nodes(self) -> list[Job]:
        """Return the jobs that any node has."""
        return [self.jobs[job_id] for jobs in self._on.values() for job_id in sorted(jobs)]

    def in_state(self, state: State) -> list[Job]:
        """Return the jobs in one state, oldest first."""
        return [job for job in self.jobs.values() if job.state is state]

    def of_attempt(self, attempt_id: str) -> Job | None:
        """Return the job whose current attempt this is, where a node still has it."""
        job = self.jobs.get(attempt_id.rpartition(".")[0])
        return job if job is not None and job.state.on_node and job.attempt_id == attempt_id else None
