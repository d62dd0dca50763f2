"""From a collected wheel to a published one: static gates, staging, proof, files first, pages last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from farm.build_tag import after_collision, published
from farm.cleanroom import ILLEGAL, NO_WHEEL, RoomError
from farm.dispatch.lanes import Lane, Post
from farm.dispatch.ledger import Ledger
from farm.dispatch.shelf import Shelf, Staged
from farm.dispatch.staging import Decision, blocked
from farm.errors import FarmError, NameTakenError, PublishError
from farm.paths import Paths
from farm.requires import OrderedJob
from farm.store import Attempt, Failure, Job, State
from farm.verify import Allowances, Gate, JobExpectation, Report
from farm.verify.isa import IsaVerdict

EXAMINATIONS: Final = 2
PROOFS: Final = 2
Outcomes = dict[str, FarmError | None]
Prove = Callable[[Job, Path, Report, tuple[Path, ...]], Report]
"""Adds to a wheel's report what its execution showed; wheels beside it may be taken for what it needs."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the static gates said of an attempt's wheel; ``staged`` is None where they refused it."""

    attempt_id: str
    report: Report
    staged: Staged | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What the proof of an attempt's wheel showed, and the attempts whose wheels lay beside."""

    attempt_id: str
    report: Report
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Wheels that are published at once, by job; and the jobs that must be published before."""

    wheels: Mapping[str, Path]
    relies_on: frozenset[str]


class Gates:
    """Verifies, proves and publishes what was built, each in a lane of its own."""

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
        after: Callable[[str], frozenset[str]],
        prove: Prove | None = None,
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._paths = paths
        self._changed = changed
        self._fail = fail
        self._note = note
        self._prove = prove
        self._shelf = Shelf(ledger, paths, after)
        self._examining: Lane[str, Examined] = Lane(EXAMINATIONS, post, self._examined)
        self._proving: Lane[str, Proof] = Lane(PROOFS, post, self._proved)
        self._publishing: Lane[tuple[str, ...], Outcomes] = Lane(1, post, self._published)
        self._told: set[str] = set()
        self.refused: dict[str, FarmError] = {}
        """Jobs that wait for the next dispatch, which builds none of them again: the index did not take them,
        the clean room was not well, or they wait for one of these."""

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._examining.busy or self._proving.busy or self._publishing.busy)

    def move_on(self) -> None:
        """Begin all that can begin."""
        collected = [job for job in self._ledger.jobs.values() if job.state.collected]
        if not collected:
            return
        for job in collected:
            if job.job_id not in self.refused and self._shelf.get(job) is None:
                self._examine(job)
        decision = self._shelf.decide(self.refused)
        for job_id in decision.again:
            # What it was proved with is gone; until it is proved anew, the store must not say that it was.
            self._changed(self._ledger.store.advance(job_id, State.STAGED))
        if self._prove is not None:
            for job_id, beside in decision.prove.items():
                self._begin_proof(self._prove, self._ledger.jobs[job_id], beside)
        self._publish_groups(decision)
        self._tell(decision)

    def _examine(self, job: Job) -> None:
        if job.job_id in self._examining.busy:
            return
        wheel = self._shelf.wheel(job)
        if wheel.exists():
            attempt = self._ledger.store.attempt(job.job_id)
            self._examining.send(job.job_id, partial(self._static, job, attempt, wheel))
        else:
            # Somebody cleared the state folder: without this, no later dispatch would get past it.
            self._changed(self._ledger.store.requeue(job.job_id, "its collected wheel is gone"))

    def _static(self, job: Job, attempt: Attempt, wheel: Path) -> Examined:
        report = verified(job, wheel, self._paths)
        passed = report.ok if self._prove is None else may_be_staged(report)
        if not passed or report.sha256 != job.wheel_sha256:
            return Examined(job.attempt_id, report, None)
        if self._prove is None and job.state is State.BUILT:
            _attach(self._paths, job, attempt, report, wheel)
        return Examined(job.attempt_id, report, Staged(report, _ordered(job, wheel)))

    def _examined(self, job_id: str, answer: Examined | FarmError) -> None:
        job = self._ledger.jobs.get(job_id)
        if job is None or not job.state.collected:
            return
        if isinstance(answer, FarmError):
            self._fail(job, Failure.POLICY, answer.message)
        elif answer.attempt_id != job.attempt_id:
            self._changed(job)
        elif answer.staged is None:
            self._fail(job, _failure_of(answer.report), _why(answer.report))
        else:
            self._shelf.put(job, answer.staged)
            if job.state is State.BUILT and self._prove is not None:
                job = self._ledger.store.advance(job_id, State.STAGED)
            elif job.state is not State.VERIFIED and self._prove is None:
                job = self._ledger.store.verified(job_id)
            self._changed(job)

    # -- proofs -----------------------------------------------------------------------------------------

    def _begin_proof(self, prove: Prove, job: Job, beside: frozenset[str]) -> None:
        staged = self._shelf.get(job)
        if job.job_id in self._proving.busy or staged is None:
            return
        others = [self._ledger.jobs[name] for name in sorted(beside)]
        attempt = self._ledger.store.attempt(job.job_id)
        wheels = tuple(self._shelf.wheel(other) for other in others)
        names = tuple(other.attempt_id for other in others)

        def step() -> Proof:
            wheel = self._shelf.wheel(job)
            report = prove(job, wheel, staged.report, wheels)
            if report.ok:
                _attach(self._paths, job, attempt, report, wheel)
            return Proof(job.attempt_id, report, names)

        self._proving.send(job.job_id, step)

    def _proved(self, job_id: str, proof: Proof | FarmError) -> None:
        job = self._ledger.jobs.get(job_id)
        if job is None or job.state is not State.STAGED:
            return
        if isinstance(proof, RoomError):
            self.refused[job_id] = proof
            self._note(f"{job_id} not proved: {proof.message}")
            self._changed(job)
        elif isinstance(proof, FarmError):
            self._fail(job, Failure.POLICY, proof.message)
        elif proof.attempt_id != job.attempt_id:
            self._changed(job)
        elif proof.report.ok:
            self._changed(self._ledger.store.verified(job_id, proof.beside))
        elif lacking := _lacking(proof.report):
            why = self._shelf.lacks(job, lacking)
            if why is None:
                self._changed(job)
            else:
                self._fail(job, Failure.DEPENDENCY, why or _why(proof.report))
        else:
            self._fail(job, _failure_of(proof.report), _why(proof.report))

    def _tell(self, decision: Decision) -> None:
        """Say who waits for whom, once each; what waits for what is refused is refused, too."""
        for job_id, culprit in blocked(decision, frozenset(self.refused)).items():
            why = self.refused[culprit]
            self.refused[job_id] = FarmError(f"{job_id} waits for {culprit}: {why.message}", hint=why.hint)
        for job_id, others in decision.wait.items():
            if job_id not in self._told:
                self._told.add(job_id)
                self._note(f"{job_id} is staged and waits for {', '.join(sorted(others))}")

    # -- publication ------------------------------------------------------------------------------------

    def _publish_groups(self, decision: Decision) -> None:
        if not decision.publish or self._publishing.busy:
            return
        jobs = self._ledger.jobs
        groups = [
            Group(
                {name: self._shelf.wheel(jobs[name]) for name in sorted(names)},
                frozenset(one.rpartition(".")[0] for name in names for one in jobs[name].proved_with) - names,
            )
            for names in decision.publish
        ]
        key = tuple(name for group in groups for name in group.wheels)
        self._publishing.send(key, partial(publish_all, self._publish, groups))

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

    def close(self) -> None:
        """Wait for what is under way."""
        self._examining.close()
        self._proving.close()
        self._publishing.close()


# What reads wheels is imported where it is used: 20 MiB, which a dispatch can do without that holds its nodes
# for hours before the first wheel comes.


def _attach(paths: Paths, job: Job, attempt: Attempt, report: Report, wheel: Path) -> None:
    from farm.provenance.attach import attach  # noqa: PLC0415

    attach(paths, job, attempt, report, wheel)


def _ordered(job: Job, wheel: Path) -> OrderedJob:
    from farm.verify.wheel import read_file  # noqa: PLC0415

    return OrderedJob.of_wheel(job.spec, read_file(wheel, "METADATA"))


def verified(job: Job, wheel: Path, paths: Paths) -> Report:
    """Put a job's wheel through every gate, with what the job promised (F02-F04) and its recipe allows."""
    from farm.verify.debian import DebianPackages  # noqa: PLC0415
    from farm.verify.judge import verify_wheel  # noqa: PLC0415

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


def publish_all(publish: Callable[[Sequence[Path]], object], groups: Sequence[Group]) -> Outcomes:
    """Publish wheels together; where that fails, group by group, so that a bad one does not hold up the rest.

    What relies on a wheel that was not published is not published either.
    """
    try:
        publish([wheel for group in groups for wheel in group.wheels.values()])
    except FarmError as error:
        if len(groups) == 1:
            return dict.fromkeys(groups[0].wheels, error)
    else:
        return {job_id: None for group in groups for job_id in group.wheels}
    outcomes: Outcomes = {}
    for group in groups:
        missing = next((name for name in sorted(group.relies_on) if outcomes.get(name)), None)
        if missing is None:
            outcomes |= publish_all(publish, [group])
        else:
            why = outcomes[missing]
            hint = why.hint if why else ""
            held = PublishError(f"it needs {missing}, which was not published", hint=hint)
            outcomes |= dict.fromkeys(group.wheels, held)
    return outcomes


def may_be_staged(report: Report) -> bool:
    """Return whether nothing fails but what the clean room can settle."""
    return all(verdict.verdict == IsaVerdict.NEEDS_PROOF for verdict in report.failures)


def _lacking(report: Report) -> list[str]:
    """Return the requirements for which pip found no wheel, where that is all that failed."""
    found = [verdict for verdict in report.failures if verdict.verdict != IsaVerdict.NEEDS_PROOF]
    return [v.subject for v in found] if all(v.verdict == NO_WHEEL for v in found) else []


def _failure_of(report: Report) -> Failure:
    gates = {verdict.gate for verdict in report.failures if verdict.verdict != IsaVerdict.NEEDS_PROOF}
    if Gate.ISA in gates or not gates or any(verdict.verdict == ILLEGAL for verdict in report.failures):
        return Failure.ISA
    return Failure.TEST if gates <= {Gate.IMPORT, Gate.EXECUTION} else Failure.POLICY


def _why(report: Report) -> str:
    if report.ok:
        return "the wheel on this controller is not the one that was collected"
    # What only waits for a proof is not why it failed, if there is anything else.
    first = min(report.failures, key=lambda verdict: verdict.verdict == IsaVerdict.NEEDS_PROOF)
    return f"{report.wheel}: {first.gate}: {first.subject}: {first.evidence}"
