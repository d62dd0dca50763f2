"""How near a farm's makespan comes to the least possible one, by policy; and what planning costs.

    python -m bench.schedule [--json] [--seeds 20]

Ratios of makespan to `farm.schedule.bound`'s lower bound; `bench.workload` has the model of the builds.

Noisy: estimates are off by up to half; noisy by project: all Pythons of a project by the same factor. Cold:
nothing was ever built. Node loss: as noisy, and one F3 vanishes at 40% of the bound; compared with the bound
of somebody who knew. Nothing outside is touched. With --json only the default policy is run, and the last
line of stdout is one JSON object; without, all policies are, and a table is shown. With 20 seeds: about nine
minutes of one processor, or twelve with the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.console import Console
from rich.table import Table

from bench.workload import OVERHEAD_S, Cold, Workload, fleet, noisy, workload
from farm.schedule import (
    POLICIES,
    Assignment,
    FarmState,
    LookAhead,
    NodeState,
    Policy,
    QueuedJob,
    RunningJob,
)
from farm.schedule.bound import Build, Loss, lower_bound
from farm.schedule.simulate import Fixed, Forecast, simulate

FLEETS: Final[Mapping[str, tuple[int, int]]] = {"f3x2_sg1": (2, 1), "f3x8_sg2": (8, 2)}
LOST_AT: Final = 0.4
GOALS: Final = {"noisy": (1.25, 1.45), "cold": (1.6, 2.5), "node_loss": (1.45, None)}
SCALE_F3: Final = 400
SCALE_SG2044: Final = 100
SCALE_JOBS: Final = 5000
SCALE_EVENTS: Final = 500


@dataclass(frozen=True, slots=True)
class Ratios:
    """Makespans over bounds, one for each seed."""

    noisy: tuple[float, ...]
    by_project: tuple[float, ...]
    cold: tuple[float, ...]
    node_loss: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        """Return medians and worst ones by the names of the JSON line."""
        return {
            "noisy_median": _round(statistics.median(self.noisy)),
            "noisy_worst": _round(max(self.noisy)),
            "noisy_by_project_median": _round(statistics.median(self.by_project)),
            "noisy_by_project_worst": _round(max(self.by_project)),
            "cold_median": _round(statistics.median(self.cold)),
            "cold_worst": _round(max(self.cold)),
            "node_loss": _round(statistics.median(self.node_loss)),
            "node_loss_worst": _round(max(self.node_loss)),
        }


def _round(value: float) -> float:
    return round(value, 3)


def ratio(
    work: Workload, nodes: Sequence[NodeState], policy: Policy, forecast: Forecast, loss: Loss | None = None
) -> float:
    """Return makespan / bound of one simulation.

    Raises:
        RuntimeError: jobs were left over; a ratio would mean nothing.
    """
    table = simulate(work.builds, nodes, policy, forecast=forecast, loss=loss, overhead_s=OVERHEAD_S)
    if table.unplaced:
        raise RuntimeError(f"{policy.name} never placed {', '.join(table.unplaced)}")
    return table.makespan_s / lower_bound(work.builds, nodes, loss=loss, overhead_s=OVERHEAD_S)


def measure(make: Callable[[], Policy], nodes: Sequence[NodeState], seeds: int) -> Ratios:
    """Run a policy on the queues of all seeds."""
    noisy_ratios, by_project, cold, lost = [], [], [], []
    for seed in range(seeds):
        work = workload(seed)
        believed = noisy(work, seed)
        noisy_ratios.append(ratio(work, nodes, make(), Fixed(believed)))
        by_project.append(ratio(work, nodes, make(), Fixed(noisy(work, seed, by_project=True))))
        cold.append(ratio(work, nodes, make(), Cold(work, nodes)))
        loss = Loss(nodes[0].name, LOST_AT * lower_bound(work.builds, nodes, overhead_s=OVERHEAD_S))
        lost.append(ratio(work, nodes, make(), Fixed(believed), loss))
    return Ratios(tuple(noisy_ratios), tuple(by_project), tuple(cold), tuple(lost))


@dataclass(slots=True)
class Timed:
    """The default policy with a stopwatch: processor seconds of each decision."""

    name: ClassVar[str] = "timed"
    inner: LookAhead
    seconds: list[float]

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Decide, and note what that cost."""
        began = time.process_time()
        placed = self.inner.assign(state)
        self.seconds.append(time.process_time() - began)
        return placed


def planning() -> dict[str, float]:
    """Return milliseconds a decision: 500 builds end one after the other on 500 full nodes, 5,000 jobs wait.

    The first decision, which fills 500 empty nodes at once, is told apart.
    """
    nodes = fleet(SCALE_F3, SCALE_SG2044)
    queue: list[QueuedJob] = []
    projects = (SCALE_JOBS + 7_000) // 4
    builds: Sequence[Build] = workload(0, projects).builds
    believed = noisy(workload(0, projects), 0)
    queue = [QueuedJob(b.job_id, believed[b.job_id], b.needs, frozenset(), {}, b.project) for b in builds]
    policy = Timed(LookAhead(), [])
    speeds = {item.name: item.speed for item in nodes}
    running: dict[str, tuple[Assignment, float, QueuedJob]] = {}
    waiting = {job.job_id: job for job in queue[:SCALE_JOBS]}
    later = iter(queue[SCALE_JOBS:])
    now = 0.0
    # Fill the farm; then top the queue up to 5,000, so that the state is the one asked for.
    for step in range(SCALE_EVENTS + 1):
        state = FarmState(
            list(waiting.values()),
            [
                RunningJob(i.job_id, i.node, i.width, now - since, job.estimate, job.project)
                for i, since, job in running.values()
            ],
            nodes,
        )
        for item in policy.assign(state):
            if job := waiting.pop(item.job_id, None):
                running[item.job_id] = (item, now, job)
            else:  # it is made wider: as if it had been so from its beginning
                running[item.job_id] = (item, *running[item.job_id][1:])
        while len(waiting) < SCALE_JOBS and (job := next(later, None)):
            waiting[job.job_id] = job
        ends = {
            name: since + job.estimate.seconds(item.width, speeds[item.node])
            for name, (item, since, job) in running.items()
        }
        first = min(ends, key=lambda name: (ends[name], name))
        now = max(now, ends[first])
        del running[first]
        if step == 0:
            policy.seconds, start = [], policy.seconds[0]
    return {
        "planning_ms_per_event": _round(statistics.mean(policy.seconds) * 1000),
        "planning_ms_worst_event": _round(max(policy.seconds) * 1000),
        "planning_ms_first_event": _round(start * 1000),
    }


def show(console: Console, results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print a table for each fleet."""
    for name, by_policy in results.items():
        f3, sg2044 = FLEETS[name]
        table = Table(title=f"{f3} x F3 + {sg2044} x SG2044: makespan / bound, median (worst)")
        table.add_column("policy")
        for column in ("noisy", "noisy_by_project", "cold", "node_loss"):
            median, worst = GOALS.get(column, (None, None))
            goal = f"\ngoal {median}" + (f" ({worst})" if worst else "") if median else ""
            table.add_column(f"{column.replace('_', ' ')}{goal}", justify="right")
        for policy, row in by_policy.items():
            pairs = (
                (row["noisy_median"], row["noisy_worst"]),
                (row["noisy_by_project_median"], row["noisy_by_project_worst"]),
                (row["cold_median"], row["cold_worst"]),
                (row["node_loss"], row["node_loss_worst"]),
            )
            table.add_row(policy, *(f"{median:.2f} ({worst:.2f})" for median, worst in pairs))
        console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="only the default policy; one JSON object")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args(arguments)
    names = [LookAhead.name] if options.json else list(POLICIES)
    results = {
        fleet_name: {name: measure(POLICIES[name], fleet(*boards), options.seeds).figures() for name in names}
        for fleet_name, boards in FLEETS.items()
    }
    cost = planning()
    if options.json:
        ours = {name: by_policy[LookAhead.name] for name, by_policy in results.items()}
        print(json.dumps({**ours, **cost}))
    else:
        console = Console()
        show(console, results)
        console.print(
            f"Planning with {SCALE_F3 + SCALE_SG2044} nodes and {SCALE_JOBS} queued jobs: "
            f"{cost['planning_ms_per_event']:.1f} ms an event (worst {cost['planning_ms_worst_event']:.1f}; "
            f"filling the empty farm {cost['planning_ms_first_event']:.0f})"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
