"""What the farm learnt of projects and nodes, kept up to date with the store."""

from __future__ import annotations

import re
from pathlib import Path

from farm.estimate import Knowledge, Observation, read_features
from farm.nodes import Facts
from farm.plan import JobSpec
from farm.schedule import Estimate
from farm.store import Attempt, Store

HISTORY_S = 400 * 24 * 3600


class Experience:
    """Estimates for jobs and speeds for nodes, from all attempts that the store knows."""

    def __init__(self, store: Store, now: float) -> None:
        self._history = [item for item in store.attempts(since=now - HISTORY_S) if ended_well(item)]
        self._facts: dict[str, Facts] = {}
        self._read: Knowledge | None = None

    @property
    def _knowledge(self) -> Knowledge:
        if self._read is None:
            calibrated = {name: known.speed for name, known in self._facts.items() if known.speed}
            seen = (observation(item, node_class(self._facts.get(item.node))) for item in self._history)
            self._read = Knowledge.of(seen, calibrated)
        return self._read

    def meet(self, node: str, facts: Facts) -> None:
        """Take over what a node is; what was built before is read again in that light."""
        self._facts[node] = facts
        self._read = None

    def learn(self, attempt: Attempt) -> None:
        """Take over a build that ended."""
        if ended_well(attempt):
            self._history.append(attempt)
            self._knowledge.observe(observation(attempt, node_class(self._facts.get(attempt.node))))

    def estimate(self, spec: JobSpec, sdist: Path | None) -> Estimate:
        """Return what a job is expected to be."""
        features = read_features(sdist) if sdist else None
        return self._knowledge.estimate(spec.project, spec.python, features)

    def speed(self, node: str) -> float:
        """Return the speed of a node's core; 1.0 is the reference core."""
        return self._knowledge.speed(node, node_class(self._facts.get(node)))


def observation(attempt: Attempt, kind: str = "") -> Observation:
    """Return what can be learnt from an attempt that ended well; ``kind`` is its node's class."""
    result = attempt.result
    peak, processor = int(str(result.get("peak_memory_bytes") or 0)), result.get("processor_s")
    duration_s = float(str(result["duration_s"]))
    # Where the node knows its largest process alone: one task.
    tasks = 1 if result.get("peak_of_tree") else attempt.widths.now
    return Observation(
        project=attempt.project,
        python=attempt.python,
        node_class=kind,
        node=attempt.node,
        width=attempt.widths.mean(duration_s),
        most=attempt.widths.now,
        duration_s=duration_s,
        processor_s=sum(processor.values()) if isinstance(processor, dict) else None,
        peak_memory_bytes=peak * tasks if peak else None,
    )


def node_class(facts: Facts | None) -> str:
    """Return the name that nodes of one kind of hardware share."""
    if facts is None:
        return ""
    model = re.sub(r"[^a-z0-9]+", "-", facts.model.lower()).strip("-")
    return f"{model or facts.machine}-{facts.cores}"


def ended_well(attempt: Attempt) -> bool:
    """Return whether there is something to learn from an attempt."""
    return attempt.failure is None and bool(attempt.result.get("duration_s"))
