"""What a dispatch survives, each fault made for real: silent links, re-provisions, reboots, full disks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import farm.node
from farm import controller
from farm.dispatch import health
from farm.errors import NodeError
from farm.executor import Launch, Vitals, link
from farm.executor.base import Update
from farm.executor.link import Link
from farm.recipe import Recipe
from farm.store import Failure, Mark, State
from farm.upstream import Upstream
from tests.integration.chaoskit import Place
from tests.integration.farmkit import QUICK, Farm, Riscv64
from tests.integration.nodekit import forgotten, install_farm_node, until
from tests.integration.sshkit import Sshd

pytestmark = pytest.mark.integration


@pytest.fixture
def place(sshds: list[Sshd]) -> Iterator[Place]:
    place = Place(sshds[0], slots=1)
    yield place
    place.close()


def logins(sshd: Sshd) -> int:
    return (sshd.directory / "sshd.log").read_text().count("Accepted publickey")


def running(farm: Farm, project: str) -> bool:
    return farm.waits(project) and farm.job(project).state is State.RUNNING


def test_a_silent_link_is_noticed_and_the_build_taken_up_again(
    tmp_path: Path, place: Place, farm_node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "USER_TIMEOUT_MS", 2000)
    farm = Farm(tmp_path, [place.node], farm_node)
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: running(farm, "one"), "the build to run")
        began, before = time.monotonic(), logins(place.sshd)
        place.proxy.freeze()
        until(lambda: logins(place.sshd) > before, "the controller to connect anew")
        assert time.monotonic() - began < 15, "the answer's own time limit would have taken 30 s"
        farm.open("one")
    job = farm.job("one")
    assert (job.state, job.attempt) == (State.PUBLISHED, 1)
    assert farm.log("one").count("gate open") == 1
    assert any("the link broke" in note for note in farm.recorder.notes)


def test_f10_a_reprovision_in_mid_build_leaves_the_build_alone(
    tmp_path: Path, place: Place, farm_node: Path
) -> None:
    farm = Farm(tmp_path, [place.node], farm_node)
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: running(farm, "one"), "the build to run")
        # As roles/node_runner does it: beside the version that runs, and the link is replaced last.
        shutil.copytree(Path(farm_package()), tmp_path / "v2/farm")
        new = tmp_path / "v2/farm/node/__main__.py"
        (tmp_path / "beside").mkdir()
        (tmp_path / "beside/environments").symlink_to(tmp_path / "environments")
        install_farm_node(tmp_path / "beside", new).replace(farm_node)
        place.cut()
        until(lambda: agent_of(place, new), "a session of the new version")
        farm.open("one")
    job = farm.job("one")
    assert (job.state, job.attempt) == (State.PUBLISHED, 1)
    assert farm.log("one").count("gate open") == 1
    assert farm.log("one").endswith("[farm] finished: ok\n")
    forgotten(Path(place.node.root))


def farm_package() -> Path:
    return Path(farm.node.__file__).parents[1]


def agent_of(place: Place, program: Path) -> bool:
    return any(str(program).encode() in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in place.agents())


def test_a_node_that_was_rebooted_builds_again_and_nothing_runs_twice(
    tmp_path: Path, sshds: list[Sshd], farm_node: Path
) -> None:
    sshd = sshds[0]
    sshd.boot_id = tmp_path / "boot"
    sshd.boot_id.write_text("11111111-1111-1111-1111-111111111111\n")
    sshd.start()
    farm = Farm(tmp_path, [sshd.node], farm_node)
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: running(farm, "one"), "the build to run")
        sshd.stop()
        for pid in started_below(Path(sshd.node.root)):
            os.kill(pid, signal.SIGKILL)
        farm.gate("one").with_suffix(".waiting").unlink(missing_ok=True)
        sshd.boot_id.write_text("22222222-2222-2222-2222-222222222222\n")
        sshd.start()
        until(lambda: farm.job("one").attempt == 2, "the build to be begun anew")
        farm.open("one")
    assert farm.job("one").state is State.PUBLISHED
    with farm.store() as store:
        first, second = store.attempts()
    assert (first.failure, second.failure) == (Failure.NODE, None)
    logs = [farm.paths.log(f"{first.job_id}.{number}").read_text() for number in (1, 2)]
    assert [log.count("gate open") for log in logs] == [0, 1]
    forgotten(Path(sshd.node.root))


def started_below(root: Path) -> list[int]:
    mark, words = f"FARM_JOB={root}/".encode(), f"\0{root}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes() or words in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", str(folder)], check=True)
    try:
        (folder / "incoming").mkdir()
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


FILLING = """
import pathlib, time
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    wheel, gate = pathlib.Path({wheel!r}), pathlib.Path({gate!r})
    if {full!r} in wheel_directory:
        try:
            with open(pathlib.Path(wheel_directory, "big"), "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
        finally:
            pathlib.Path(str(gate) + ".waiting").touch()
            while not gate.exists():
                time.sleep(0.05)
    pathlib.Path(wheel_directory, wheel.name).write_bytes(wheel.read_bytes())
    return wheel.name
"""


def test_f21_a_disk_that_gets_full_in_mid_build_is_the_nodes_fault(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MIN_DISK_BYTES", 16 << 20)
    small = Path(farm.nodes[0].root)
    values = {"wheel": str(farm.wheel("one")), "gate": str(farm.gate("one")), "full": str(small)}
    with small_disk(small):
        spec = farm.queue("one", FILLING.format(**values), Recipe(exclude_nodes=["sg"]))
        with farm.running():
            until(lambda: farm.waits("one"), "the disk to be full")
            until(lambda: any("of disk are free" in note for note in farm.recorder.notes), "it to be seen")
            with farm.store() as store:
                assert Mark.QUARANTINED in store.marks()["f3"]
                store.enqueue(replace(spec, recipe=Recipe()))  # now it may go anywhere
            farm.open("one")
            until(lambda: farm.job("one").state is State.PUBLISHED, "it to be built elsewhere")
        forgotten(small)
    with farm.store() as store:
        first, second = store.attempts()
    assert (first.node, first.failure) == ("f3", Failure.NODE)
    assert (second.node, second.failure) == ("sg", None)


class Sdists(Upstream):
    """An index whose sdists are there already."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def fetch(self, url: str, filename: str, sha256: str, directory: Path) -> Path:
        del url, sha256, directory
        return self._folder / filename


def test_a_second_dispatch_joins_and_goes_on_when_the_first_is_killed(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "SshExecutor", Riscv64)
    farm.queue("one", farm.gated("one"))
    first = farm.controller()
    until(lambda: running(farm, "one"), "the first to build")
    runs: list[controller.Run] = []

    def second() -> None:
        runs.append(
            controller.run(
                [],
                nodes=farm.nodes,
                publish=farm.publish,
                paths=farm.paths,
                upstream=Sdists(farm.directory / "sdists"),
                reporter=farm.recorder,
                tempo=QUICK,
            )
        )

    thread = threading.Thread(target=second)
    thread.start()
    try:
        until(lambda: any("it takes these jobs, too" in note for note in farm.recorder.notes), "it to join")
    finally:
        first.kill()
        first.wait()
        farm.open("one")
        thread.join(60)
    ((job,),) = [run.jobs for run in runs]
    assert (job.state, job.attempt) == (State.PUBLISHED, 1)
    assert farm.log("one").count("gate open") == 1
    assert len(farm.published) == 1


class Deaf(Riscv64):
    """A node whose link breaks after each start, before its answer comes; and then its disk is full."""

    started = False

    def start(self, launch: Launch) -> Vitals:
        super().start(launch)
        self.started = True
        self.close()
        raise NodeError(self.node.name, "the link broke during `start`")

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        update = super().poll(offsets, wait_s)
        free = 1 << 20 if self.started else update.vitals.disk_free_bytes
        return replace(update, vitals=replace(update.vitals, disk_free_bytes=free))


def test_a_start_whose_answer_was_lost_is_no_refusal(farm: Farm) -> None:
    farm.executors = {node.name: Deaf(node) for node in farm.nodes}
    farm.queue("one", farm.gated("one"))
    with farm.running():
        until(lambda: any("in quarantine" in note for note in farm.recorder.notes), "the disk to be full")
        farm.open("one")
        until(lambda: farm.job("one").state is State.PUBLISHED, "what runs there to be waited for")
    assert farm.job("one").attempt == 1, "it was begun, so it is not begun elsewhere as well"


class Clinging(Riscv64):
    """A node that does not let go of what it built."""

    def forget(self, attempt_id: str) -> None:
        raise NodeError(self.node.name, f"it refuses `forget`: {attempt_id} still runs: cancel it first")


def test_an_attempt_that_can_t_be_forgotten_is_no_lost_node(farm: Farm) -> None:
    farm.executors = {node.name: Clinging(node) for node in farm.nodes}
    for name in ("one", "two", "three"):
        farm.queue(name, farm.gated(name))
    farm.open("one", "two", "three")
    farm.run()
    assert {farm.job(name).state for name in ("one", "two", "three")} == {State.PUBLISHED}
    assert any("still runs" in note for note in farm.recorder.notes)
    assert not any("in quarantine" in note for note in farm.recorder.notes)
    farm.executors = {}
    farm.queue("four", farm.gated("four"))
    farm.open("four")
    farm.run()
    for node in farm.nodes:  # the next run's duty
        forgotten(Path(node.root))


def test_who_was_away_is_asked_at_the_first_contact(farm: Farm, sshds: list[Sshd]) -> None:
    farm.tempo = replace(QUICK, quarantine=1000)
    farm.queue("one", farm.gated("one"), Recipe(nodes=["f3"]))
    farm.open("one")
    sshds[0].stop()
    with farm.running():
        until(lambda: any("f3 in quarantine" in note for note in farm.recorder.notes), "f3 to be missed")
        sshds[0].start()
        until(lambda: farm.job("one").state is State.PUBLISHED, "f3 to be used again")


def test_who_hangs_up_while_the_connection_is_made_is_an_error_of_its_node(sshd: Sshd) -> None:
    address = sshd.address
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):
                end, _ = server.accept()
                end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                end.recv(1000)
                end.close()

        threading.Thread(target=greet, daemon=True).start()
        port = server.getsockname()[1]
        text = address.known_hosts.read_text().replace(f":{address.port} ", f":{port} ")
        address.known_hosts.write_text(text)
        for _ in range(2):
            with pytest.raises(NodeError):
                Link(replace(address, port=port)).execute("true")
