"""What a run will probably be like, and what the last one was like, each against the least time possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farm.dispatch import placing
from farm.dispatch.experience import Experience, ended_well, observation
from farm.estimate import Knowledge
from farm.nodes import Facts, Node
from farm.plan import JobSpec
from farm.requires import OrderedJob, order, refuse_cycle
from farm.schedule import POLICIES, NodeState
from farm.schedule.bound import Build, lower_bound
from farm.schedule.model import Needs
from farm.schedule.simulate import Span, Timetable, simulate
from farm.store import Attempt, Run

# To reach the node, unpack, make the environment, collect: what a job takes besides its build.
OVERHEAD_S = 3.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Builds on nodes over time; times in seconds from the beginning."""

    policy: str
    timetable: Timetable
    bound_s: float | None
    """The least time in which these builds could be done on these nodes; None where nothing is known."""
    cores: Mapping[str, int]
    """Cores of each node, by name."""

    @property
    def ratio(self) -> float | None:
        """How many times the least time it takes."""
        return self.timetable.makespan_s / self.bound_s if self.bound_s else None


def foresee(
    specs: Sequence[tuple[JobSpec, Path]], nodes: Mapping[Node, Facts], experience: Experience, policy: str
) -> Timeline:
    """Return how a policy would build ``specs``, each with its sdist, if the estimates are right.

    Raises:
        CycleError: some need each other to be built.
    """
    for node, facts in nodes.items():
        experience.meet(node.name, facts)
    states = [placing.node_state(node, facts, experience.speed(node.name)) for node, facts in nodes.items()]
    largest = max((state.memory_bytes for state in states), default=0)
    ordered = [OrderedJob.of(spec, sdist) for spec, sdist in specs]
    edges = order(ordered)
    refuse_cycle(ordered, edges)
    builds = []
    for spec, sdist in specs:
        estimate = placing.corrected(experience.estimate(spec, sdist), spec.recipe, {}, largest)
        needs = placing.needs_of(spec, estimate, sdist.stat().st_size)
        builds.append(Build(spec.job_id, estimate, needs, edges[spec.job_id], spec.project))
    timetable = simulate(builds, states, POLICIES[policy](), overhead_s=OVERHEAD_S)
    possible = [build for build in builds if build.job_id not in timetable.unplaced]
    return Timeline(policy, timetable, _bound(possible, states, OVERHEAD_S), _cores(states))


def review(run: Run, attempts: Sequence[Attempt], now: float) -> Timeline:
    """Return how a run really went; what still runs, runs until ``now`` (seconds since the epoch)."""
    spans = [
        Span(
            attempt.job_id,
            attempt.node,
            attempt.widths,
            max(0.0, attempt.leased_at - run.began_at),
            (attempt.ended_at or now) - run.began_at,
            lost=attempt.failure is not None,
        )
        for attempt in attempts
    ]
    built = [attempt for attempt in attempts if ended_well(attempt) and attempt.node in run.nodes]
    states = [_as_it_was(name, known, built) for name, known in run.nodes.items()]
    speeds = {state.name: state.speed for state in states}
    builds = [_as_it_took(attempt, speeds) for attempt in built]
    timetable = Timetable(tuple(sorted(spans, key=lambda span: (span.start_s, span.job_id))))
    return Timeline(run.policy, timetable, _bound(builds, states, 0.0), _cores(states))


def _bound(builds: Sequence[Build], nodes: Sequence[NodeState], overhead_s: float) -> float | None:
    return lower_bound(builds, nodes, overhead_s=overhead_s) if builds else None


def _cores(states: Sequence[NodeState]) -> Mapping[str, int]:
    return {state.name: state.cores for state in states}


def _as_it_was(name: str, known: Mapping[str, object], built: Sequence[Attempt]) -> NodeState:
    return NodeState(
        name=name,
        cores=int(str(known["cores"])),
        memory_bytes=int(str(known["memory_bytes"])),
        disk_free_bytes=0,
        speed=float(str(known["speed"])),
        pythons=frozenset(attempt.python for attempt in built),
        features=frozenset(),
        apt_packages=frozenset(),
        max_jobs=None,
    )


def _as_it_took(attempt: Attempt, speeds: Mapping[str, float]) -> Build:
    """Return what a build took, as a job for the bound: what one observation of it teaches is what it was."""
    seen = replace(observation(attempt), peak_memory_bytes=None)
    truth = Knowledge.of([seen], speeds).estimate(attempt.project, attempt.python)
    return Build(attempt.job_id, replace(truth, memory_bytes=0), Needs(attempt.python))
