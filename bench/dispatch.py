"""What the dispatcher costs, and what it survives: overhead, chaos and connections in one run.

    python -m bench.dispatch [--json] [--jobs JOBS] [--kills KILLS] [--connections COUNT] [--seconds SECONDS]

Each part can be run by itself: bench.trivial, bench.chaos, bench.connections. Needs root (the sshds are those
of the tests) and, for 512 connections, about 10 GB of memory. The last line of stdout is one JSON object;
without --json, tables for people go before it. Exit code 1 if anything was lost or done twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import chaos, connections, trivial

LIVES: Final = 200


def measure(
    *,
    lives: int = LIVES,
    jobs: int = chaos.JOBS,
    kills: int = chaos.KILLS,
    count: int = connections.COUNT,
    seconds: float = connections.SECONDS,
) -> dict[str, object]:
    """Run the parts one after the other; each has the machine for itself."""
    overhead = trivial.measure(lives)
    return {
        "overhead_vs_controlmaster": overhead["life_to_control_master"],
        "overhead_vs_parallel": overhead.get("life_to_parallel"),
        # Why there is no ratio, where there is none.
        "overhead_vs_parallel_reason": overhead.get("parallel"),
        "overhead_ms": {name: value for name, value in overhead.items() if name.endswith("_ms")},
        "chaos": chaos.measure(jobs, kills),
        "connections": connections.measure(count, seconds),
    }


def tables(figures: Mapping[str, object]) -> list[Table]:
    """Return the figures for people."""
    overhead = Table(
        "overhead", "ratio", title="A job that does nothing, from its start until it is forgotten"
    )
    overhead.add_row("against ssh over a ControlMaster", str(figures["overhead_vs_controlmaster"]))
    beside = figures["overhead_vs_parallel"] or figures["overhead_vs_parallel_reason"]
    overhead.add_row("against GNU parallel", str(beside))
    found = [overhead]
    for name in ("chaos", "connections"):
        table = Table(name, "", title=name)
        part = figures[name]
        for key, value in part.items() if isinstance(part, dict) else ():
            table.add_row(key, str(value))
        found.append(table)
    return found


def main() -> int:
    """Measure, and print the figures; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object on stdout")
    parser.add_argument("--lives", type=int, default=LIVES, help="jobs that do nothing, for the overhead")
    parser.add_argument("--jobs", type=int, default=chaos.JOBS)
    parser.add_argument("--kills", type=int, default=chaos.KILLS)
    parser.add_argument("--connections", type=int, default=connections.COUNT)
    parser.add_argument("--seconds", type=float, default=connections.SECONDS)
    options = parser.parse_args()
    figures = measure(
        lives=options.lives,
        jobs=options.jobs,
        kills=options.kills,
        count=options.connections,
        seconds=options.seconds,
    )
    if not options.json:
        for table in tables(figures):
            Console().print(table)
    print(json.dumps(figures))
    storm = figures["chaos"]
    return 1 if isinstance(storm, dict) and storm["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
