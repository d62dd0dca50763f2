"""From a collected wheel to a published one: every gate passed, files first, pages last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from farm.build_tag import after_collision, published
from farm.cleanroom import ILLEGAL, RoomError
from farm.dispatch.lanes import Lane, Post
from farm.dispatch.ledger import Ledger
from farm.errors import FarmError, NameTakenError
from farm.paths import Paths
from farm.provenance.attach import attach
from farm.store import Attempt, Failure, Job, State
from farm.verify import Allowances, Gate, JobExpectation, Report, verify_wheel
from farm.verify.debian import DebianPackages

VERIFICATIONS: Final = 2
Outcomes = dict[str, FarmError | None]
Prove = Callable[[Job, Path, Report, tuple[Path, ...]], Report]
"""Adds to a wheel's report what its execution showed; wheels beside it may be taken for what it needs."""


class Gates:
    """Verifies and publishes what was built, each in a lane of its own."""

    def __init__(
        self,
        ledger: Ledger,
        publish: Callable[[Sequence[Path]], object],
        *,
        paths: Paths,
        post: Post,
        changed: Callable[[Job], object],
        fail: Callable[[Job, Failure, str], None],
        note: Callable[[str], None],
        prove: Prove | None = None,
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._paths = paths
        self._changed = changed
        self._fail = fail
        self._note = note
        self._prove = prove
        self._verifying: Lane[str, Report] = Lane(VERIFICATIONS, post, self._verified)
        self._publishing: Lane[tuple[str, ...], Outcomes] = Lane(1, post, self._published)
        self.refused: dict[str, FarmError] = {}
        """Jobs that wait for the next dispatch, which builds none of them again: the index did not take them,
        or the clean room was not well."""

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._verifying.busy or self._publishing.busy)

    def move_on(self) -> None:
        """Begin all that can begin."""
        others = [self._wheel(job) for job in self._ledger.in_state(State.VERIFIED)]
        beside = tuple(wheel for wheel in others if wheel.exists())
        for job in self._ledger.in_state(State.BUILT):
            if job.job_id in self.refused:
                continue
            wheel = self._wheel(job)
            if wheel.exists():
                attempt = self._ledger.store.attempt(job.job_id)
                self._verifying.send(job.job_id, partial(self._examined, job, attempt, wheel, beside))
            else:
                # Somebody cleared the state folder: without this, no later dispatch would get past it.
                self._changed(self._ledger.store.requeue(job.job_id, "its collected wheel is gone"))
        ready = [job for job in self._ledger.in_state(State.VERIFIED) if job.job_id not in self.refused]
        if ready and not self._publishing.busy:
            wheels = [(job.job_id, self._wheel(job)) for job in ready]
            self._publishing.send(
                tuple(job.job_id for job in ready), lambda: publish_all(self._publish, wheels)
            )

    def _examined(self, job: Job, attempt: Attempt, wheel: Path, beside: tuple[Path, ...]) -> Report:
        report = verified(job, wheel, self._paths)
        if self._prove:
            report = self._prove(job, wheel, report, beside)
        if report.ok:
            attach(self._paths, job, attempt, report, wheel)
        return report

    def _verified(self, job_id: str, report: Report | FarmError) -> None:
        job = self._ledger.jobs.get(job_id)
        if job is None or job.state is not State.BUILT:
            return
        if isinstance(report, RoomError):
            self.refused[job_id] = report
            self._note(f"{job_id} not proved: {report.message}")
        elif isinstance(report, FarmError):
            self._fail(job, Failure.POLICY, report.message)
        elif report.ok and report.sha256 == job.wheel_sha256:
            self._changed(self._ledger.store.advance(job_id, State.VERIFIED))
        else:
            self._fail(job, _failure_of(report), _why(report))

    def _published(self, job_ids: tuple[str, ...], outcomes: Outcomes | FarmError) -> None:
        for job_id in job_ids:
            error = outcomes if isinstance(outcomes, FarmError) else outcomes[job_id]
            if error is None:
                self._changed(self._ledger.store.advance(job_id, State.PUBLISHED))
            elif isinstance(error, NameTakenError) and self._built_anew(job_id, error):
                continue
            else:
                self.refused[job_id] = error
                self._note(f"{job_id} not published: {error.message}")

    def _built_anew(self, job_id: str, error: NameTakenError) -> bool:
        """Have a wheel built with the next build tag: another job's got its name while it was built."""
        store, spec = self._ledger.store, self._ledger.store.job(job_id).spec
        tag = after_collision(spec, published(self._paths.tree, spec.project))
        if tag is None:
            return False
        store.retag(job_id, tag)
        self._changed(store.requeue(job_id, f"{error.message}; it is built again with build tag {tag}"))
        return True

    def _wheel(self, job: Job) -> Path:
        assert job.wheel is not None  # noqa: S101  # a built job has one
        return self._paths.wheels(job.attempt_id) / job.wheel

    def close(self) -> None:
        """Wait for what is under way."""
        self._verifying.close()
        self._publishing.close()


def verified(job: Job, wheel: Path, paths: Paths) -> Report:
    """Put a job's wheel through every gate, with what the job promised (F02-F04) and its recipe allows."""
    expectation = JobExpectation(
        project=job.spec.project,
        version=job.spec.version,
        python_tag=job.spec.python,
        native=job.spec.recipe.native,
        build_tag=job.spec.build_tag,
    )
    recipe = job.spec.recipe
    sdist = paths.sdist(job.spec.sdist_sha256, job.spec.sdist_filename)
    return verify_wheel(
        wheel,
        expectation,
        sdist=sdist if sdist.exists() else None,  # somebody may have cleared the state folder
        allow=Allowances.of(recipe),
        packages=DebianPackages(paths.debian),
    )


def publish_all(publish: Callable[[Sequence[Path]], object], wheels: Sequence[tuple[str, Path]]) -> Outcomes:
    """Publish wheels together; where that fails, one by one, so that a bad one does not hold up the rest."""
    try:
        publish([wheel for _, wheel in wheels])
    except FarmError as error:
        if len(wheels) == 1:
            return {wheels[0][0]: error}
        outcomes: Outcomes = {}
        for item in wheels:
            outcomes |= publish_all(publish, [item])
        return outcomes
    return {job_id: None for job_id, _ in wheels}


def _failure_of(report: Report) -> Failure:
    gates = {verdict.gate for verdict in report.failures}
    if Gate.ISA in gates or any(verdict.verdict == ILLEGAL for verdict in report.failures):
        return Failure.ISA
    return Failure.TEST if gates <= {Gate.IMPORT, Gate.EXECUTION} else Failure.POLICY


def _why(report: Report) -> str:
    if report.ok:
        return "the wheel on this controller is not the one that was collected"
    first = report.failures[0]
    return f"{report.wheel}: {first.gate}: {first.subject}: {first.evidence}"
