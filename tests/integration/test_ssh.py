"""Nodes behind real sshds on the loopback address, and a whole dispatch over two of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from farm.dispatch import Dispatcher
from farm.errors import NodeError
from farm.executor import Launch, ssh
from farm.executor.link import Link
from farm.executor.ssh import SshExecutor
from farm.node import runner
from farm.nodes import Address, Facts, Node
from farm.paths import Paths
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.store import Failure, Job, State, Store
from farm.upstream import sha256_of
from tests.integration.nodekit import gated, make_environment, make_sdist, until
from tests.unit.test_nodes import FACTS
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration
USER = "root"


def keygen(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, capture_output=True
    )
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """One sshd with a host key, an authorised key and a node root of its own."""

    directory: Path
    port: int
    key: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.directory / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.key}.pub\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
            # One test process opens many connections from one address.
            "MaxStartups 100\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
        with (self.directory / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        until(self._answers, f"sshd: {(self.directory / 'sshd.log').read_text()}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End the daemon and every session of it, as a reboot of the link would."""
        if self.process is None:
            return
        for pid in _descendants(self.process.pid):
            if Path(f"/proc/{pid}/comm").exists() and "sshd" in Path(f"/proc/{pid}/comm").read_text():
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def address(self) -> Address:
        known_hosts = self.directory / "known_hosts"
        host_key = " ".join((self.directory / "host.pub").read_text().split()[:2])
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        return Address(self.directory.name, "127.0.0.1", self.port, USER, self.key, known_hosts)

    @property
    def node(self) -> Node:
        (self.directory / "node" / "incoming").mkdir(parents=True, exist_ok=True)
        return Node(self.address, slots=1, root=str(self.directory / "node"))


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return found + [below for child in found for below in _descendants(child)]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return keygen(tmp_path / "key")


@pytest.fixture
def sshds(tmp_path: Path, key: Path) -> Iterator[list[Sshd]]:
    made = []
    for name in ("f3", "sg"):
        (tmp_path / name).mkdir()
        keygen(tmp_path / name / "host")
        made.append(Sshd(tmp_path / name, free_port(), key))
    yield made
    for sshd in made:
        sshd.stop()


@pytest.fixture
def sshd(sshds: list[Sshd]) -> Sshd:
    sshds[0].start()
    return sshds[0]


@pytest.fixture
def farm_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install farm-node where the controller calls it, with environments made of shims."""
    environments = make_environment(tmp_path / "environments")
    script = tmp_path / "farm-node"
    script.write_text(
        f'#!/bin/sh\nexec {sys.executable} {runner.__file__} --environments {environments} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(ssh, "FARM_NODE", str(script))
    return script


# -- the link -------------------------------------------------------------------------------------------


def refused(address: Address) -> NodeError:
    link = Link(address)
    with pytest.raises(NodeError) as caught:
        link.run("true")
    link.close()
    assert caught.value.message.startswith(f"{address.name}: ")
    assert "\n" not in caught.value.message
    return caught.value


def test_a_command_over_the_link(sshd: Sshd) -> None:
    link = Link(sshd.address)
    assert link.run("echo hello") == "hello\n"
    link.close()
    assert link.run("echo again") == "again\n", "a closed link is opened anew"
    link.close()


def test_a_wrong_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    address = sshd.address
    other = keygen(tmp_path / "other")
    pinned = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    address.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {pinned}\n")
    error = refused(address)
    assert "another host key than the pinned one" in error.message
    assert str(address.known_hosts) in error.hint


def test_an_unpinned_host_is_refused(sshd: Sshd) -> None:
    address = sshd.address
    address.known_hosts.write_text("")
    error = refused(address)
    assert "its host key is not pinned" in error.message
    assert str(address.known_hosts) in error.hint
    assert address.known_hosts.read_text() == "", "and nothing is learnt"


def test_no_known_hosts_file_is_refused(sshd: Sshd) -> None:
    address = sshd.address
    address.known_hosts.unlink()
    assert "can't be read" in refused(address).message


def test_a_refused_key_names_user_and_key(sshd: Sshd, tmp_path: Path) -> None:
    error = refused(replace(sshd.address, key_file=keygen(tmp_path / "stranger")))
    assert "refuses root with key" in error.message
    assert "farm provision f3" in error.hint


def test_a_missing_key_is_an_error_not_a_traceback(sshd: Sshd, tmp_path: Path) -> None:
    refused(replace(sshd.address, key_file=tmp_path / "absent"))


def test_an_unreachable_node(sshds: list[Sshd]) -> None:
    error = refused(sshds[0].address)
    assert "can't be reached" in error.message
    assert "is the board on" in error.hint


def test_f14_a_failing_command_names_its_end_and_the_fix(sshd: Sshd) -> None:
    link = Link(sshd.address)
    with pytest.raises(NodeError, match="ended with code 3: why") as caught:
        link.run("/bin/sh -c 'echo first >&2; echo why >&2; exit 3'")
    link.close()
    assert caught.value.hint == "run `farm provision f3`"


def test_no_farm_node_names_farm_provision(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "FARM_NODE", "/nosuch/farm-node")
    executor = SshExecutor(sshd.node)
    with pytest.raises(NodeError, match="ended with code 127") as caught:
        executor.probe()
    executor.close()
    assert "farm provision f3" in caught.value.hint


def test_another_version_of_farm_node_names_farm_provision(sshd: Sshd, farm_node: Path) -> None:
    farm_node.write_text("#!/bin/sh\necho '{\"runner_version\": 99}'\n")
    executor = SshExecutor(sshd.node)
    with pytest.raises(NodeError, match="has version 99") as caught:
        executor.probe()
    executor.close()
    assert "farm provision f3" in caught.value.hint


# -- a whole dispatch -----------------------------------------------------------------------------------


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

    def run(self) -> None:
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
    farm.run()
    job = farm.jobs()["one"]
    assert job.state is State.PUBLISHED


def test_f05_a_wheel_that_fails_a_gate_is_not_published(farm: Farm) -> None:
    name = "one-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
    farm.gate("one").touch()
    farm.queue("one", gated(farm.gate("one"), name, "b'no zip'"))
    farm.run()
    job = farm.jobs()["one"]
    assert (job.state, job.failure) == (State.FAILED, Failure.POLICY)
    assert farm.published == []
