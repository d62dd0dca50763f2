"""What does it cost one controller to hold hundreds of nodes at once, and how far behind are their logs?

    python -m bench.connections [-n COUNT] [--seconds SECONDS]

Each node is a real connection to a sshd on the loopback address with a real `farm-node serve` in it, and
runs one attempt that writes two lines a second. All are held by the real Dispatcher in one process, which is
what is measured; the nodes share this machine's processors with it. Needs root (the sshds are those of the
tests) and, for 512 nodes, about 10 GB of memory. Prints one JSON object on stdout: the controller's memory,
its share of one core (user and system time over wall time), and how old lines are when they are in its log.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from farm.dispatch import Dispatcher, Tempo
from farm.executor import Command, Task
from farm.executor.ssh import SshExecutor
from farm.nodes import Facts, Node
from farm.paths import REPOSITORY, Paths
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.store import Job, Store, controller_lock
from farm.upstream import sha256_of
from tests.integration.farmkit import node_from_json, node_to_json
from tests.integration.nodekit import install_farm_node, make_sdist, until
from tests.integration.sshkit import Sshd, free_port, keygen
from tests.unit.test_nodes import FACTS

COUNT: Final = 512
SECONDS: Final = 30.0
NODES_PER_SSHD: Final = 128
# Lines of the last so many seconds say that a node is held.
HELD_S: Final = 3.0
SETTLE_S: Final = 5.0
BEGIN_S: Final = 600.0
# Nothing but what bash has built in: a process for each line would be most of what is measured.
LINES: Final = """
exec 3<>{folder}/never
while [[ ! -e {folder}/stop ]]; do echo "at $EPOCHREALTIME"; read -t 0.5 -u 3; done
"""


class Held(SshExecutor):
    """A node that is there but was not looked at: probing hundreds would take this machine for minutes."""

    def prepare(self) -> Facts:
        """Open its session, and make up what it is."""
        self.list()
        name = self.node.name
        vitals = self.poll({}).vitals
        return replace(FACTS, hostname=name, machine_id=name, boot_id=vitals.boot_id)


class Meter:
    """A reporter that keeps how old each line was when it was in the log."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.seen: dict[str, float] = {}
        self.answers = 0

    def job(self, job: Job) -> None:
        """Nothing to be shown."""

    def log(self, job: Job, text: str) -> None:
        """Take note of lines, which have just been written to the file."""
        now = time.time()
        self.answers += 1
        self.lags += [now - float(line[3:]) for line in text.splitlines() if line.startswith("at ")]
        self.seen[job.job_id] = now

    def note(self, text: str) -> None:
        """Tell whoever looks on."""
        sys.stderr.write(f"{text}\n")

    def tick(self) -> None:
        """Nothing to be shown."""

    def held(self) -> int:
        """Return how many nodes were heard of lately."""
        now = time.time()
        return sum(now - at <= HELD_S for at in list(self.seen.values()))


@dataclass(frozen=True, slots=True)
class Plan:
    """What the controller's process is told."""

    folder: Path
    nodes: Sequence[Node]
    farm_node: str
    seconds: float


def control(plan: Plan) -> None:
    """Be the controller: hold all nodes, measure this process, print the figures, and end."""
    meter, paths = Meter(), Paths(plan.folder / "state")
    watch = threading.Thread(target=measured, args=[plan, meter], daemon=True)
    watch.start()
    sdist = plan.folder / "sdist.tar.gz"
    script = ("bash", "-c", LINES.format(folder=plan.folder))

    def task_of(_job: Job, _sdist: Path) -> Task:
        return Command(script)

    store = Store(paths.database)
    with controller_lock(paths.lock):
        Dispatcher(
            store,
            {node: Held(node, farm_node=plan.farm_node) for node in plan.nodes},
            paths=paths,
            fetch=lambda _job: sdist,
            publish=lambda _wheels: None,
            reporter=meter,
            tempo=Tempo(),
            task_of=task_of,
        ).run()


def measured(plan: Plan, meter: Meter) -> None:
    """Wait until all nodes are heard of, measure for a while, print, and end the process."""
    began = time.monotonic()
    while meter.held() < len(plan.nodes) and time.monotonic() - began < BEGIN_S:
        time.sleep(0.5)
    ready_s = time.monotonic() - began
    time.sleep(SETTLE_S)
    meter.lags, meter.answers = [], 0
    before, since = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    time.sleep(plan.seconds)
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - since
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lags = sorted(meter.lags) or [float("nan")]
    figures = {
        "connections": len(plan.nodes),
        "held": meter.held(),
        "rss_mib": round(_resident_mib(), 1),
        "cpu_share": round(used / wall, 3),
        "lag_s": round(statistics.median(lags), 3),
        "lag_p99_s": round(lags[len(lags) * 99 // 100], 3),
        "lines": len(meter.lags),
        "answers_per_s": round(meter.answers / wall, 1),
        "seconds": round(wall, 1),
        "ready_after_s": round(ready_s, 1),
        "threads": threading.active_count(),
        # What the machine was asked for besides: figures taken on a busy one are no worse than they seem.
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures), flush=True)
    os._exit(0)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def measure(count: int = COUNT, seconds: float = SECONDS) -> dict[str, object]:
    """Start nodes and a controller; return the controller's figures."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        nodes = _nodes(folder, count, stack)
        os.mkfifo(folder / "never")
        farm_node = install_farm_node(folder)
        _queue(folder, count)
        config = {
            "folder": str(folder),
            "farm_node": str(farm_node),
            "seconds": seconds,
            "nodes": [node_to_json(node) for node in nodes],
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        stack.callback(_end_attempts, folder)
        done = subprocess.run(
            [sys.executable, "-m", "bench.connections", "--controller", str(folder / "config.json")],
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.PIPE,
        )
        figures: dict[str, object] = json.loads(done.stdout)
        return figures


def _nodes(folder: Path, count: int, stack: ExitStack) -> list[Node]:
    key, nodes = keygen(folder / "key"), list[Node]()
    for begin in range(0, count, NODES_PER_SSHD):
        own = folder / f"sshd{begin // NODES_PER_SSHD}"
        own.mkdir()
        keygen(own / "host")
        sshd = Sshd(own, free_port(), key, startups=2 * NODES_PER_SSHD)
        sshd.start()
        stack.callback(sshd.stop)
        for number in range(begin, min(count, begin + NODES_PER_SSHD)):
            root = folder / "nodes" / f"c{number}"
            root.mkdir(parents=True)
            address = replace(sshd.address, name=f"c{number}")
            nodes.append(Node(address, slots=1, root=str(root)))
    return nodes


def _queue(folder: Path, count: int) -> None:
    sdist = folder / "sdist.tar.gz"
    sdist.write_bytes(make_sdist())
    store = Store(Paths(folder / "state").database)
    for number in range(count):
        store.enqueue(JobSpec(f"j{number}", "1.0", "cp313", sdist.name, "", sha256_of(sdist), DEFAULT))
    store.close()


def _end_attempts(folder: Path) -> None:
    """Let the attempts end by themselves; nothing of them must outlive the folder."""
    (folder / "stop").touch()
    claims = len(list(folder.glob("nodes/*/jobs/*/supervisor.json")))
    until(lambda: len(list(folder.glob("nodes/*/jobs/*/result.json"))) >= claims, "the attempts to end")


def main() -> None:
    """Measure, and print the figures; or be the controller that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", "--count", type=int, default=COUNT)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--controller", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.controller is None:
        print(json.dumps(measure(options.count, options.seconds)))
        return
    content = json.loads(options.controller.read_text(encoding="utf-8"))
    nodes = [node_from_json(item) for item in content["nodes"]]
    control(Plan(Path(content["folder"]), nodes, content["farm_node"], content["seconds"]))


if __name__ == "__main__":
    main()
