"""What the farm learnt of projects and nodes, kept up to date with the store."""

from __future__ import annotations

import re
from pathlib import Path

from farm.estimate import Knowledge, Observation, read_features
from farm.nodes import Facts
from farm.schedule import Estimate
from farm.store import Attempt, Job, Store

HISTORY_S = 400 * 24 * 3600


class Experience:
    """Estimates for jobs and speeds for nodes, from all attempts that the store knows."""

    def __init__(self, store: Store, now: float) -> None:
        self._history = [item for item in store.attempts(since=now - HISTORY_S) if _ended_well(item)]
        self._facts: dict[str, Facts] = {}
        self._read: Knowledge | None = None

    @property
    def _knowledge(self) -> Knowledge:
        if self._read is None:
            calibrated = {name: known.speed for name, known in self._facts.items() if known.speed}
            self._read = Knowledge.of(map(self._observation, self._history), calibrated)
        return self._read

    def meet(self, node: str, facts: Facts) -> None:
        """Take over what a node is; what was built before is read again in that light."""
        self._facts[node] = facts
        self._read = None

    def learn(self, attempt: Attempt) -> None:
        """Take over a build that ended."""
        if _ended_well(attempt):
            self._history.append(attempt)
            self._knowledge.observe(self._observation(attempt))

    def estimate(self, job: Job, sdist: Path | None) -> Estimate:
        """Return what a job is expected to be."""
        features = read_features(sdist) if sdist else None
        return self._knowledge.estimate(job.spec.project, job.spec.python, features)

    def speed(self, node: str) -> float:
        """Return the speed of a node's core; 1.0 is the reference core."""
        return self._knowledge.speed(node, node_class(self._facts.get(node)))

    def _observation(self, attempt: Attempt) -> Observation:
        result = attempt.result
        peak = result.get("peak_memory_bytes")
        processor = result.get("processor_s")
        return Observation(
            project=attempt.project,
            python=attempt.python,
            node_class=node_class(self._facts.get(attempt.node)),
            node=attempt.node,
            width=attempt.width,
            duration_s=float(str(result["duration_s"])),
            processor_s=sum(processor.values()) if isinstance(processor, dict) else None,
            # The node knows its largest process: one task.
            peak_memory_bytes=int(str(peak)) * attempt.width if peak else None,
        )


def node_class(facts: Facts | None) -> str:
    """Return the name that nodes of one kind of hardware share."""
    if facts is None:
        return ""
    model = re.sub(r"[^a-z0-9]+", "-", facts.model.lower()).strip("-")
    return f"{model or facts.machine}-{facts.cores}"


def _ended_well(attempt: Attempt) -> bool:
    return attempt.failure is None and bool(attempt.result.get("duration_s"))
