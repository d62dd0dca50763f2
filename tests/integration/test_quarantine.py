"""Nodes that are full, skewed, broken, lying or changed: they get no jobs, and others do their work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from farm.executor import Vitals
from farm.executor.base import Launch, NodeFile, Update
from farm.nodes import Facts, Node
from farm.recipe import Recipe
from farm.store import Mark, State
from tests.integration.farmkit import Farm, Riscv64
from tests.integration.nodekit import until

pytestmark = pytest.mark.integration


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
        until(lambda: farm.state("one") is State.PUBLISHED and farm.waits("two"), "the other node to work")
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


def test_f21_three_fast_failures_in_a_row_are_the_node_s_fault(farm: Farm) -> None:
    # What is broken there is known to the backend only: it fails below f3's folder and nowhere else.
    # Four fail together: one is still running when the node comes to be doubted. The other node has two.
    farm.nodes = [replace(farm.nodes[0], slots=4), replace(farm.nodes[1], slots=2)]
    names = [f"p{number}" for number in range(6)]
    begun = farm.directory / "begun"
    begun.mkdir()
    for name in names:
        wheel = farm.wheel(name)
        farm.queue(
            name,
            f"""
            import pathlib, time
            def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
                broken = {farm.nodes[0].root!r} in wheel_directory
                begun = pathlib.Path({str(begun)!r})
                if broken:
                    (begun / {name!r}).touch()
                while len(list(begun.iterdir())) < 4:
                    time.sleep(0.05)
                if broken:
                    raise SystemExit("error: cc1: bad magic")
                wheel = pathlib.Path({str(wheel)!r})
                pathlib.Path(wheel_directory, wheel.name).write_bytes(wheel.read_bytes())
                return {wheel.name!r}
            """,
        )
    farm.run()
    assert {farm.state(name) for name in names} == {State.PUBLISHED}
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
    assert {farm.state("one"), farm.state("two")} == {State.PUBLISHED}
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
    assert farm.state("one") is State.PUBLISHED
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
    assert sorted((farm.state("one"), farm.state("two"))) == [State.FAILED, State.PUBLISHED]
