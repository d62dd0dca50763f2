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
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from farm.cli import ALLOCATOR
from farm.nodes import Node
from farm.paths import REPOSITORY, Paths
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.store import Store
from farm.upstream import sha256_of
from tests.integration.farmkit import node_to_json
from tests.integration.nodekit import install_farm_node, make_sdist, until
from tests.integration.sshkit import Sshd, free_port, keygen

COUNT: Final = 512
SECONDS: Final = 30.0
NODES_PER_SSHD: Final = 128


def measure(count: int = COUNT, seconds: float = SECONDS) -> dict[str, object]:
    """Start nodes and a controller; return the controller's figures."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        nodes = _nodes(folder, count, stack)
        os.mkfifo(folder / "never")
        farm_node = install_farm_node(folder)
        _queue(folder, count)
        config = {
            "farm_node": str(farm_node),
            "seconds": seconds,
            "nodes": [node_to_json(node) for node in nodes],
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        stack.callback(_end_attempts, folder)
        done = subprocess.run(
            [sys.executable, "-m", "bench.holding", str(folder / "config.json")],
            cwd=REPOSITORY,
            env={**os.environ, **ALLOCATOR},  # as `farm dispatch` starts itself
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
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", "--count", type=int, default=COUNT)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    print(json.dumps(measure(options.count, options.seconds)))


if __name__ == "__main__":
    main()
