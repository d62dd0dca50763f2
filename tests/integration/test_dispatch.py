"""Whole dispatches over two nodes behind real sshds."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import ExitCode, NodeError
from farm.executor import Limits, Update
from farm.node.supervise import WIDTH
from farm.nodes import Node
from farm.recipe import Recipe
from farm.store import Failure, Mark, State
from tests.integration.farmkit import QUICK, Farm, Riscv64
from tests.integration.nodekit import forgotten, gated, gone, sleeping, until
from tests.integration.sshkit import Sshd
from tests.unit.test_nodes import FACTS
from tests.unit.verify.wheelkit import make_elf, write_wheel

pytestmark = pytest.mark.integration
FAILING = "def build_wheel(*_):\n    raise SystemExit('error: no compiler')\n"


def test_two_jobs_are_built_on_two_nodes_at_once_and_a_failing_one_stops_nobody(farm: Farm) -> None:
    for project in ("one", "two"):
        farm.queue(project, farm.gated(project))
    farm.queue("bad", FAILING)
    with farm.running():
        until(lambda: farm.waits("one") and farm.waits("two"), "both to be built at once")
    one, two, bad = (farm.job(project) for project in ("one", "two", "bad"))
    assert {one.node, two.node} == {"f3", "sg"}
    assert (one.state, two.state) == (State.PUBLISHED, State.PUBLISHED)
    assert (bad.state, bad.failure) == (State.FAILED, Failure.BUILD)
    assert "error: no compiler" in farm.log("bad")
    assert sorted(farm.published) == sorted([str(one.wheel), str(two.wheel)])
    for node in farm.nodes:
        forgotten(Path(node.root))  # confirmed (F22)


def test_one_node_builds_several_at_once_and_never_more_than_it_may(farm: Farm) -> None:
    farm.nodes = [replace(farm.nodes[0], slots=2)]
    for project in ("one", "two", "three"):
        farm.queue(project, farm.gated(project))
    names = ("one", "two", "three")
    with farm.running():
        until(lambda: sum(farm.waits(name) for name in names) == 2, "two to be built at once")
        with farm.store() as store:
            active = [job for job in store.jobs(ended=False) if job.state.on_node]
        assert len(active) == 2
        assert sum(job.width for job in active) <= 16
    assert {farm.state(name) for name in names} == {State.PUBLISHED}


def width_there(farm: Farm, project: str) -> int:
    """How many tasks the node lets a build run at once."""
    job = farm.job(project)
    (root,) = (Path(node.root) for node in farm.nodes if node.name == job.node)
    return int(json.loads((root / "jobs" / job.attempt_id / WIDTH).read_text())["width"])


def test_a_build_gets_the_cores_that_nobody_else_wants(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    with farm.store() as store:
        store.lease(spec.job_id, "sg", 2)
    with farm.running():
        until(lambda: farm.waits("one"), "the build to begin")
        until(lambda: farm.job("one").width > 2, "it to be widened")
        until(lambda: width_there(farm, "one") == farm.job("one").width, "the node to hear of it")
    with farm.store() as store:
        widths = store.attempt(spec.job_id).widths
    assert (widths.first, widths.now) == (2, farm.job("one").width)
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 1)


class Narrow(Riscv64):
    """A node whose systemd won't change a unit."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.asked = self.polls = 0

    def widen(self, attempt_id: str, width: int, limits: Limits) -> bool:  # noqa: ARG002
        self.asked += 1
        raise NodeError(self.node.name, f"{attempt_id}: no unit of that name")

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        self.polls += 1
        return super().poll(offsets, wait_s)


def test_a_node_that_cant_widen_a_build_is_told_once_and_builds_on(farm: Farm) -> None:
    node = Narrow(farm.nodes[-1])
    farm.nodes, farm.executors = [node.node], {node.node.name: node}
    spec = farm.queue("one", farm.gated("one"))
    with farm.store() as store:
        store.lease(spec.job_id, node.node.name, 2)
    with farm.running():
        until(lambda: node.asked, "the node to be told")
        seen = node.polls
        until(lambda: node.polls > seen + 3, "it to be visited again")
    assert node.asked == 1
    assert [note for note in farm.recorder.notes if "no unit" in note] == [
        f"{node.node.name}: {farm.job('one').attempt_id}: no unit of that name"
    ]
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 1)


def test_a_width_that_a_killed_controller_told_nobody_is_told_by_the_next(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    controller = farm.controller()
    until(lambda: farm.waits("one") and farm.state("one") is State.RUNNING, "the build to begin")
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    with farm.store() as store:
        wider = store.widen(spec.job_id, 40).width
    with farm.running():
        until(lambda: width_there(farm, "one") == wider, "the node to hear of it")
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 1)


def test_f10_a_build_outlives_its_link_and_is_taken_up_again(farm: Farm, sshds: list[Sshd]) -> None:
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: farm.waits("one"), "the build to begin")
        until(lambda: farm.state("one") is State.RUNNING, "the controller to see it run")
        for sshd in sshds:
            sshd.stop()
        farm.open("one")
        for sshd in sshds:
            sshd.start()
    job = farm.job("one")
    assert (job.state, job.attempt, job.message) == (State.PUBLISHED, 1, "")
    assert farm.log("one").count("gate open") == 1
    assert "[farm] finished: ok" in farm.log("one")


def test_f10_a_killed_controller_is_followed_by_one_that_goes_on(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"))
    farm.queue("two", farm.gated("two"))
    controller = farm.controller()
    until(lambda: farm.waits("one") and farm.waits("two"), "the builds to begin")
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    farm.open("one")
    farm.open("two")
    farm.run()
    assert [(farm.job(p).state, farm.job(p).attempt) for p in ("one", "two")] == [(State.PUBLISHED, 1)] * 2
    assert farm.log("one").count("gate open") == 1
    assert len(farm.published) == 2


def test_f10_a_lease_that_never_reached_the_node_is_started(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    farm.open("one")
    with farm.store() as store:
        store.lease(spec.job_id, "sg", 3)
    farm.run()
    job = farm.job("one")
    assert (job.state, job.attempt, job.node, job.widths.first) == (State.PUBLISHED, 1, "sg", 3)


def test_a_lease_on_a_node_that_left_the_inventory_is_built_elsewhere(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    farm.open("one")
    with farm.store() as store:
        store.lease(spec.job_id, "sold", 1)
    farm.run()
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 2)


def test_a_node_that_stays_away_loses_its_job_to_another_one(farm: Farm, sshds: list[Sshd]) -> None:
    farm.tempo = replace(QUICK, lost_s=0.5)
    farm.queue("one", farm.gated("one"), Recipe(exclude_nodes=["sg"]))
    with farm.running():
        until(lambda: farm.waits("one"), "the build to begin")
        first = farm.job("one")
        assert first.node == "f3"
        sshds[0].stop()
        with farm.store() as store:
            # The owner of the farm lets it go anywhere.
            store.enqueue(dataclasses.replace(first.spec, recipe=Recipe()))
        until(lambda: farm.job("one").node == "sg", "the other node to have it")
        sshds[0].start()
        farm.open("one")
        until(lambda: farm.state("one") is State.PUBLISHED, "it to be published")
    assert farm.job("one").attempt == 2
    assert len(farm.published) == 1
    farm.queue("two", farm.gated("two"), Recipe(nodes=["f3"]))
    farm.open("two")
    farm.run()
    forgotten(Path(farm.nodes[0].root))


def test_f11_of_two_names_for_one_machine_one_is_used(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Riscv64, "prepare", lambda _self: FACTS)
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    dispatcher = farm.run()
    assert farm.state("one") is State.PUBLISHED
    assert [error.exit_code for error in dispatcher.errors] == [ExitCode.NODE]
    assert "the same machine as" in dispatcher.errors[0].message


def two_recipes(farm: Farm) -> tuple[str, Recipe, Recipe]:
    """A backend whose wheel depends on the recipe, and two recipes."""
    for letter in "ab":
        wheel = farm.wheel("one")
        folder = farm.directory / letter
        folder.mkdir(exist_ok=True)
        write_wheel(folder, wheel.name, {"one/core.so": make_elf(), "one/which.txt": letter.encode()})
    content = f"pathlib.Path({str(farm.directory)!r}, __import__('os').environ['WHICH'], {wheel.name!r})"
    backend = gated(farm.gate("one"), wheel.name, f"{content}.read_bytes()")
    return backend, Recipe(environment={"WHICH": "a"}), Recipe(environment={"WHICH": "b"})


def test_f06_a_rebuild_by_another_recipe_gets_the_next_build_tag(farm: Farm) -> None:
    farm.index = True
    farm.open("one")
    backend, first, second = two_recipes(farm)
    for recipe in (first, second):
        spec = farm.queue("one", backend, recipe)
        assert not farm.run().errors
    tagged = "one-1.0{}-cp313-cp313-manylinux_2_39_riscv64.whl"
    assert farm.published == [tagged.format(""), tagged.format("-1")]
    # A farm that lost its database builds again what is published, and it is the same.
    farm.paths.database.unlink()
    with farm.store() as store:
        store.enqueue(spec)
    assert not farm.run().errors
    assert farm.published[2:] == [tagged.format("-1")]


def test_f06_of_two_jobs_of_one_name_the_later_one_is_built_again_with_a_tag(farm: Farm) -> None:
    farm.index = True
    backend, first, second = two_recipes(farm)
    specs = [farm.queue("one", backend, recipe) for recipe in (first, second)]
    farm.open("one")
    assert not farm.run().errors
    tagged = "one-1.0{}-cp313-cp313-manylinux_2_39_riscv64.whl"
    assert farm.published == [tagged.format(""), tagged.format("-1")]
    with farm.store() as store:
        jobs = [store.job(spec.job_id) for spec in specs]
    assert {job.state for job in jobs} == {State.PUBLISHED}
    assert sorted((job.attempt, job.spec.build_tag) for job in jobs) == [(1, ""), (2, "1")]


def test_a_wheel_that_fails_a_gate_is_not_published(farm: Farm) -> None:
    name = "one-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
    farm.open("one")
    farm.queue("one", gated(farm.gate("one"), name, "b'no zip'"))
    farm.run()
    job = farm.job("one")
    assert (job.state, job.failure) == (State.FAILED, Failure.POLICY)
    assert farm.published == []


def test_a_collected_wheel_that_was_deleted_is_built_again(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    farm.open("one")
    with farm.store() as store:
        store.lease(spec.job_id, "f3", 1)
        store.built(spec.job_id, farm.wheel("one").name, "0" * 64, "{}")
    farm.run()
    job = farm.job("one")
    assert (job.state, job.attempt) == (State.PUBLISHED, 2)


def needing(farm: Farm, project: str, *requires: str) -> None:
    listed = ", ".join(f'"{item}"' for item in requires)
    pyproject = f'[build-system]\nrequires = [{listed}]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    farm.queue(project, farm.gated(project), files={"pyproject.toml": pyproject.encode()})


def test_a_job_waits_for_what_it_needs_and_falls_with_it(farm: Farm) -> None:
    needing(farm, "upper", "base")
    needing(farm, "top", "upper")
    farm.queue("base", FAILING)
    farm.run()
    assert farm.job("base").failure is Failure.BUILD
    for project, below in (("upper", "base"), ("top", "upper")):
        job = farm.job(project)
        assert (job.failure, job.attempt) == (Failure.DEPENDENCY, 0)
        assert f"needs {below}-1.0" in job.message


def test_a_cycle_names_its_path(farm: Farm) -> None:
    needing(farm, "one", "two")
    needing(farm, "two", "three")
    needing(farm, "three", "one")
    dispatcher = farm.run()
    assert {farm.job(p).failure for p in ("one", "two", "three")} == {Failure.DEPENDENCY}
    assert "one 1.0 needs two 1.0 needs three 1.0 needs one 1.0" in dispatcher.errors[0].message


def test_a_job_that_no_node_can_run_says_what_nobody_has(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"), Recipe(features=["zvbb"], apt_packages=["libyaml-dev"]))
    farm.run()
    job = farm.job("one")
    assert (job.state, job.failure) == (State.FAILED, Failure.NODE)
    assert "no zvbb" in job.message
    assert "missing packages: libyaml-dev" in job.message


def test_a_recipe_pins_and_excludes(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"), Recipe(nodes=["sg"]))
    farm.queue("two", farm.gated("two"), Recipe(exclude_nodes=["sg"]))
    farm.open("one", "two")
    farm.run()
    assert (farm.job("one").node, farm.job("two").node) == ("sg", "f3")


def test_drained_nodes_get_nothing_new_and_resumed_ones_do(farm: Farm) -> None:
    farm.nodes = farm.nodes[:1]
    farm.queue("one", farm.gated("one"))
    farm.queue("two", farm.gated("two"))
    with farm.running():
        until(lambda: farm.waits("one") or farm.waits("two"), "a build to begin")
        with farm.store() as store:
            store.mark("f3", Mark.DRAINED, "new fan")
        first, second = ("one", "two") if farm.waits("one") else ("two", "one")
        until(lambda: any("drained" in note for note in farm.recorder.notes), "the controller to hear of it")
        farm.open(first)
        until(lambda: farm.state(first) is State.PUBLISHED, "what ran to go on")
        assert farm.state(second) is State.QUEUED
        farm.open(second)
    assert farm.state(second) is State.QUEUED
    with farm.store() as store:
        store.unmark("f3", Mark.DRAINED)
    farm.run()
    assert farm.state(second) is State.PUBLISHED


def test_all_drained_is_said_at_once(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"))
    with farm.store() as store:
        for node in farm.nodes:
            store.mark(node.name, Mark.DRAINED, "")
    dispatcher = farm.run()
    assert "every node is drained" in dispatcher.errors[0].message
    assert "farm resume f3 sg" in dispatcher.errors[0].hint


def test_cancel_ends_the_whole_process_tree(farm: Farm, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    spec = farm.queue("one", sleeping(pids))
    with farm.running():
        until(pids.exists, "the build to begin")
        with farm.store() as store:
            store.cancel(spec.job_id)
        until(lambda: farm.state("one").ended, "it to be cancelled")
        assert gone(pids)
    assert farm.job("one").failure is Failure.CANCELLED
    with farm.store() as store:
        store.retry(spec.job_id)
        assert store.job(spec.job_id).state is State.QUEUED
