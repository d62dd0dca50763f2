"""From jobs and nodes to what the policy sees and the node enforces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from farm.dispatch.placing import corrected, limits, needs_of, nobody, node_state
from farm.nodes import Address, Node
from farm.recipe import DEFAULT, Recipe
from farm.schedule import Estimate
from farm.schedule.widths import Widths
from farm.store import Failure, Job, State
from tests.unit.plankit import spec
from tests.unit.test_nodes import FACTS

GIB = 1 << 30
SMALL = Estimate(serial_s=5, parallel_s=50, memory_bytes=GIB // 2, spread=1.2)
NODE = Node(Address("f3", "h", 22, "u", Path("/k"), Path("/h")), 2, "/root", frozenset({"nvme"}))


def job(recipe: Recipe = DEFAULT, width: int = 4) -> Job:
    wanted = spec(recipe=recipe)
    return Job(
        job_id=wanted.job_id,
        spec=wanted,
        state=State.LEASED,
        attempt=1,
        node="f3",
        widths=Widths(width),
        failure=None,
        message="",
        queued_at=1.0,
        started_at=2.0,
        ended_at=None,
        wheel=None,
        wheel_sha256=None,
        cancelling=False,
    )


def test_a_node_offers_its_labels_toolchains_and_extensions() -> None:
    state = node_state(NODE, replace(FACTS, rustc="rustc 1.85", isa="rv64imafdcv_zba"), 1.5)
    assert {"nvme", "rust", "v", "zba"} <= state.features
    assert (state.speed, state.max_jobs, state.cores) == (1.5, 2, 8)
    assert state.memory_bytes < FACTS.memory_bytes, "the system keeps some"
    assert node_state(NODE, FACTS, 1.0, disk_free_bytes=5).disk_free_bytes == 5


def test_a_recipe_s_needs() -> None:
    recipe = Recipe(nodes=["f3"], exclude_nodes=["sg"], features=["nvme"], memory_mib=4096)
    needs = needs_of(spec(recipe=recipe), SMALL, 1000)
    assert needs.nodes == {"f3"}
    assert needs.excluded == {"sg"}
    assert needs.features == {"nvme"}
    assert needs.memory_bytes == 4 * GIB
    assert needs.disk_bytes > 1000


def test_f25_memory_is_what_recipe_and_failures_say_up_to_the_largest_node() -> None:
    failed = {Failure.MEMORY: {"f3": 2}}
    assert corrected(SMALL, DEFAULT, {}, 16 * GIB).memory_bytes == GIB // 2
    assert corrected(SMALL, Recipe(memory_mib_per_task=3072), {}, 16 * GIB).memory_bytes == 3 * GIB
    assert corrected(SMALL, DEFAULT, failed, 16 * GIB).memory_bytes == 2 * GIB
    assert corrected(SMALL, DEFAULT, failed, GIB).memory_bytes == GIB, (
        "tried alone there before it is given up"
    )


@given(st.floats(0.01, 16), st.integers(1, 8), st.integers(1, 1 << 36))
def test_f17_f30_limits_fit_the_node(speed: float, width: int, memory: int) -> None:
    state = node_state(NODE, FACTS, speed)
    estimate = replace(SMALL, memory_bytes=memory)
    one = job(Recipe(timeout_s=600), width)
    found = limits(one, width, estimate, needs_of(one.spec, estimate, 10), state)
    assert found.time_s >= 600, "no slow node ends earlier what a fast one would have ended"
    assert found.time_s == 600 / min(1.0, speed)
    assert found.memory_bytes is not None
    assert state.memory_bytes * width // state.cores <= found.memory_bytes <= state.memory_bytes


def test_what_nobody_has_is_named_first() -> None:
    same = {"f3": ("no cp312", "no zvbb"), "sg": ("no zvbb",)}
    assert nobody(same) == "no node can take it: no zvbb (all 2 nodes)"
    assert (
        nobody({"f3": ("no cp312",), "sg": ("no zvbb",)}) == "no node can take it (f3: no cp312; sg: no zvbb)"
    )
