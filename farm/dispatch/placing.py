"""From jobs and nodes as the farm knows them to what a placing policy needs, and to what a node enforces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from farm.dispatch.outcome import memory_factor
from farm.executor import Limits
from farm.nodes import Facts, Node
from farm.plan import JobSpec
from farm.recipe import Recipe
from farm.schedule import Estimate, Needs, NodeState, QueuedJob
from farm.store import Failure, Job

# What the system, sshd and the page cache of a build keep for themselves.
SYSTEM_MEMORY: Final = 0.1
MIB: Final = 1 << 20
PROCESSES: Final = 512
PROCESSES_PER_TASK: Final = 64
# A build needs room for its tree, objects and environment; more than the least a node must have at all.
DISK_PER_SDIST_BYTE: Final = 50
MEMORY_SLACK: Final = 2.0


def needs_of(spec: JobSpec, estimate: Estimate, sdist_bytes: int) -> Needs:
    """Return what a node must have for a job."""
    recipe = spec.recipe
    return Needs(
        python=spec.python,
        features=frozenset(recipe.features),
        apt_packages=frozenset(recipe.apt_packages),
        nodes=frozenset(recipe.nodes),
        excluded=frozenset(recipe.exclude_nodes),
        memory_bytes=max((recipe.memory_mib or 0) * MIB, estimate.memory_bytes),
        disk_bytes=sdist_bytes * DISK_PER_SDIST_BYTE,
    )


def queued(
    job: Job,
    needs: Needs,
    estimate: Estimate,
    after: frozenset[str],
    failures: Mapping[Failure, Mapping[str, int]],
) -> QueuedJob:
    """Return a queued job for the policy."""
    failed_on = failures.get(Failure.NODE, {})
    return QueuedJob(job.job_id, estimate, needs, after, failed_on, job.spec.project)


def corrected(
    estimate: Estimate, recipe: Recipe, failures: Mapping[Failure, Mapping[str, int]], largest_bytes: int
) -> Estimate:
    """Return an estimate with what the recipe says of memory, and what failures taught.

    Never more than the largest node has (``largest_bytes``): there it is tried alone before it is given up.
    """
    told = (recipe.memory_mib_per_task or 0) * MIB or estimate.memory_bytes
    memory = int(told * memory_factor(failures))
    return Estimate(
        serial_s=estimate.serial_s,
        parallel_s=estimate.parallel_s,
        memory_bytes=min(memory, largest_bytes) if largest_bytes else memory,
        spread=estimate.spread,
    )


def node_state(
    node: Node, facts: Facts, speed: float, *, disk_free_bytes: int | None = None, usable: bool = True
) -> NodeState:
    """Return a node for the policy; ``disk_free_bytes`` is newer than what its facts say."""
    return NodeState(
        name=node.name,
        cores=facts.cores,
        memory_bytes=build_memory(facts),
        disk_free_bytes=facts.disk_free_bytes if disk_free_bytes is None else disk_free_bytes,
        speed=speed,
        pythons=frozenset(facts.pythons),
        features=features(node, facts),
        apt_packages=facts.apt_packages,
        max_jobs=node.slots,
        usable=usable,
    )


def features(node: Node, facts: Facts) -> frozenset[str]:
    """Return what a recipe can ask for by ``features``: labels, toolchains, ISA extensions."""
    rust = {"rust"} if facts.rustc else set()
    return frozenset({*node.labels, *rust, *facts.extensions})


def build_memory(facts: Facts) -> int:
    """Return how much of a node's memory builds may use in all (F25)."""
    return int(facts.memory_bytes * (1 - SYSTEM_MEMORY))


def limits(job: Job, width: int, estimate: Estimate, needs: Needs, node: NodeState) -> Limits:
    """Return what the node enforces: memory by share and estimate, and time by its speed (F17, F30)."""
    share = node.memory_bytes * width // node.cores
    return Limits(
        time_s=job.spec.recipe.timeout_s / min(1.0, node.speed),
        memory_bytes=min(node.memory_bytes, max(share, int(estimate.memory_bytes * width * MEMORY_SLACK))),
        processes=PROCESSES + PROCESSES_PER_TASK * width,
        disk_bytes=needs.disk_bytes,
    )


def nobody(whys: Mapping[str, Sequence[str]]) -> str:
    """Return in one line which requirement no node meets; ``whys`` says what each node lacks."""
    everywhere = set.intersection(*(set(lacks) for lacks in whys.values()))
    if everywhere:
        return f"no node can take it: {'; '.join(sorted(everywhere))} (all {len(whys)} nodes)"
    each = "; ".join(f"{node}: {', '.join(lacks)}" for node, lacks in whys.items())
    return f"no node can take it ({each})"
