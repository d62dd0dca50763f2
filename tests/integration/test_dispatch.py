"""Whole dispatches over two nodes behind real sshds."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import ExitCode
from farm.executor import Vitals
from farm.executor.base import Launch, NodeFile, Update
from farm.nodes import Facts, Node
from farm.recipe import Recipe
from farm.store import Failure, Mark, State
from tests.integration.farmkit import QUICK, Farm, Riscv64
from tests.integration.nodekit import gated, gone, sleeping, until
from tests.integration.sshkit import Sshd
from tests.unit.test_nodes import FACTS

pytestmark = pytest.mark.integration
FAILING = "def build_wheel(*_):\n    raise SystemExit('error: no compiler')\n"


@pytest.fixture
def farm(tmp_path: Path, sshds: list[Sshd], farm_node: Path) -> Farm:
    for sshd in sshds:
        sshd.start()
    return Farm(tmp_path, [sshd.node for sshd in sshds], farm_node)


def state(farm: Farm, project: str) -> State:
    return farm.job(project).state


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
        assert list(Path(node.root, "jobs").iterdir()) == [], "confirmed, so forgotten (F22)"


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
    assert {state(farm, name) for name in names} == {State.PUBLISHED}


def test_f10_a_build_outlives_its_link_and_is_taken_up_again(farm: Farm, sshds: list[Sshd]) -> None:
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: farm.waits("one"), "the build to begin")
        until(lambda: state(farm, "one") is State.RUNNING, "the controller to see it run")
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
    assert (job.state, job.attempt, job.node, job.width) == (State.PUBLISHED, 1, "sg", 3)


def test_a_lease_on_a_node_that_left_the_inventory_is_built_elsewhere(farm: Farm) -> None:
    spec = farm.queue("one", farm.gated("one"))
    farm.open("one")
    with farm.store() as store:
        store.lease(spec.job_id, "sold", 1)
    farm.run()
    assert (state(farm, "one"), farm.job("one").attempt) == (State.PUBLISHED, 2)


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
        until(lambda: state(farm, "one") is State.PUBLISHED, "it to be published")
    assert farm.job("one").attempt == 2
    assert len(farm.published) == 1
    farm.queue("two", farm.gated("two"), Recipe(nodes=["f3"]))
    farm.open("two")
    farm.run()
    assert not list(Path(farm.nodes[0].root, "jobs").iterdir()), "what was given up there is forgotten"


def test_f11_of_two_names_for_one_machine_one_is_used(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Riscv64, "prepare", lambda _self: FACTS)
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    dispatcher = farm.run()
    assert state(farm, "one") is State.PUBLISHED
    assert [error.exit_code for error in dispatcher.errors] == [ExitCode.NODE]
    assert "the same machine as" in dispatcher.errors[0].message


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
        until(lambda: state(farm, first) is State.PUBLISHED, "what ran to go on")
        assert state(farm, second) is State.QUEUED
        farm.open(second)
    assert state(farm, second) is State.QUEUED
    with farm.store() as store:
        store.unmark("f3", Mark.DRAINED)
    farm.run()
    assert state(farm, second) is State.PUBLISHED


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
        until(lambda: state(farm, "one").ended, "it to be cancelled")
        assert gone(pids)
    assert farm.job("one").failure is Failure.CANCELLED
    with farm.store() as store:
        store.retry(spec.job_id)
        assert store.job(spec.job_id).state is State.QUEUED


class Full(Riscv64):
    """A node whose disk is full, until it is not."""

    free = 1 << 20

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        update = super().poll(offsets, wait_s)
        return replace(update, vitals=replace(update.vitals, disk_free_bytes=self.free))


def test_f21_a_full_node_gets_no_jobs_until_it_is_well(farm: Farm) -> None:
    full = Full(farm.nodes[0])
    farm.executors = {"f3": full}
    for project in ("one", "two"):
        farm.queue(project, farm.gated(project))
    farm.open("one")
    with farm.running():
        until(lambda: state(farm, "one") is State.PUBLISHED and farm.waits("two"), "the other node to work")
        with farm.store() as store:
            assert "MiB of disk are free" in store.marks()["f3"][Mark.QUARANTINED].reason
        assert (farm.job("one").node, farm.job("two").node) == ("sg", "sg")
        full.free = 100 << 30
        until(lambda: "f3: well again" in farm.recorder.notes, "it to be found well")
        with farm.store() as store:
            assert store.marks() == {}


class Skewed(Riscv64):
    """A node whose clock is an hour behind."""

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        update = super().poll(offsets, wait_s)
        return replace(update, vitals=replace(update.vitals, clock=update.vitals.clock - 3600))


def test_a_node_with_a_wrong_clock_is_quarantined_and_its_jobs_go_elsewhere(farm: Farm) -> None:
    farm.executors = {"f3": Skewed(farm.nodes[0])}
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    farm.run()
    assert farm.job("one").node == "sg"
    assert any("its clock is 3600 s behind" in note for note in farm.recorder.notes)


class Breaking(Riscv64):
    """A node on which every build fails at once, though it finds nothing wrong with itself."""

    def start(self, launch: Launch) -> Vitals:
        (Path(self.node.root) / "work").mkdir(exist_ok=True)
        (Path(self.node.root) / "broken").touch()
        return super().start(launch)


def test_f21_three_fast_failures_in_a_row_are_the_node_s_fault(farm: Farm) -> None:
    # What is broken there is known to the backend only: it fails below f3's folder and nowhere else.
    names = [f"p{number}" for number in range(6)]
    for name in names:
        wheel = farm.wheel(name)
        farm.queue(
            name,
            f"""
            import pathlib
            def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
                if {farm.nodes[0].root!r} in wheel_directory:
                    raise SystemExit("error: cc1: bad magic")
                wheel = pathlib.Path({str(wheel)!r})
                pathlib.Path(wheel_directory, wheel.name).write_bytes(wheel.read_bytes())
                return {wheel.name!r}
            """,
        )
    farm.run()
    assert {state(farm, name) for name in names} == {State.PUBLISHED}
    assert {farm.job(name).node for name in names} == {"sg"}
    assert any("3 builds in a row failed there at once" in note for note in farm.recorder.notes)


class Liar(Riscv64):
    """A node that promises another hash than its wheel has."""

    def collect(self, attempt_id: str, file: NodeFile, directory: Path) -> Path:
        return super().collect(attempt_id, replace(file, sha256="0" * 64), directory)


def test_a_lying_node_is_quarantined_and_its_job_built_elsewhere(farm: Farm) -> None:
    farm.executors = {"f3": Liar(farm.nodes[0])}
    farm.queue("one", farm.gated("one"))
    farm.queue("two", farm.gated("two"))
    farm.open("one", "two")
    farm.run()
    assert {state(farm, "one"), state(farm, "two")} == {State.PUBLISHED}
    assert {farm.job("one").node, farm.job("two").node} == {"sg"}
    assert any("f3 in quarantine" in note and "sha256" in note for note in farm.recorder.notes)


class Hungry(Riscv64):
    """A node on which a build with more than two tasks is killed for its memory."""

    widths: list[int]

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.widths = []

    def start(self, launch: Launch) -> Vitals:
        self.widths.append(launch.task.width)  # type: ignore[union-attr]
        return super().start(launch)

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        update = super().poll(offsets, wait_s)
        if self.widths and self.widths[-1] > 2:
            killed = [
                replace(item, result=replace(item.result, failure="memory", wheels=(), message="killed"))
                if item.result
                else item
                for item in update.progress
            ]
            return replace(update, progress=killed)
        return update


def test_f25_a_build_that_lacked_memory_gets_more_for_each_task(farm: Farm) -> None:
    farm.nodes = farm.nodes[:1]
    farm.executors = {"f3": (hungry := Hungry(farm.nodes[0]))}
    farm.queue("one", farm.gated("one"), Recipe(memory_mib_per_task=2000))
    farm.open("one")
    farm.run()
    assert state(farm, "one") is State.PUBLISHED
    assert hungry.widths == sorted(hungry.widths, reverse=True)
    assert len(hungry.widths) > 1


def test_f18_a_node_that_changed_is_asked_again(farm: Farm) -> None:
    class Changing(Riscv64):
        """Its compiler is replaced while it builds; the new one is beyond rv64gc."""

        upgraded = False

        def prepare(self) -> Facts:
            facts = super().prepare()
            return replace(facts, gcc_march="rv64gcv") if self.upgraded else facts

        def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
            update = super().poll(offsets, wait_s)
            return replace(update, vitals=replace(update.vitals, toolchain=str(self.upgraded)))

    farm.nodes = farm.nodes[:1]
    farm.executors = {"f3": (changing := Changing(farm.nodes[0]))}
    farm.queue("one", farm.gated("one"))
    farm.queue("two", farm.gated("two"))
    with farm.running():
        until(lambda: farm.waits("one") or farm.waits("two"), "a build to begin")
        changing.upgraded = True
        until(lambda: any("beyond rv64gc" in note for note in farm.recorder.notes), "it to be asked again")
    assert sorted((state(farm, "one"), state(farm, "two"))) == [State.FAILED, State.PUBLISHED]
