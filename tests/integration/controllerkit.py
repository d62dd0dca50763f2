"""A controller in a process of its own, to be killed: starts an attempt and polls it for ever.

python -m tests.integration.controllerkit NODE LAUNCH        (both pickled, in base64)
"""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from farm.executor import Launch
from farm.executor.ssh import SshExecutor
from farm.nodes import Node

REPOSITORY = Path(__file__).resolve().parents[2]


def spawn(node: Node, farm_node: str, launch: Launch) -> subprocess.Popen[bytes]:
    arguments = [_packed(item) for item in (node, farm_node, launch)]
    command = [sys.executable, "-m", "tests.integration.controllerkit", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY)


def main() -> None:
    node, farm_node, launch = (_unpacked(argument) for argument in sys.argv[1:])
    executor = SshExecutor(node, farm_node=farm_node)
    executor.start(launch)
    while True:
        executor.poll({launch.attempt_id: 0}, 0.1)


def _packed(item: object) -> str:
    return base64.b64encode(pickle.dumps(item)).decode()


def _unpacked(text: str) -> Any:  # noqa: ANN401  # whatever it was
    return pickle.loads(base64.b64decode(text))  # noqa: S301  # the test packed it


if __name__ == "__main__":
    main()
