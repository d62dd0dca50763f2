"""A small farm: real sshds, the real farm-node, and a controller, here or in a process of its own.

`python -m tests.integration.farmkit CONFIG` is such a controller, for tests that kill it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from farm.dispatch import DEFAULT_POLICY, Dispatcher, Tempo
from farm.dispatch.gates import Prove
from farm.executor import Executor, link, ssh
from farm.executor.ssh import SshExecutor
from farm.index import IndexTree, add_wheel, build_index
from farm.nodes import Address, Facts, Node
from farm.paths import REPOSITORY, Paths
from farm.plan import JobSpec
from farm.recipe import DEFAULT, Recipe
from farm.store import Job, State, Store, controller_lock
from farm.upstream import sha256_of
from tests.integration.nodekit import gated, make_sdist
from tests.integration.roomkit import Room
from tests.unit.test_nodes import FACTS
from tests.unit.verify.wheelkit import write_wheel

QUICK = Tempo(busy_wait_s=0.2, idle_wait_s=0.2, backoff_s=0.1, lost_s=60, patience_s=20, quarantine=0.02)


class Riscv64(SshExecutor):
    """A node that says it is a riscv64 board, each with an identity of its own."""

    def prepare(self) -> Facts:
        facts = super().prepare()
        return replace(
            FACTS,
            hostname=self.node.name,
            machine_id=self.node.name,
            # Enough for two builds of which nothing is known, or for one in each slot.
            cores=max(16, 8 * (self.node.slots or 2)),
            memory_bytes=max(16, 8 * (self.node.slots or 2)) << 30,
            boot_id=facts.boot_id,
            pythons=facts.pythons,
        )


class Recorder:
    """A reporter that keeps what it is told."""

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


class Writer(Recorder):
    """A reporter that writes what it is told to stderr."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"{time.time():.3f} {text}\n")


@dataclass
class Farm:
    """A controller's state and the nodes it uses. Sdists and published wheels are files below `directory`."""

    directory: Path
    nodes: list[Node]
    farm_node: Path
    tempo: Tempo = QUICK
    executors: Mapping[str, Executor] = field(default_factory=dict)
    recorder: Recorder = field(default_factory=Recorder)
    user_timeout_s: float = link.USER_TIMEOUT_MS / 1000
    """For a controller in a process of its own: when it takes a silent link for lost."""
    index: bool = False
    """Publish into a real index tree, which refuses a name with other bytes."""
    prove: Prove | None = None

    @property
    def paths(self) -> Paths:
        return Paths(self.directory / "state")

    @property
    def published(self) -> list[str]:
        """The names that were published, in order; one that was published twice is in it twice."""
        path = self.directory / "published"
        return path.read_text().split() if path.exists() else []

    def queue(
        self, project: str, backend: str, recipe: Recipe = DEFAULT, files: Mapping[str, bytes] | None = None
    ) -> JobSpec:
        folder = self.directory / "sdists"
        folder.mkdir(exist_ok=True)
        sdist = folder / f"{project}-1.0.tar.gz"
        sdist.write_bytes(make_sdist(backend, f"{project}-1.0", **(files or {})))
        spec = JobSpec(project, "1.0", "cp313", sdist.name, "", sha256_of(sdist), recipe)
        with self.store() as store:
            store.enqueue(spec)
        return spec

    def wheel(self, project: str, *requires: str) -> Path:
        """A wheel that passes every gate, and needs something when it is installed."""
        metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
        name = f"{project}-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
        return write_wheel(self.directory, name, metadata=metadata)

    def gated(self, project: str, *requires: str) -> str:
        """A backend that waits for the gate, then leaves a right riscv64 wheel."""
        wheel = self.wheel(project, *requires)
        return gated(self.gate(project), wheel.name, f"pathlib.Path({str(wheel)!r}).read_bytes()")

    def gate(self, project: str) -> Path:
        return self.directory / f"gate-{project}"

    def open(self, *projects: str) -> None:
        for project in projects:
            self.gate(project).touch()

    def waits(self, project: str) -> bool:
        """Whether the build of a project has come to its gate."""
        return Path(f"{self.gate(project)}.waiting").exists()

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store(self.paths.database)
        try:
            yield store
        finally:
            store.close()

    def job(self, project: str) -> Job:
        with self.store() as store:
            return next(job for job in store.jobs() if job.spec.project == project)

    def state(self, project: str) -> State:
        return self.job(project).state

    def log(self, project: str) -> str:
        path = self.paths.log(self.job(project).attempt_id)
        return path.read_text() if path.exists() else ""

    def run(self, policy: str | None = None) -> Dispatcher:
        with controller_lock(self.paths.lock), self.store() as store:
            dispatcher = Dispatcher(
                store,
                {node: self.executors.get(node.name) or Riscv64(node) for node in self.nodes},
                paths=self.paths,
                fetch=lambda job: self.directory / "sdists" / job.spec.sdist_filename,
                publish=self.publish,
                reporter=self.recorder,
                tempo=self.tempo,
                policy=policy or DEFAULT_POLICY,
                prove=self.prove,
            )
            dispatcher.run()
            return dispatcher

    def publish(self, wheels: Sequence[Path]) -> None:
        if self.index:
            tree = IndexTree(self.paths.tree)
            build_index(tree, [add_wheel(tree, wheel).project for wheel in wheels])
        with (self.directory / "published").open("a") as file:
            for wheel in wheels:
                file.write(f"{wheel.name}\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Dispatch in a thread; all gates are opened at the end, and it must have come to one."""
        faults: list[BaseException] = []

        def work() -> None:
            try:
                self.run()
            except BaseException as error:
                faults.append(error)
                raise

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            with self.store() as store:
                self.open(*(job.spec.project for job in store.jobs()))
            thread.join(120)
        assert not thread.is_alive()
        assert not faults

    def controller(self) -> subprocess.Popen[bytes]:
        """Dispatch in a process of its own, to be killed; what it notes goes to `controller.log`."""
        config = self.directory / "controller.json"
        config.write_text(
            json.dumps(
                {
                    "directory": str(self.directory),
                    "farm_node": str(self.farm_node),
                    "nodes": [node_to_json(node) for node in self.nodes],
                    "tempo": asdict(self.tempo),
                    "user_timeout_s": self.user_timeout_s,
                    "index": self.index,
                    "room": self.prove is not None,
                }
            )
        )
        with (self.directory / "controller.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.integration.farmkit", str(config)], cwd=REPOSITORY, stderr=log
            )


def node_to_json(node: Node) -> dict[str, object]:
    address = node.address
    return {
        "address": [
            *(address.name, address.host, address.port, address.user),
            *(str(address.key_file), str(address.known_hosts)),
        ],
        "slots": node.slots,
        "root": node.root,
    }


def node_from_json(content: Mapping[str, Any]) -> Node:
    name, host, port, user, *files = content["address"]
    return Node(
        Address(name, host, port, user, *map(Path, files)),
        content["slots"],
        content["root"],
        unsandboxed=True,
    )


def main(config: Path) -> None:
    """Be the controller that `config` describes."""
    content = json.loads(config.read_text())
    nodes = [node_from_json(item) for item in content["nodes"]]
    ssh.FARM_NODE = content["farm_node"]  # type: ignore[misc]
    link.USER_TIMEOUT_MS = int(1000 * content["user_timeout_s"])  # type: ignore[misc]
    Farm(
        Path(content["directory"]),
        nodes,
        Path(content["farm_node"]),
        Tempo(**content["tempo"]),
        recorder=Writer(),
        index=content["index"],
        prove=Room(Path(content["directory"])) if content["room"] else None,
    ).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
