"""Asks the policy what starts now, and hands it to the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from farm.build_tag import build_tag, published
from farm.dispatch import placing
from farm.dispatch.contacts import Contact, Contacts
from farm.dispatch.experience import Experience
from farm.dispatch.health import Trouble
from farm.dispatch.ledger import Ledger
from farm.dispatch.waiting import Waiting
from farm.executor import Build, Launch, Limits, Task, Widening
from farm.schedule import FarmState, NodeState, Policy, RunningJob, unmet
from farm.store import Failure, Job, State


def build_of(job: Job, sdist: Path) -> Task:
    """Return what a job's current attempt is to do."""
    return Build(job.spec, job.attempt, sdist, job.widths.first)


class Placer:
    """Places queued jobs and widens running ones; the store has each lease and width before its node does."""

    def __init__(
        self,
        policy: Policy,
        *,
        ledger: Ledger,
        waiting: Waiting,
        contacts: Contacts,
        experience: Experience,
        tree: Path,
        task_of: Callable[[Job, Path], Task],
        changed: Callable[[Job], Job],
        fail: Callable[[Job, Failure, str], None],
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._waiting = waiting
        self._contacts = contacts
        self._experience = experience
        self._tree = tree
        self._task_of = task_of
        self._changed = changed
        self._fail = fail
        self._noted: dict[str, dict[str, object]] = {}

    def place(self) -> None:
        """Lease all that can start now, widen what runs where nobody waits, and fail what can never start."""
        candidates, running = self._waiting.candidates(), self._running()
        if not (candidates or running):
            return
        contacts = self._contacts.all
        nodes = [self._node(contact) for contact in contacts.values() if contact.facts is not None]
        state = FarmState(candidates, running, nodes, self._waiting.more)
        for assignment in self._policy.assign(state):
            job, contact = self._ledger.jobs[assignment.job_id], contacts[assignment.node]
            if job.state.on_node:
                self._widen(contact, job, assignment.width)
                continue
            self._choose_build_tag(job)
            leased = self._ledger.store.lease(job.job_id, assignment.node, assignment.width)
            self.launch(contact, self._changed(leased))
        if all(
            contact.facts is not None or contact.trouble is Trouble.UNFIT for contact in contacts.values()
        ):
            self._refuse_impossible()

    def _choose_build_tag(self, job: Job) -> None:
        tag = build_tag(job.spec, published(self._tree, job.spec.project))
        if tag != job.spec.build_tag:
            self._ledger.store.retag(job.job_id, tag)

    def launch(self, contact: Contact, job: Job) -> None:
        """Let a node's next visit start a job that is leased to it."""
        task = self._task_of(job, self._waiting.sdists[job.job_id])
        limits = self._limits(contact, job, job.widths.first)
        contact.launches[job.attempt_id] = Launch(job.attempt_id, task, limits)
        self._contacts.wake(contact)

    def _widen(self, contact: Contact, job: Job, width: int) -> None:
        self._tell_width(contact, self._changed(self._ledger.store.widen(job.job_id, width)))
        self._contacts.wake(contact)

    def remind(self, contact: Contact) -> None:
        """Have a node told again what was widened: an earlier run may have been killed before it could."""
        for job in self._ledger.on(contact.node.name):
            if job.widths.changes:
                self._tell_width(contact, job)

    def _tell_width(self, contact: Contact, job: Job) -> None:
        contact.widen[job.attempt_id] = Widening(job.width, self._limits(contact, job, job.width))

    def _limits(self, contact: Contact, job: Job, width: int) -> Limits:
        estimate = self._waiting.estimate(job)
        return placing.limits(job, width, estimate, self._waiting.needs(job, estimate), self._node(contact))

    def note_nodes(self, run: int) -> None:
        """Write down what the nodes are, for `farm status --gantt`."""
        known: dict[str, dict[str, object]] = {}
        for name, contact in self._contacts.all.items():
            if contact.facts is not None:
                node = self._node(contact)
                known[name] = {
                    "cores": node.cores,
                    "memory_bytes": node.memory_bytes,
                    "speed": round(node.speed, 3),
                }
        if known != self._noted:
            self._noted = known
            self._ledger.store.note_nodes(run, known)

    def _running(self) -> list[RunningJob]:
        now = time.time()
        return [self._run(job, max(0.0, now - (job.started_at or now))) for job in self._ledger.on_nodes()]

    def _run(self, job: Job, elapsed_s: float) -> RunningJob:
        estimate = self._waiting.estimate(job)
        return RunningJob(
            job.job_id,
            job.node or "",
            job.width,
            job.widths.as_if(elapsed_s, estimate),
            estimate,
            job.spec.project,
            widens=job.state is State.RUNNING and not job.cancelling,
        )

    def _refuse_impossible(self) -> None:
        """Fail what no node can ever run, naming what nobody has; a node that is away might have it."""
        contacts = self._contacts.all
        for item in self._waiting.candidates():
            whys = {
                name: (contact.reason,)
                if contact.trouble is Trouble.UNFIT
                else unmet(item.needs, self._node(contact))
                for name, contact in contacts.items()
            }
            if all(whys.values()):
                fix = "change its recipe or provision a node that has it, then `farm retry`"
                message = f"{placing.nobody(whys)}; {fix}"
                self._fail(self._ledger.jobs[item.job_id], Failure.NODE, message)

    def _node(self, contact: Contact) -> NodeState:
        assert contact.facts is not None  # noqa: S101  # the callers chose nodes that were asked
        return placing.node_state(
            contact.node,
            contact.facts,
            self._experience.speed(contact.node.name),
            disk_free_bytes=contact.vitals.disk_free_bytes if contact.vitals else None,
            usable=contact.usable,
        )
