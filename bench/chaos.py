"""Is anything lost or done twice while controllers, links, sshds and agents are killed? A large storm.

    python -m bench.chaos [--jobs JOBS] [--kills KILLS] [--seed SEED]

Short builds by the real farm-node over real sshds on the loopback address, for the real dispatcher in a
process of its own; see tests/integration/chaoskit.py for what is done to them and how it is counted. Needs
root. Prints one JSON object on stdout; exit code 1 if anything was lost, done twice, cut short or left.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.integration.chaoskit import Storm, storm_over

JOBS: Final = 1000
KILLS: Final = 100
NODES: Final = 4
SLOTS: Final = 4
# Far more than it takes: a storm that comes to no end is a fault, too.
LEAST_S: Final = 300.0
SECONDS_PER_JOB: Final = 3.0
SECONDS_PER_KILL: Final = 10.0


def measure(jobs: int = JOBS, kills: int = KILLS, seed: int = 1) -> dict[str, object]:
    """Let the storm go over a farm of its own; return what came of it, as counts and as the first faults."""
    limit_s = LEAST_S + jobs * SECONDS_PER_JOB + kills * SECONDS_PER_KILL
    storm = Storm(jobs=jobs, kills=kills, nodes=NODES, slots=SLOTS, seed=seed, limit_s=limit_s)
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder:
        outcome = storm_over(Path(folder), storm)
    return {
        "jobs": outcome.jobs,
        "kills": outcome.kills,
        "by_kind": outcome.by_kind,
        "lost": len(outcome.lost),
        "duplicated": len(outcome.duplicated),
        "incomplete_logs": len(outcome.incomplete_logs),
        "inconsistent": len(outcome.inconsistent),
        "left": len(outcome.left),
        "crashes": len(outcome.crashes),
        "begun_anew": outcome.again,
        "seconds": outcome.seconds,
        "seed": seed,
        "faults": outcome.faults[:10],
    }


def main() -> int:
    """Measure, and print the figures; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    figures = measure(options.jobs, options.kills, options.seed)
    print(json.dumps(figures))
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
