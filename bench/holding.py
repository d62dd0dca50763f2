"""A controller that holds many nodes and measures itself: the process that :mod:`bench.connections` starts.

    python -m bench.holding CONFIG

It imports what `farm dispatch` has imported when it holds its nodes, so that its memory is told truly: its
command line, and what reads the inventory. A first download, proof or publication brings more.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ansible_runner  # noqa: F401

import farm.cli.jobs  # noqa: F401
from farm.dispatch import Dispatcher, Tempo
from farm.executor import Command, Task
from farm.executor.ssh import SshExecutor, gather_s
from farm.nodes import Address, Facts, Node
from farm.paths import Paths
from farm.store import Job, Store, controller_lock

# Lines of the last so many seconds say that a node is held.
HELD_S: Final = 3.0
SETTLE_S: Final = 5.0
BEGIN_S: Final = 600.0
# Nothing but what bash has built in: a process for each line would be most of what is measured.
LINES: Final = """
exec 3<>{folder}/never
while [[ ! -e {folder}/stop ]]; do echo "at $EPOCHREALTIME"; read -t 0.5 -u 3; done
"""


# Cores: the load of all nodes together is no reason to think ill of one.
FACTS: Final = Facts(
    runner_version=3,
    hostname="",
    machine="riscv64",
    machine_id="",
    boot_id="",
    kernel="6.12",
    os="Debian 13",
    isa="rv64imafdc_zicsr_zifencei",
    cores=1024,
    memory_bytes=1 << 40,
    disk_free_bytes=1 << 40,
    load=0.0,
    clock=0.0,
    gcc="14.2.0",
    gcc_march="rv64gc",
    rustc="",
    compilers={"cc1": "riscv64", "as": "riscv64"},
    pythons=("cp313",),
    apt_packages=frozenset(),
    model="Banana Pi BPI-F3",
    selftest="",
    units="",
    sandbox="bubblewrap",
    speed=1.0,
)


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

    def __init__(self, start_mib: float) -> None:
        self.start_mib = start_mib
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
    meter, paths = Meter(_resident_mib()), Paths(plan.folder / "state")
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
            {
                node: Held(node, farm_node=plan.farm_node, gather_s=gather_s(len(plan.nodes)))
                for node in plan.nodes
            },
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
        # What of that was there before the first link: interpreter and modules.
        "start_mib": round(meter.start_mib, 1),
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


def read_plan(config: Path) -> Plan:
    """Read what :mod:`bench.connections` wrote."""
    content = json.loads(config.read_text(encoding="utf-8"))
    nodes = [_node(item) for item in content["nodes"]]
    return Plan(config.parent, nodes, content["farm_node"], content["seconds"])


def _node(content: Mapping[str, Any]) -> Node:
    name, host, port, user, *files = content["address"]
    return Node(Address(name, host, port, user, *map(Path, files)), content["slots"], content["root"])


if __name__ == "__main__":
    control(read_plan(Path(sys.argv[1])))
