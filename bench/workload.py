"""Synthetic farms and queues for `bench.schedule`; the model is that of the project's scheduling facts.

60 projects x 4 CPythons. What a project costs on one reference core (a BananaPi F3's) is log-normal, median
5 min, cut to 10 s ... 3 h; one is torch, 10 h for each Python. Pythons of a project differ by a few percent.
How well a build spreads over cores and what a task needs of memory follow the language. A sixth of the
projects wait for one of six others, for the same Python.

What the farm believes (nothing of the truth gets in another way):
noisy: each job's cost times a factor, uniform in 0.5 ... 1.5; memory is known. The default policy averages
  the Pythons of a project, whose errors differ here (`farm.schedule.pool`).
noisy by project: one such factor for all Pythons of a project, so that averaging helps nothing.
cold: `farm.estimate.Knowledge` without history, fed with what it would see in reality:
  - sdist features. Bytes of source follow the cost only with a log-normal error of a factor e (sd 1.0 of
    the logarithm; with the shipped rates, 7 sdists measured for the cost list have 0.4, but the rates were
    chosen after them). A Rust project's own source tells nothing of its cost: that is in the crates.
  - the table of giants: torch is always in it, other projects of more than an hour with a chance of 0.7, of
    20 min to an hour of 0.3; a line is off by a log-normal factor (sd 0.5).
  Builds that end teach it, as do builds that run longer than expected.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from farm.estimate import Giant, Knowledge, Language, Observation, SdistFeatures
from farm.estimate.cold import BASE_S, MEMORY, SECONDS_PER_KIB
from farm.schedule import Estimate, Needs, NodeState
from farm.schedule.bound import Build

PYTHONS: Final = ("cp311", "cp312", "cp313", "cp314")
PROJECTS: Final = 60
GB: Final = 1_000_000_000
OVERHEAD_S: Final = 3.0
MEDIAN_S: Final = 300.0
SIGMA: Final = 1.6
LEAST_S: Final = 10.0
MOST_S: Final = 3 * 3600.0
TORCH_S: Final = 10 * 3600.0
NEEDED: Final = range(20, 26)
"""Projects that others may wait for."""
HOUR_S: Final = 3600.0
FEATURE_SIGMA: Final = 1.0
TABLE_SIGMA: Final = 0.5
LANGUAGES: Final = (Language.C, Language.CYTHON, Language.CXX, Language.RUST)
WEIGHTS: Final = (0.4, 0.2, 0.2, 0.2)
SERIAL: Final[Mapping[Language, tuple[float, float]]] = {
    Language.C: (0.05, 0.3),
    Language.CYTHON: (0.05, 0.25),
    Language.CXX: (0.02, 0.08),
    Language.RUST: (0.1, 0.3),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A queue with its true costs, and what can be known of it beforehand."""

    builds: tuple[Build, ...]
    features: Mapping[str, SdistFeatures]
    table: Mapping[str, Giant]


def node(name: str, cores: int, memory_gb: int, speed: float) -> NodeState:
    """Return a node that can build everything."""
    return NodeState(
        name=name,
        cores=cores,
        memory_bytes=memory_gb * GB,
        disk_free_bytes=500 * GB,
        speed=speed,
        pythons=frozenset(PYTHONS),
        features=frozenset({"rust"}),
        apt_packages=frozenset(),
        max_jobs=None,
    )


def fleet(f3: int, sg2044: int) -> list[NodeState]:
    """Return boards: F3 with 8 cores, 16 GB, speed 1; SG2044 with 64, 128 GB, and cores twice as fast.

    Twice: the C920 of an SG2044 is out of order at 2.6 GHz, the X60 of an F3 in order at 1.6 GHz.
    """
    return [node(f"f3-{number:03}", 8, 16, 1.0) for number in range(f3)] + [
        node(f"sg2044-{number:03}", 64, 128, 2.0) for number in range(sg2044)
    ]


def workload(seed: int, projects: int = PROJECTS) -> Workload:
    """Return the queue of a seed."""
    rng = random.Random(seed)  # noqa: S311  # a simulation
    builds: list[Build] = []
    features: dict[str, SdistFeatures] = {}
    table: dict[str, Giant] = {}
    for number in range(projects):
        torch = number == 0
        name = "torch" if torch else f"project{number:04}"
        language = Language.CXX if torch else rng.choices(LANGUAGES, WEIGHTS)[0]
        cost = min(MOST_S, max(LEAST_S, rng.lognormvariate(math.log(MEDIAN_S), SIGMA)))
        cost = TORCH_S if torch else cost
        share = 0.03 if torch else rng.uniform(*SERIAL[language])
        memory = 3 * GB if torch else MEMORY[language]
        before = f"project{rng.choice(NEEDED):04}" if rng.random() < 1 / 6 else ""
        features[name] = _features(rng, language, cost)
        if entry := _table_entry(rng, cost, share, memory, known=torch):
            table[name] = entry
        for python in PYTHONS:
            work = cost * rng.uniform(0.92, 1.08)
            after = {f"{before}-{python}"} if before and not torch and number not in NEEDED else set()
            truth = Estimate(work * share, work * (1 - share), memory, 1.0)
            builds.append(Build(f"{name}-{python}", truth, Needs(python=python), frozenset(after), name))
    present = {build.job_id for build in builds}
    kept = [b for b in builds if b.after <= present]
    return Workload(tuple(kept), features, table)


def _features(rng: random.Random, language: Language, cost: float) -> SdistFeatures:
    if language is Language.RUST:
        return SdistFeatures(
            100_000, {language: round(rng.lognormvariate(math.log(60_000), 1.0))}, cargo=True
        )
    size = max(5.0, cost - BASE_S) / SECONDS_PER_KIB[language] * 1024
    size *= rng.lognormvariate(0.0, FEATURE_SIGMA)
    return SdistFeatures(round(size / 4), {language: round(size)})


def _table_entry(rng: random.Random, cost: float, share: float, memory: int, *, known: bool) -> Giant | None:
    chance = 0.7 if cost > HOUR_S else 0.3 if cost > HOUR_S / 3 else 0.0
    listed, factor = rng.random() < chance, rng.lognormvariate(0.0, TABLE_SIGMA)
    serial = min(0.6, share * rng.lognormvariate(0.0, TABLE_SIGMA))
    return Giant(cost / 3600 * factor, serial, memory) if known or listed else None


def noisy(work: Workload, seed: int, *, by_project: bool = False) -> Mapping[str, Estimate]:
    """Return estimates that are off by up to half; by project: alike for all its Pythons."""
    rng = random.Random(f"noise {seed}")  # noqa: S311  # a simulation
    believed: dict[str, Estimate] = {}
    factors: dict[str, float] = {}
    for build in work.builds:
        factor, truth = rng.uniform(0.5, 1.5), build.truth
        if by_project:
            factor = factors.setdefault(build.project, factor)
        believed[build.job_id] = Estimate(
            truth.serial_s * factor, truth.parallel_s * factor, truth.memory_bytes, 1.5
        )
    return believed


class Cold:
    """A farm on its first day: it knows its nodes, a table and file lists, and learns as it goes."""

    def __init__(self, work: Workload, nodes: Sequence[NodeState]) -> None:
        """Know nothing of how long anything takes."""
        self._work = work
        self._knowledge = Knowledge({node.name: node.speed for node in nodes}, work.table)
        self._cache: dict[str, Estimate] = {}

    def estimate(self, build: Build) -> Estimate:
        """Return the estimate of a build's project."""
        if build.project not in self._cache:
            self._cache[build.project] = self._knowledge.estimate(
                build.project, build.needs.python, self._work.features[build.project]
            )
        return self._cache[build.project]

    def running(self, build: Build, node: str, width: float, elapsed_s: float) -> None:
        """Learn from a build that takes longer than expected."""
        self._learn(build, node, width, elapsed_s, finished=False)

    def ended(self, build: Build, node: str, width: float, duration_s: float) -> None:
        """Learn from a build."""
        self._learn(build, node, width, duration_s, finished=True)

    def _learn(self, build: Build, node: str, width: float, seconds: float, *, finished: bool) -> None:
        features = self._work.features[build.project]
        before = self.estimate(build)
        processor = build.truth.work_s / self._knowledge.speed(node) if finished else None
        seen = Observation(
            build.project, build.needs.python, node.partition("-")[0], node, width, seconds, processor,
            None, finished,
        )  # fmt: skip
        self._knowledge.observe(seen, features)
        after = self._knowledge.estimate(build.project, build.needs.python, features)
        if after != before:
            self._cache[build.project] = after
