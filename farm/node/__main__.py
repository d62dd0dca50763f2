#!/usr/bin/python3 -P
"""``farm-node``: runs builds on a board.

farm-node serve                  a controller's session: JSON lines in, JSON lines out, until its input ends
farm-node probe                  facts of this board, for people and for provisioning's health check
farm-node calibrate              how fast this board compiles; measured if it is not known
farm-node health                 what builds will miss here, though they run
farm-node supervise JOB.ATTEMPT  be the supervisor of an attempt that was made ready
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# Started by its path, under whatever name: the package is found beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LOCAL_ENVIRONMENTS = Path("/opt/wheelfarm")


def main() -> int:
    """Run one sub-command; only what it needs is imported, because a board's Python starts slowly."""
    parser = argparse.ArgumentParser(prog="farm-node", description="runs the farm's builds on this board")
    parser.add_argument("--root", type=Path, default=Path("/var/lib/wheelfarm-node"))
    parser.add_argument("--environments", type=Path, default=LOCAL_ENVIRONMENTS, help="one folder a Python")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("serve", "probe", "calibrate", "health"):
        commands.add_parser(name)
    commands.add_parser("supervise").add_argument("attempt")
    options = parser.parse_args()
    if options.command == "serve":
        from farm.node.serve import Agent  # noqa: PLC0415

        Agent(options.root, options.environments).serve(0, 1)
    elif options.command == "probe":
        from farm.node.facts import probe  # noqa: PLC0415

        print(json.dumps(probe(options.root, options.environments)))
    elif options.command in {"calibrate", "health"}:
        from farm.node import calibrate  # noqa: PLC0415

        measure = options.command == "calibrate"
        print(json.dumps(calibrate.calibrate() if measure else calibrate.health(options.root)))
    else:
        from farm.node.attempt import RefusedError, order_of  # noqa: PLC0415
        from farm.node.launch import in_place  # noqa: PLC0415

        try:
            return in_place(order_of(options.root, options.environments, options.attempt))
        except RefusedError as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
