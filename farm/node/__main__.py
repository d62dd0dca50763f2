#!/usr/bin/python3 -P
"""``farm-node``: runs builds on a board. Every sub-command prints one JSON object.

farm-node probe                          facts of this board
farm-node start JOB.ATTEMPT              claim and start; reads incoming/JOB.ATTEMPT.json
farm-node poll JOB.ATTEMPT:OFFSET ...    state of attempts and their logs from an offset (bytes)
farm-node cancel JOB.ATTEMPT             end the whole process group
farm-node forget JOB.ATTEMPT             remove it; the controller has the artifacts
farm-node calibrate                      how fast this board compiles; measured if it is not known
farm-node health                         what builds will miss here, though they run
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# Started by its path, under whatever name: the package is found beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from farm.node.files import Json

LOCAL_ENVIRONMENTS = Path("/opt/wheelfarm")


def main() -> int:
    """Run one sub-command and print its JSON object."""
    parser = argparse.ArgumentParser(prog="farm-node", description="runs the farm's builds on this board")
    parser.add_argument("--root", type=Path, default=Path("/var/lib/wheelfarm-node"))
    parser.add_argument("--environments", type=Path, default=LOCAL_ENVIRONMENTS, help="one folder a Python")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("probe", "calibrate", "health"):
        commands.add_parser(name)
    for name in ("start", "cancel", "forget", "supervise"):
        commands.add_parser(name).add_argument("attempt")
    commands.add_parser("poll").add_argument("attempts", nargs="*")
    options = parser.parse_args()
    if "/" in getattr(options, "attempt", "") or getattr(options, "attempt", "").startswith("."):
        parser.error(f"not an attempt's name: {options.attempt}")
    print(json.dumps(answer(options)))
    return 0


def answer(options: argparse.Namespace) -> Json:
    """Do what was asked; only what it needs is imported, because a board's Python starts slowly."""
    if options.command == "probe":
        from farm.node.facts import probe  # noqa: PLC0415

        return probe(options.root, options.environments)
    if options.command in {"calibrate", "health"}:
        from farm.node import calibrate  # noqa: PLC0415

        return calibrate.calibrate() if options.command == "calibrate" else calibrate.health()
    if options.command == "supervise":
        from farm.node.build import supervise  # noqa: PLC0415

        return supervise(options.root, options.attempt, options.environments)
    from farm.node import attempt  # noqa: PLC0415

    if options.command == "poll":
        return {"attempts": [attempt.poll(options.root, *item.rsplit(":", 1)) for item in options.attempts]}
    if options.command == "start":
        return attempt.start(options.root, options.attempt, options.environments)
    return {"cancel": attempt.cancel, "forget": attempt.forget}[options.command](
        options.root, options.attempt
    )


if __name__ == "__main__":
    sys.exit(main())
