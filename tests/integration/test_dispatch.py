"""Whole dispatches over two nodes behind real sshds."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from farm.dispatch import Dispatcher
from farm.errors import ExitCode
from farm.executor import Launch
from farm.executor.ssh import SshExecutor
from farm.nodes import Facts, Node
from farm.paths import Paths
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.store import Failure, Job, State, Store
from farm.upstream import sha256_of
from tests.integration.nodekit import gated, make_sdist, until
from tests.integration.sshkit import Sshd
from tests.unit.test_nodes import FACTS
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration


class Riscv64(SshExecutor):
    """A node that says it is a riscv64 board, each with an identity of its own."""

    def probe(self) -> Facts:
        facts = super().probe()
        return replace(
            FACTS,
            hostname=self.node.name,
            machine_id=self.node.name,
            attempts=facts.attempts,
            pythons=facts.pythons,
        )


class Silent:
    """A reporter; `notes` is what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def job(self, job: Job) -> None:
        pass

    def log(self, job: Job, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def tick(self) -> None:
        pass


@dataclass
class Farm:
    directory: Path
    nodes: list[Node]
    sdists: dict[str, Path]
    published: list[str]

    @property
    def paths(self) -> Paths:
        return Paths(self.directory / "state")

    def queue(self, project: str, backend: str) -> JobSpec:
        sdist = self.directory / f"{project}-1.0.tar.gz"
        sdist.write_bytes(make_sdist(backend, f"{project}-1.0"))
        spec = JobSpec(project, "1.0", "cp313", sdist.name, "", sha256_of(sdist), DEFAULT)
        self.sdists[spec.job_id] = sdist
        store = Store(self.paths.database)
        store.enqueue(spec)
        store.close()
        return spec

    def wheel_backend(self, project: str) -> str:
        """A backend that waits for the gate, then leaves a right riscv64 wheel."""
        name = f"{project}-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
        wheel = write_wheel(self.directory, name)
        return gated(self.gate(project), name, f"pathlib.Path({str(wheel)!r}).read_bytes()")

    def gate(self, project: str) -> Path:
        return self.directory / f"gate-{project}"

    def waiting(self, project: str) -> bool:
        return Path(f"{self.gate(project)}.waiting").exists()

    def run(self) -> Dispatcher:
        store = Store(self.paths.database)
        dispatcher = Dispatcher(
            store,
            {node: Riscv64(node) for node in self.nodes},
            paths=self.paths,
            sdist_of=lambda job: self.sdists[job.job_id],
            publish=self._publish,
            reporter=Silent(),
            poll_s=0.1,
        )
        dispatcher.run()
        store.close()
        return dispatcher

    def _publish(self, wheel: Path) -> None:
        self.published.append(wheel.name)

    def jobs(self) -> dict[str, Job]:
        store = Store(self.paths.database)
        jobs = {job.spec.project: job for job in store.jobs()}
        store.close()
        return jobs

    def log(self, project: str) -> str:
        return self.paths.log(self.jobs()[project].attempt_id).read_text()


@pytest.fixture
def farm(tmp_path: Path, sshds: list[Sshd], farm_node: Path) -> Farm:
    assert farm_node.exists()
    for sshd in sshds:
        sshd.start()
    return Farm(tmp_path, [sshd.node for sshd in sshds], {}, [])


def test_two_jobs_are_built_on_two_nodes_at_once_and_a_failing_one_stops_nobody(farm: Farm) -> None:
    for project in ("one", "two"):
        farm.queue(project, farm.wheel_backend(project))
    farm.queue("bad", "def build_wheel(*_):\n    raise SystemExit('error: no compiler')\n")
    thread = threading.Thread(target=farm.run)
    thread.start()
    try:
        until(lambda: farm.waiting("one") and farm.waiting("two"), "both to be built at once")
    finally:
        for project in ("one", "two"):
            farm.gate(project).touch()
        thread.join()
    jobs = farm.jobs()
    assert {jobs["one"].node, jobs["two"].node} == {"f3", "sg"}
    assert {name: job.state for name, job in jobs.items()} == {
        "one": State.PUBLISHED,
        "two": State.PUBLISHED,
        "bad": State.FAILED,
    }
    assert jobs["bad"].failure is Failure.BUILD
    assert "error: no compiler" in farm.log("bad")
    assert sorted(farm.published) == [jobs["one"].wheel, jobs["two"].wheel]
    for node in farm.nodes:
        assert list(Path(node.root, "jobs").iterdir()) == [], "confirmed, so forgotten (F22)"


def test_f10_a_build_outlives_its_link_and_is_taken_up_again(farm: Farm, sshds: list[Sshd]) -> None:
    farm.queue("one", farm.wheel_backend("one"))
    thread = threading.Thread(target=farm.run)
    thread.start()
    try:
        until(lambda: farm.waiting("one"), "the build to begin")
        until(lambda: farm.jobs()["one"].state is State.RUNNING, "the controller to see it run")
        for sshd in sshds:
            sshd.stop()
        farm.gate("one").touch()
        for sshd in sshds:
            sshd.start()
    finally:
        farm.gate("one").touch()
        thread.join()
    job = farm.jobs()["one"]
    assert (job.state, job.attempt, job.message) == (State.PUBLISHED, 1, "")
    assert farm.log("one").count("gate open") == 1
    assert "[farm] finished: ok" in farm.log("one")


def test_f10_f22_the_next_controller_collects_what_was_built_meanwhile(farm: Farm) -> None:
    spec = farm.queue("one", farm.wheel_backend("one"))
    farm.gate("one").touch()
    # What a controller did that was killed right after `start`.
    store = Store(farm.paths.database)
    job = store.lease(spec.job_id, "f3")
    store.close()
    executor = SshExecutor(farm.nodes[0])
    launch = Launch(job.attempt_id, 1, spec, farm.sdists[spec.job_id], 1)
    executor.start(launch)
    executor.start(launch)
    executor.close()
    farm.run()
    job = farm.jobs()["one"]
    assert (job.state, job.attempt, job.node) == (State.PUBLISHED, 1, "f3")
    assert farm.log("one").count("gate open") == 1


def test_f10_a_lease_that_never_reached_the_node_is_started(farm: Farm) -> None:
    spec = farm.queue("one", farm.wheel_backend("one"))
    farm.gate("one").touch()
    store = Store(farm.paths.database)
    store.lease(spec.job_id, "sg")
    store.close()
    farm.run()
    job = farm.jobs()["one"]
    assert (job.state, job.attempt, job.node) == (State.PUBLISHED, 1, "sg")


def test_f11_of_two_names_for_one_machine_one_is_used(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Riscv64, "probe", lambda _self: FACTS)
    farm.queue("one", farm.wheel_backend("one"))
    farm.gate("one").touch()
    dispatcher = farm.run()
    assert farm.jobs()["one"].state is State.PUBLISHED
    assert [error.exit_code for error in dispatcher.errors] == [ExitCode.NODE]
    assert "the same machine as" in dispatcher.errors[0].message


def test_a_wheel_that_fails_a_gate_is_not_published(farm: Farm) -> None:
    name = "one-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
    farm.gate("one").touch()
    farm.queue("one", gated(farm.gate("one"), name, "b'no zip'"))
    farm.run()
    job = farm.jobs()["one"]
    assert (job.state, job.failure) == (State.FAILED, Failure.POLICY)
    assert farm.published == []


def test_a_collected_wheel_that_was_deleted_is_built_again(farm: Farm) -> None:
    spec = farm.queue("one", farm.wheel_backend("one"))
    farm.gate("one").touch()
    store = Store(farm.paths.database)
    store.lease(spec.job_id, "f3")
    store.built(spec.job_id, "one-1.0-cp313-cp313-manylinux_2_39_riscv64.whl", "0" * 64, "{}")
    store.close()
    farm.run()
    job = farm.jobs()["one"]
    assert (job.state, job.attempt) == (State.PUBLISHED, 2)
